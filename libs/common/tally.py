"""What one kind of work has come to: how much was done, how long it took, what went wrong last."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from libs.common.errors import PinstreamError
from libs.common.redaction import anonymous

MOST_CHARACTERS = 300


class Failure(msgspec.Struct, frozen=True):
    """What went wrong, without secrets and without whose it was; `at` is seconds since 1970."""

    message: str
    at: float


def failure_of(error: BaseException, what: str = "") -> Failure:
    """A failure for others to see; `what` says in what."""
    said = str(error) if isinstance(error, PinstreamError) else f"{type(error).__name__}: {error}"
    return told(f"{what}: {said}" if what else said)


def told(message: str) -> Failure:
    """The same of a sentence."""
    line = " ".join(anonymous(message).split())
    if len(line) > MOST_CHARACTERS:
        line = line[: MOST_CHARACTERS - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return Failure(line, time.time())


class Tally:
    """Counts from the start of the process."""

    def __init__(self) -> None:
        self.done = 0  # failures included
        self.failures = 0
        self.busy = 0
        self.took_ns = 0  # of what is done
        self.last_failure: Failure | None = None

    @contextmanager
    def working(self, *expected: type[Exception]) -> Iterator[None]:
        """One piece of work. What it raises is a failure, unless it is `expected`; cancelled, it counts as not done."""
        self.busy += 1
        since = time.perf_counter_ns()
        try:
            yield
        except Exception as error:
            self.did(since)
            if not isinstance(error, expected):
                self.failed(error)
            raise
        else:
            self.did(since)
        finally:
            self.busy -= 1

    def did(self, since_ns: int) -> None:
        """A piece of work is done that was begun at `since_ns`, by `time.perf_counter_ns`."""
        self.done += 1
        self.took_ns += time.perf_counter_ns() - since_ns

    def failed(self, error: BaseException) -> None:
        """Something went wrong in the work, which may go on."""
        self.failures += 1
        self.last_failure = failure_of(error)
