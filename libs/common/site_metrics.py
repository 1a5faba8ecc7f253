"""What came of requests to the site and its CDN, for the metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from libs.common import metrics

# what panels and alerts ask for the rate of; other statuses begin when they come
BEGUN = ("200", "403", "429", "503", "timed_out", "failed")


def begun(*targets: str) -> None:
    """This process asks them; nothing has come yet."""
    metrics.at_zero(metrics.site_responses, target=targets, status=BEGUN)


class Asked:
    """A request; `status` is its answer's, or a word for what came instead."""

    def __init__(self) -> None:
        self.status: int | str | None = None


@contextmanager
def asked(target: str) -> Iterator[Asked]:
    """Around a request to `target`: feed, page, pins or cdn."""
    request = Asked()
    began = time.perf_counter()
    try:
        yield request
    except TimeoutError:
        request.status = request.status or "timed_out"
        raise
    except Exception:
        request.status = request.status or "failed"
        raise
    finally:  # one that its session has left has no status, and does not count
        if request.status is not None:
            counted(target, request.status)
            metrics.site_duration.record(time.perf_counter() - began, {"target": target})


def counted(target: str, status: int | str) -> None:
    """An answer whose time is not known."""
    metrics.site_responses.add(1, {"target": target, "status": str(status)})
