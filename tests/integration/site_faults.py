"""What is promised for each fault of the site: the outcome by way of reading, and the longest that it takes.

docs/crawling.md holds the same table; `test_site_faults.py` compares the two, and holds the crawler to it.
"""

from __future__ import annotations

from msgspec import Struct

from libs.common.messages import Reason

COMPLETE = "complete"


class Promise(Struct, frozen=True):
    """What comes of a fault that lasts, in the feed alone and in the page alone; `once` that it costs no video once.

    `bound_s` is the longest for one crawl of the stand-in beyond the time of an undisturbed one, on a free machine.
    """

    fault: str
    meaning: str
    feed: str
    page: str
    once: bool
    bound_s: int


def _of(reason: Reason) -> str:
    return str(reason)


_LIMITED, _UNREACHABLE, _CHANGED = map(_of, (Reason.RATE_LIMITED, Reason.UNREACHABLE, Reason.UPSTREAM_CHANGED))
_BLOCKED, _LOGIN = _of(Reason.BLOCKED), _of(Reason.LOGIN_REQUIRED)

PROMISES = (
    Promise("rate_limited", "429 with `Retry-After`", _LIMITED, _LIMITED, True, 70),
    Promise("rate_limited_date", "429, `Retry-After` a date", _LIMITED, _LIMITED, True, 70),
    Promise("rate_limited_zero", "429, `Retry-After: 0`", _LIMITED, _LIMITED, True, 70),
    Promise("rate_limited_bare", "429 without it", _LIMITED, _LIMITED, True, 70),
    Promise("rate_limited_long", "429, `Retry-After` above a minute", _LIMITED, _LIMITED, False, 10),
    Promise("error_in_200", "429 in the JSON of a 200", _LIMITED, _LIMITED, True, 70),
    Promise("e500", "500", _UNREACHABLE, _UNREACHABLE, True, 40),
    Promise("e502", "502", _UNREACHABLE, _UNREACHABLE, True, 40),
    Promise("e503", "503", _UNREACHABLE, _UNREACHABLE, True, 40),
    Promise("e503_retry_after", "503 with `Retry-After`", _UNREACHABLE, _UNREACHABLE, True, 40),
    Promise("failure_in_200", "`status: failure` in the JSON of a 200", _UNREACHABLE, _UNREACHABLE, True, 40),
    Promise("forbidden", "403", _BLOCKED, _BLOCKED, False, 10),
    Promise("unauthorized", "401", _LOGIN, _LOGIN, False, 10),
    Promise("missing", "404", _CHANGED, _CHANGED, False, 10),
    Promise("login_wall", "HTML with 200, a login", _LOGIN, _LOGIN, False, 10),
    Promise("consent_wall", "HTML with 200, a consent", _LOGIN, _LOGIN, False, 10),
    Promise("login_redirect", "302 to the login page", _LOGIN, _LOGIN, False, 10),
    Promise("truncated", "JSON that breaks off", _CHANGED, _CHANGED, True, 40),
    Promise("cut", "a connection cut in mid-body", _UNREACHABLE, _UNREACHABLE, True, 40),
    Promise("hang", "a body that never ends, and stands still", _UNREACHABLE, _UNREACHABLE, True, 90),
    Promise("endless", "a body that never ends, and goes on", _CHANGED, _CHANGED, True, 90),
    Promise("country_host", "302 to a host that is not on the list", _UNREACHABLE, _UNREACHABLE, True, 40),
    Promise("moved", "302 to another path", COMPLETE, COMPLETE, True, 10),
    Promise("bom", "a byte order mark", COMPLETE, COMPLETE, True, 10),
    Promise("gzip", "a compressed body", COMPLETE, COMPLETE, True, 10),
    Promise("huge", "a body of 6 MB", COMPLETE, COMPLETE, True, 20),
    Promise("nulls", "`null` among the results", COMPLETE, COMPLETE, True, 10),
    Promise("stories", "`story` modules", COMPLETE, COMPLETE, True, 10),
    Promise("repeats", "pins that come again", COMPLETE, COMPLETE, True, 10),
    Promise("empty_page", "an empty page with a live cursor", _CHANGED, _CHANGED, True, 60),
    Promise("loop", "the same cursor again", _CHANGED, _CHANGED, True, 60),
    Promise("no_cursor", "a page without a cursor that is not the last", _CHANGED, _CHANGED, True, 20),
    Promise("bookmark_list", "the cursor in a list", COMPLETE, COMPLETE, True, 20),
    Promise("bookmark_renamed", "the cursor under another name", COMPLETE, _CHANGED, True, 60),
    Promise("stubs", "pictures without their videos (`gated`)", COMPLETE, COMPLETE, True, 20),
    Promise("renamed_field", "video fields under other names", COMPLETE, COMPLETE, True, 10),
    Promise("changed_envelope", "another envelope", COMPLETE, _CHANGED, True, 60),
)


def as_markdown(promise: Promise) -> str:
    """Its row of the table in docs/crawling.md."""
    ways = (f"`{outcome}`" if outcome != COMPLETE else "every video" for outcome in (promise.feed, promise.page))
    once = "costs nothing" if promise.once else "ends it"
    return f"| {promise.meaning} | {once} | {' | '.join(ways)} | {promise.bound_s} |"
