"""What a client asks of its videos, checked: the field that is wrong and a sentence on it, or nothing."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import msgspec

from libs.common.frames import FilterParameters
from libs.common.messages import Filters

MOST_HEIGHT = 10_000
SCOPE = re.compile(r"[A-Za-z0-9_-]{1,64}")

Wrong = tuple[str, str]


def wrong_filter(given: FilterParameters | None) -> Wrong | None:
    """The first filter that cannot be kept, as `filters.<name>`."""
    if given is None:
        return None
    least, most = given.min_duration_s, given.max_duration_s
    wrong: list[tuple[bool, str, str]] = [
        (least is not None and least < 0, "min_duration_s", "must be 0 or more"),
        (most is not None and most <= 0, "max_duration_s", "must be more than 0"),
        (
            least is not None and most is not None and least > most,
            "min_duration_s",
            f"must not be more than max_duration_s, which is {most}",
        ),
        (
            given.min_height is not None and not 1 <= given.min_height <= MOST_HEIGHT,
            "min_height",
            f"must be from 1 to {MOST_HEIGHT}",
        ),
        (
            given.created_after is not None and moment(given.created_after) is None,
            "created_after",
            "must be a date such as 2026-01-31, or an ISO 8601 time",
        ),
    ]
    return next(((f"filters.{name}", sentence) for is_wrong, name, sentence in wrong if is_wrong), None)


def wrong_scope(*, new_only: bool, scope: str | None) -> Wrong | None:
    """What is wrong about the scope of a search."""
    if new_only and scope is None:
        return "scope", "is missing: new_only needs the name of what is new to whom, such as daily-glazes"
    if scope is not None and not new_only:
        return "scope", "has no meaning without new_only: true"
    if scope is not None and not SCOPE.fullmatch(scope):
        return "scope", "must be 1 to 64 letters, digits, _ or -"
    return None


def filters_of(given: FilterParameters | None) -> Filters | None:
    """The filters as the services hand them on, or None where none is set."""
    if given is None:
        return None
    created_after = moment(given.created_after) if given.created_after is not None else None
    filters = Filters(**{**msgspec.structs.asdict(given), "created_after": created_after})
    return None if filters == Filters() else filters


def moment(text: str) -> str | None:
    """A date (its first moment) or a time, in UTC where it names no zone, as ISO 8601 in UTC."""
    try:
        given = datetime.fromisoformat(text.strip())
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        return None
