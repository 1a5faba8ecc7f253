"""What is promised for each fault of the site: the outcome by way of reading, and the longest that it takes.

docs/crawling.md holds the same table; `test_site_faults.py` compares the two, and holds the crawler to it.
"""

from __future__ import annotations

from msgspec import Struct

from libs.common.messages import Reason

COMPLETE = "complete"
MOST_TRIED = 3  # strikes in a row, at most, that the matrix tries


class Promise(Struct, frozen=True):
    """What comes of a fault that lasts, in the feed alone and in the page alone; `borne` strikes cost no video.

    The bounds are for one crawl of the stand-in beyond the time of an undisturbed one, on a free machine.
    """

    fault: str
    meaning: str
    feed: str
    page: str
    borne: int
    feed_s: int
    page_s: int


def _of(reason: Reason) -> str:
    return str(reason)


_LIMITED, _UNREACHABLE, _CHANGED = map(_of, (Reason.RATE_LIMITED, Reason.UNREACHABLE, Reason.UPSTREAM_CHANGED))
_BLOCKED, _LOGIN = _of(Reason.BLOCKED), _of(Reason.LOGIN_REQUIRED)

PROMISES = (
    Promise("rate_limited", "429 with `Retry-After`", _LIMITED, _LIMITED, 3, 70, 90),
    Promise("rate_limited_date", "429, `Retry-After` a date", _LIMITED, _LIMITED, 3, 70, 90),
    Promise("rate_limited_zero", "429, `Retry-After: 0`", _LIMITED, _LIMITED, 3, 70, 90),
    Promise("rate_limited_bare", "429 without it", _LIMITED, _LIMITED, 3, 70, 90),
    Promise("rate_limited_long", "429, `Retry-After` above a minute", _LIMITED, _LIMITED, 0, 10, 20),
    Promise("error_in_200", "429 in the JSON of a 200", _LIMITED, _LIMITED, 3, 70, 90),
    Promise("e500", "500", _UNREACHABLE, _UNREACHABLE, 3, 15, 75),
    Promise("e502", "502", _UNREACHABLE, _UNREACHABLE, 3, 15, 75),
    Promise("e503", "503", _UNREACHABLE, _UNREACHABLE, 3, 15, 75),
    Promise("e503_retry_after", "503 with `Retry-After`", _UNREACHABLE, _UNREACHABLE, 3, 15, 75),
    Promise("failure_in_200", "`status: failure` in the JSON of a 200", _UNREACHABLE, _UNREACHABLE, 3, 15, 75),
    Promise("forbidden", "403", _BLOCKED, _BLOCKED, 0, 10, 20),
    Promise("unauthorized", "401", _LOGIN, _LOGIN, 0, 10, 20),
    Promise("missing", "404", _CHANGED, _CHANGED, 0, 10, 20),
    Promise("login_wall", "HTML with 200, a login", _LOGIN, _LOGIN, 0, 10, 20),
    Promise("consent_wall", "HTML with 200, a consent", _LOGIN, _LOGIN, 0, 10, 20),
    Promise("login_redirect", "302 to the login page", _LOGIN, _LOGIN, 0, 10, 20),
    Promise("truncated", "JSON that breaks off", _CHANGED, _CHANGED, 3, 15, 75),
    Promise("cut", "a connection cut in mid-body", _UNREACHABLE, _UNREACHABLE, 3, 15, 75),
    Promise("hang", "a body that never ends, and stands still", _UNREACHABLE, _UNREACHABLE, 2, 60, 90),
    Promise("endless", "a body that never ends, and goes on", _CHANGED, _CHANGED, 3, 30, 90),
    Promise("country_host", "302 to a host that is not on the list", _UNREACHABLE, _UNREACHABLE, 3, 15, 75),
    Promise("moved", "302 to another path", COMPLETE, COMPLETE, 3, 10, 20),
    Promise("bom", "a byte order mark", COMPLETE, COMPLETE, 3, 10, 20),
    Promise("gzip", "a compressed body", COMPLETE, COMPLETE, 3, 10, 20),
    Promise("huge", "a body of 6 MB", COMPLETE, COMPLETE, 3, 20, 40),
    Promise("nulls", "`null` among the results", COMPLETE, COMPLETE, 3, 10, 20),
    Promise("stories", "`story` modules", COMPLETE, COMPLETE, 3, 10, 20),
    Promise("repeats", "pins that come again", COMPLETE, COMPLETE, 3, 10, 20),
    Promise("empty_page", "an empty page with a live cursor", _CHANGED, _CHANGED, 3, 20, 90),
    Promise("loop", "the same cursor again", _CHANGED, _CHANGED, 1, 10, 90),
    Promise("no_cursor", "a page without a cursor that is not the last", _CHANGED, _CHANGED, 2, 10, 75),
    Promise("bookmark_list", "the cursor in a list", COMPLETE, _CHANGED, 3, 10, 90),
    Promise("bookmark_renamed", "the cursor under another name", COMPLETE, _CHANGED, 3, 20, 90),
    Promise("stubs", "pictures without their videos (`gated`)", COMPLETE, COMPLETE, 3, 20, 40),
    Promise("renamed_field", "video fields under other names", COMPLETE, COMPLETE, 3, 10, 20),
    Promise("changed_envelope", "another envelope", COMPLETE, _CHANGED, 3, 20, 90),
)


def as_markdown(promise: Promise) -> str:
    """Its row of the table in docs/crawling.md."""
    ways = (f"`{outcome}`" if outcome != COMPLETE else "every video" for outcome in (promise.feed, promise.page))
    borne = {0: "no", 1: "once", 2: "twice"}.get(promise.borne, "thrice")
    return f"| {promise.meaning} | {borne} | {' | '.join(ways)} | {promise.feed_s} | {promise.page_s} |"
