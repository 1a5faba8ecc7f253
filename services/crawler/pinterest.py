"""All knowledge of the site: its pages, resources, headers, cursors and refusals."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import msgspec

from libs.common.messages import Reason
from services.crawler.envelope import Envelope, decoded, read_envelope
from services.crawler.failure import Refused
from services.crawler.value import rows, table, token

# Twice the site's own 25, and a first page that is still small; who wants more than that has asks for half as many
# pages. It never changes within a crawl: a cursor may count in pages.
PAGE_SIZE = 50
LARGE_PAGE_SIZE = 100
FEW_VIDEOS = 25  # that a page of PAGE_SIZE has, repeats and pictures left out
USUAL_PAGE_SIZE = 25
EMPTY_PAGES = 3  # in a row, with a live cursor, that are followed: seen in mid-stream
STALE_PAGES = 5  # in a row without a pin that is new: no search goes on like that
RETRY_AFTER_CAP_S = 60.0  # who asks for more is not waited for

TOO_LONG = (413, 414, 431)  # the status where an address is: a cursor grows with the depth of its page
LONGEST_WAIT_S = 30 * 86_400.0  # that a message tells of, whatever a site asks for

LOGIN_PAGE = "The site shows a login or consent page instead of results; try again later or from another network."

LOOP = "The site gave the same cursor twice, so that what comes after it cannot be read; try again later."
NOTHING_NEW = "The site went on giving pages without anything new and no end; try again later."
LOST_CURSOR = (
    "The site gave a page of results without the way to the next, so that it cannot be told whether there is more; "
    "try again later, or update this program."
)
LOST = "The site's answers have another shape, in which the way to the next page is lost; update this program."

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_WALL = re.compile(
    r"""<form[^>]*(action=["'][^"']*/(login|signup|consent)|data-test-id=["'](login|consent)-)|type=["']password["']""",
    re.IGNORECASE,
)
_END = ("-end-", "")
_EMBEDDED_NONE = re.compile(r'"(?:nextB|b)ookmark"\s*:\s*(?:null|"")')
_EMBEDDED_END = re.compile(r'"(?:nextB|b)ookmark"\s*:\s*"(?:-end-|Y2JOb25lO)')
_END_PREFIX = "Y2JOb25lO"  # base64 of `cbNone;`


class Asked(NamedTuple):
    """A request to a resource: a path on the site, and its headers."""

    path: str
    headers: dict[str, str]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came back, as the browser saw it; `error` is set where nothing whole did.

    `after` is the cursor that it was asked with, where that is known and it was not the first, `address` by which it
    was, where the site's page asked.
    """

    status: int = 0
    content_type: str | None = None
    retry_after: str | None = None
    body: str = ""
    after: str | None = None
    address: str = ""
    error: str | None = None
    timed_out: bool = False
    too_long: bool = False


def page_size(videos: int) -> int:
    """How many pins to ask for at a time by who wants so many videos."""
    return PAGE_SIZE if videos <= FEW_VIDEOS else LARGE_PAGE_SIZE


def resource(name: str, source: str, options: dict[str, Any], handler: str) -> Asked:
    """A request to the resource `name`, as the page at the path `source` makes it."""
    data = json.dumps({"options": options, "context": {}}, separators=(",", ":"))
    words = urlencode({"source_url": source, "data": data, "_": str(int(time.time() * 1000))}, quote_via=quote)
    headers = {
        "Accept": "application/json, text/javascript, */*, q=0.01",
        "X-Requested-With": "XMLHttpRequest",
        "X-Pinterest-AppState": "active",
        "X-Pinterest-Source-Url": source,
        "X-Pinterest-PWS-Handler": handler,
    }
    return Asked(f"/resource/{name}/get/?{words}", headers)


def ungated(url: str) -> str:
    """The same request for full pins: the logged-out page asks with `gated: true`, and gets stubs."""
    parts = urlsplit(url)
    words = [(key, _ungated(value) if key == "data" else value) for key, value in parse_qsl(parts.query, True)]
    return urlunsplit(parts._replace(query=urlencode(words, quote_via=quote)))


def ungated_form(body: str) -> str:
    """The same for a request that carries its options in a form."""
    words = [(key, _ungated(value) if key == "data" else value) for key, value in parse_qsl(body, True)]
    return urlencode(words, quote_via=quote)


def length_of(url: str) -> int:
    """Of its path and query, in characters."""
    parts = urlsplit(url)
    return len(parts.path) + len(parts.query) + 1


def as_form(url: str) -> tuple[str, str]:
    """The same request as an address without a query, and a form."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query="")), parts.query


def after(url: str, form: str | None) -> str | None:
    """The cursor that a request of the site's page carries, in its address or its form."""
    words = dict(parse_qsl(urlsplit(url).query)) | dict(parse_qsl(form or ""))
    try:
        bookmarks = rows(table(json.loads(words.get("data", "")), "options").get("bookmarks"))
    except (ValueError, RecursionError):
        return None
    return token(bookmarks[0]) if bookmarks else None


def _ungated(data: str) -> str:
    try:
        decoded = json.loads(data)
        if decoded["options"]["gated"] is not True:
            return data
        decoded["options"]["gated"] = False
    except (ValueError, TypeError, KeyError, RecursionError):
        return data
    return json.dumps(decoded, separators=(",", ":"))


def is_end(bookmark: str | None) -> bool:
    """Whether a cursor says that there is no more."""
    return bookmark is None or bookmark in _END or bookmark.startswith(_END_PREFIX)


def ends(html: str) -> bool:
    """Whether the results that a page carries in its HTML are all that there are."""
    return _EMBEDDED_END.search(html) is not None


def lacks_cursor(html: str) -> bool:
    """Whether the results that a page carries in its HTML come without a cursor."""
    return _EMBEDDED_NONE.search(html) is not None


def is_login(url: str) -> bool:
    """Whether the site led to its login page."""
    return urlsplit(url).path.startswith(("/login", "/signup"))


def is_wall(html: str) -> bool:
    """Whether a page that shows no results is one that asks for a login or for consent."""
    return _WALL.search(html) is not None


def envelope_in(answer: Answer, *, of_pins: bool = True) -> Envelope:
    """What a resource answered: entries, where it is `of_pins`. Raises Refused for all that is no such answer."""
    body = answer.body.lstrip("\ufeff \t\r\n")
    is_page = body.startswith("<") or (not body.startswith("{") and "html" in (answer.content_type or ""))
    if is_page and answer.status < 300:
        raise Refused(Reason.LOGIN_REQUIRED, LOGIN_PAGE)
    if refusal := refusal_by(answer.status, answer.retry_after, None):
        raise refusal
    try:
        document = decoded(body)
    except (ValueError, RecursionError) as error:
        message = f"The site's answer is not whole JSON ({error}); try again later, or update this program."
        raise Refused(Reason.UPSTREAM_CHANGED, message, transient=True) from error
    envelope = read_envelope(document)
    if envelope.status is not None and (refusal := refusal_by(envelope.status, answer.retry_after, envelope.complaint)):
        raise refusal
    if not envelope.understood and (of_pins or envelope.data is None):
        what = "; ".join(envelope.unknown) or envelope.complaint or "an unknown answer"
        message = f"The site's answer has a shape that is not known here ({what}); update this program."
        raise Refused(Reason.UPSTREAM_CHANGED, message)
    return envelope


def refusal_by(status: int, retry_after: str | None, complaint: str | None) -> Refused | None:
    """What a status means: nothing where it is a success."""
    said = f"HTTP {status}" + (f": {complaint[:80]}" if complaint else "")
    if status == 429:
        wait_s = seconds(retry_after)
        patient = wait_s is None or wait_s <= RETRY_AFTER_CAP_S
        advice = "try again later" if wait_s is None else f"try again in {wait_s:.0f} s"
        message = f"The site limits the rate of requests ({said}); {advice}, or lower REQUESTS_PER_SECOND."
        return Refused(Reason.RATE_LIMITED, message, transient=patient, retry_after_s=wait_s)
    if status == 401:
        return Refused(Reason.LOGIN_REQUIRED, f"The site asks for a login ({said}); only public pins can be read.")
    if status in (403, 451):
        message = f"The site refuses requests from here ({said}); wait some hours, or crawl from another network."
        return Refused(Reason.BLOCKED, message)
    if status >= 500 or status == 408:
        message = f"The site answers with an error of its own ({said}); try again later."
        wait_s = seconds(retry_after)
        return Refused(Reason.UNREACHABLE, message, transient=True, retry_after_s=wait_s)
    if status >= 400:
        message = f"The site does not know the request ({said}); update this program."
        return Refused(Reason.UPSTREAM_CHANGED, message, status=status)
    return None


def seconds(retry_after: str | None) -> float | None:
    """The seconds that a Retry-After header asks for, in either of its forms."""
    if not retry_after:
        return None
    text = retry_after.strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), LONGEST_WAIT_S)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return min(max((moment - datetime.now(UTC)).total_seconds(), 0.0), LONGEST_WAIT_S)
