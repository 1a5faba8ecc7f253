"""Queries over the videos of a session: a range of keys, and the first or last of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from libs.common.errors import PinstreamError
from services.gateway.firebase.tree import VIDEOS, Path

KEY, PRIORITY = ".key", ".priority"
REST_INDEXES = {"$key": KEY, "$priority": PRIORITY}
RANGE = ("startAt", "startAfter", "endAt", "endBefore", "equalTo")
LIMITS = ("limitToFirst", "limitToLast")
MOST_LIMIT = 2**31 - 1


class QueryRefused(PinstreamError):
    """That query is not answered here; order by key."""


class Query(NamedTuple):
    """Keys from `start` to `end`, themselves included or not; of these the first `limit` or, if `last`, the last."""

    start: str | None = None
    start_included: bool = True
    end: str | None = None
    end_included: bool = True
    limit: int | None = None
    last: bool = False

    def admits(self, key: str) -> bool:
        """Whether `key` lies in the range."""
        after = self.start is None or key > self.start or (self.start_included and key == self.start)
        return after and (self.end is None or key < self.end or (self.end_included and key == self.end))

    def check(self, path: Path) -> None:
        """Raises QueryRefused where there is nothing to select from."""
        if self != ALL and path != (VIDEOS,):
            raise QueryRefused(f"queries are for /sessions/<id>/{VIDEOS}")


ALL = Query()


class Window:
    """The keys that a query selects, as they come in their order; those of the last few are kept."""

    def __init__(self, query: Query) -> None:
        self.query = query
        self.count = 0
        self.keys: deque[str] = deque()

    def take(self, key: str) -> tuple[bool, str | None]:
        """Whether `key` is in it, and which one is no longer."""
        query = self.query
        if not query.admits(key) or (not query.last and query.limit is not None and self.count >= query.limit):
            return False, None
        self.count += 1
        if not query.last or query.limit is None:
            return True, None
        self.keys.append(key)
        return True, self.keys.popleft() if len(self.keys) > query.limit else None


def query_of(given: Any) -> Query:
    """The query in a frame: `sp`, `sin`, `ep`, `ein`, `l`, `vf`, `i`. Raises QueryRefused."""
    if not given:
        return ALL
    if not isinstance(given, dict):
        raise QueryRefused("q is not an object")
    by_key = _by_key(given.get("i", PRIORITY))
    start, end = (given.get("sp"), given.get("ep")) if by_key else (_name(given, "s"), _name(given, "e"))
    limit = given.get("l")
    last = given.get("vf", "l" if "sp" in given else "r") == "r"
    start_included, end_included = given.get("sin", True) is True, given.get("ein", True) is True
    return _checked(Query(start, start_included, end, end_included, limit, last and limit is not None))


def _name(given: Mapping[str, Any], side: str) -> Any:
    """Where the order is by priority, which nothing here has: a range is one of keys among equals."""
    if given.get(f"{side}p") is not None:
        raise QueryRefused("there are no priorities here; order by key")
    return given.get(f"{side}n")


def query_in(parameters: Mapping[str, str]) -> Query:
    """The query in an address: `orderBy`, `startAt`, `limitToFirst` and the like, JSON each. Raises QueryRefused."""
    found = {name: _json(name, parameters[name]) for name in ("orderBy", *RANGE, *LIMITS) if name in parameters}
    if not found:
        return ALL
    if nothing := next((name for name, value in found.items() if value is None), None):
        raise QueryRefused(f"{nothing} must not be null")
    if "orderBy" not in found:
        raise QueryRefused("orderBy must be defined when other query parameters are defined")
    index = found.pop("orderBy")
    by_key = _by_key(REST_INDEXES.get(index, index) if isinstance(index, str) else index)
    if not by_key and found.keys() - set(LIMITS):
        raise QueryRefused("there are no priorities here; order by $key")
    if len(found.keys() & set(LIMITS)) > 1 or len(found.keys() & {"startAt", "startAfter", "equalTo"}) > 1:
        raise QueryRefused("these query parameters exclude each other")
    if len(found.keys() & {"endAt", "endBefore", "equalTo"}) > 1:
        raise QueryRefused("these query parameters exclude each other")
    equal = found.get("equalTo")
    return _checked(
        Query(
            start=found.get("startAt", found.get("startAfter", equal)),
            start_included="startAfter" not in found,
            end=found.get("endAt", found.get("endBefore", equal)),
            end_included="endBefore" not in found,
            limit=found.get("limitToFirst", found.get("limitToLast")),
            last="limitToLast" in found,
        )
    )


def _by_key(index: Any) -> bool:
    if index not in (KEY, PRIORITY):
        raise QueryRefused(f"ordering by {str(index)[:40]} is not done here; order by key")
    return bool(index == KEY)


def _json(name: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise QueryRefused(f"{name} must be valid JSON; a string has to stand in quotes") from error


def _checked(query: Query) -> Query:
    if any(bound is not None and not isinstance(bound, str) for bound in (query.start, query.end)):
        raise QueryRefused("a range of keys begins and ends with a string")
    limit = query.limit
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int) or not 0 < limit <= MOST_LIMIT):
        raise QueryRefused("a limit is a whole number of 1 or more")
    return query
