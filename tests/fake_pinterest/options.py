"""What a query asks of the stand-in besides its topic: words of the form `key:value`."""

from __future__ import annotations

import re
from dataclasses import dataclass

RESPONSE_FAULTS = (
    "rate_limited",
    "rate_limited_bare",
    "e500",
    "e502",
    "e503",
    "forbidden",
    "login_wall",
    "consent_wall",
    "truncated",
    "cut",
    "hang",
    "rate_limited_date",
    "rate_limited_zero",
    "rate_limited_long",
    "e503_retry_after",
    "unauthorized",
    "missing",
    "error_in_200",
    "failure_in_200",
    "login_redirect",
    "moved",
    "country_host",
    "bom",
    "gzip",
    "huge",
    "endless",
)
DATA_FAULTS = (
    "nulls",
    "stories",
    "empty_page",
    "loop",
    "no_cursor",
    "stubs",
    "renamed_field",
    "changed_envelope",
    "repeats",
    "bookmark_list",
    "bookmark_renamed",
)
PAGE_FAULTS = (
    "blank",
    "spin",
    "reload",
    "login_script",
    "lead_script",
    "lead_meta",
    "lead_302",
)  # of the HTML page alone
CDN_FAULTS = ("cdn_slow", "cdn_down", "cdn_head_forbidden")
FAULTS = RESPONSE_FAULTS + DATA_FAULTS + PAGE_FAULTS + CDN_FAULTS

PLACES = ("first", "middle", "last", "page", "pin", "lookup")  # page: the HTML; lookup: of a board, a section, a user

MOST_PINS = 16_000  # a pin's number has 14 bits in its id
_OPTION = re.compile(r"([a-z]+):(\S+)")


class BadOption(ValueError):
    """A word of the query looks like an option and is none; the text says what would be."""


@dataclass(frozen=True, slots=True)
class Options:
    topic: str = ""
    pins: int = 120
    seed: str = ""
    fault: str | None = None
    at: str = "middle"  # first, middle, last, the number of a page, or one of PLACES
    of: str = "self"  # related: not this list, but those beside its pins have the fault
    times: int | None = 1  # None: for ever
    end: str | None = None
    latency_ms: int | None = None
    gated: str = "asked"
    size: int | None = None
    scope: str = "asked"
    embedded: bool = False
    uri: int | None = None  # longest path and query of a GET
    mix: str | None = None
    sections: str = "asked"  # apart: a board's own list never has the pins of its sections
    bare: int = 0
    named: bool = False  # of a story's videos the signatures alone
    hostile: int | None = None  # the port of a trap that the search page tries to reach


def parse_options(query: str) -> Options:
    """The options and the topic of a query; raises BadOption with a sentence for the client."""
    topic: list[str] = []
    values: dict[str, object] = {}
    for word in query.split():
        match = _OPTION.fullmatch(word)
        if match is None:
            topic.append(word)
            continue
        key, value = match.groups()
        name, parsed = _option(key, value)
        values[name] = parsed
    return Options(topic=" ".join(topic), **values)  # type: ignore[arg-type]


def _option(key: str, value: str) -> tuple[str, object]:
    match key:
        case "pins":
            return "pins", _number(key, value, 0, MOST_PINS)
        case "seed":
            return "seed", value
        case "fault":
            return "fault", _one_of(key, value, FAULTS)
        case "at":
            if value.isdigit():
                return "at", str(_number(key, value, 1, MOST_PINS))
            return "at", _one_of(key, value, PLACES)
        case "of":
            return "of", _one_of(key, value, ("self", "related"))
        case "times":
            return "times", None if value == "always" else _number(key, value, 1, 1_000_000)
        case "end":
            return "end", _one_of(key, value, ("dash", "none", "y2j", "empty"))
        case "latency":
            return "latency_ms", _number(key, value, 0, 60_000)
        case "gated":
            return "gated", _one_of(key, value, ("asked", "always", "never"))
        case "size":
            return "size", _number(key, value, 1, 250)
        case "scope":
            return "scope", _one_of(key, value, ("asked", "videos"))
        case "uri":
            return "uri", _number(key, value, 100, 1_000_000)
        case "embedded":
            return "embedded", _one_of(key, value, ("yes", "no")) == "yes"
        case "mix":
            return "mix", _one_of(key, value, ("videos", "pins", "pictures"))
        case "sections":
            return "sections", _one_of(key, value, ("asked", "apart"))
        case "bare":
            return "bare", _number(key, value, 1, MOST_PINS)
        case "stories":
            return "named", _one_of(key, value, ("whole", "named")) == "named"
        case "hostile":
            return "hostile", _number(key, value, 1, 65_535)
    known = (
        "pins, seed, fault, at, of, times, end, latency, gated, size, scope, embedded, uri, mix, sections, bare, "
        "stories, hostile"
    )
    raise BadOption(f"The stand-in knows no option {key!r}. It knows: {known}.")


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise BadOption(f"{key}:{value} is not known to the stand-in. It knows: {', '.join(allowed)}.")
    return value


def _number(key: str, value: str, least: int, most: int) -> int:
    if not value.isdigit() or not least <= int(value) <= most:
        raise BadOption(f"{key}:{value} is not a whole number from {least} to {most}.")
    return int(value)
