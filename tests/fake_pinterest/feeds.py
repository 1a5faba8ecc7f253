"""Every list of pins that the site has, by the address at which it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

from .catalogue import Pin, pin_ids, read_pin
from .options import Options, parse_options
from .pin_ids import decode_pin_id
from .signatures import MOODS, number

MODULE = "module"  # a place in a feed that holds a `story` module and no pin
SECTIONS = ("first-firing", "second-firing")
RESERVED = frozenset(
    [
        "pin",
        "search",
        "ideas",
        "today",
        "settings",
        "business",
        "news_hub",
        "categories",
        "topics",
        "discover",
        "login",
        "signup",
        "about",
        "_",
    ]
)
GONE = ("nobody", "gone")  # the username and the slug that do not exist
GHOST = "ghost"  # does not exist either, and its lists are empty instead of missing
_FIRST_BOARD = 10**17


@dataclass(frozen=True, slots=True)
class Feed:
    key: str  # what a fault is counted by
    tag: int
    mood: int
    pins: int
    mix: str
    topic: str
    options: Options = field(default_factory=Options)
    part: int | None = None  # of a board: 0 the pins in no section, 1 and 2 a section's; None: all

    @property
    def board_id(self) -> str:
        return str(_FIRST_BOARD + ((self.mood << 24 | self.tag) << 14 | self.pins) * 4 + (self.part or 0))

    def entries(self) -> tuple[str, ...]:
        return _entries(self.tag, self.mood, self.pins, self.mix, self.part)

    def catalogue(self) -> Iterator[Pin]:
        for entry in self.entries():
            if entry != MODULE and (pin := read_pin(entry)):
                yield pin


@lru_cache(maxsize=256)
def _entries(tag: int, mood: int, pins: int, mix: str, part: int | None) -> tuple[str, ...]:
    ids = pin_ids(tag, mood, pins, mix)
    if part is not None:
        return tuple(pin for ordinal, pin in enumerate(ids) if _section_of(ordinal) == part)
    if tag % 2:
        return ids
    every = 23  # a module in most pages of 25
    return tuple(entry for n, pin in enumerate(ids, 1) for entry in ((pin, MODULE) if n % every == 0 else (pin,)))


def _section_of(ordinal: int) -> int:
    return (0, 0, 1, 0, 2)[ordinal % 5]


def search_feed(query: str, scope: str = "videos") -> Feed:
    """The feed of a search; raises options.BadOption."""
    options = parse_options(query)
    mix = "videos" if "videos" in (scope, options.scope) else "pins"
    return _feed(f"search {query}", f"search {options.topic.lower()}", options, options.pins, mix)


def board_feed(username: str, slug: str) -> Feed | None:
    """A board's whole feed. Every name has its board, but for two; options follow the slug: `glazes--pins-300`."""
    if username in (*RESERVED, GONE[0]) or slug == GONE[1]:
        return None
    options = _options_in(slug, pins=60)
    feed = _feed(f"board {username}/{slug}", f"board {username}/{slug}", options, options.pins, "videos")
    return replace(feed, tag=feed.tag | 1)  # odd: no modules


def section_feed(username: str, slug: str, section: str) -> Feed | None:
    feed = board_feed(username, slug)
    if feed is None or section not in SECTIONS:
        return None
    return replace(feed, key=f"{feed.key}/{section}", part=SECTIONS.index(section) + 1)


def user_feed(username: str, kind: str) -> Feed | None:
    """`kind` is `saved` or `created`."""
    if username in (*RESERVED, GONE[0]):
        return None
    usual = 0 if username == GHOST else 80 if kind == "saved" else 40
    options = _options_in(username, pins=usual)
    return _feed(f"user {username} {kind}", f"user {username} {kind}", options, options.pins, "videos")


def related_feed(pin_id: str, of: Feed | None = None) -> Feed | None:
    """The pins beside a pin; `of` is the list that it was met in, which may say what goes wrong."""
    if read_pin(pin_id) is None:
        return None
    options = Options(topic="related ideas")
    feed = _feed(f"related {pin_id}", f"related {pin_id}", options, 50, "videos")
    if of is None or of.options.of != "related":
        return feed
    return replace(feed, options=replace(options, fault=of.options.fault, at=of.options.at, times=of.options.times))


def is_related_by_modules_alone(pin_id: str) -> bool:
    ids = decode_pin_id(pin_id)
    return ids is not None and ids.ordinal % 4 == 3


def feed_of_board(board_id: str) -> Feed | None:
    """The feed behind the id of a board or a section, as far as the id tells it: without its faults."""
    if not board_id.isdecimal() or int(board_id) < _FIRST_BOARD:
        return None
    value = int(board_id) - _FIRST_BOARD
    value, part = value >> 2, value & 3
    pins, tag, mood = value & 0x3FFF, value >> 14 & 0xFFFFFF, value >> 38
    if mood >= len(MOODS) or not tag % 2 or part > len(SECTIONS):
        return None
    return Feed(f"board {board_id}", tag, mood, pins, "videos", "a board", part=part or None)


def tag_of(pin_id: str) -> int | None:
    ids = decode_pin_id(pin_id)
    return ids.tag if ids else None


def _feed(key: str, identity: str, options: Options, pins: int, mix: str) -> Feed:
    mix = options.mix or mix
    tag = number("feed", identity, options.seed, pins, mix) & 0xFFFFFF
    mood = ""
    if options.fault in MOODS:
        mood = options.fault
        if mood == "cdn_down" and options.times is not None:
            mood = "cdn_down_once"
    return Feed(key, tag, MOODS.index(mood), pins, mix, options.topic, options)


def _options_in(slug: str, pins: int) -> Options:
    name, *words = slug.split("--")
    given = [word.replace("-", ":", 1) for word in words]
    if not any(word.startswith("pins:") for word in given):
        given.append(f"pins:{pins}")
    return parse_options(" ".join([name.replace("-", " "), *given]))
