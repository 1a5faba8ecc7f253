"""What ends a crawl, and what only delays it.

PinstreamError
└── CrawlFailed     the crawl is over; carries the reason and what to do
Refused             one request was not answered as it should be; retried, tried by the other way, or fatal
BrowserFailed       the browser or its page is gone
└── Silent          it is there and does not answer
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from playwright.async_api import Error
from playwright.async_api import TimeoutError as PlaywrightTimeout

from libs.common.errors import PinstreamError
from libs.common.messages import Reason

TIMED_OUT_S = 15.0  # for one request of the site; slower than any answer seen, and within 20 s for a page read
GRACE_S = 5.0  # for a browser that comes to its own timer late, or not at all
MOST_BYTES = 32 * 1024 * 1024  # of one answer; a page of 250 pins has about one and a half

_NET_ERROR = re.compile(r"net::(ERR_[A-Z0-9_]+)")
_MOVED = (
    *("Execution context was destroyed", "interrupted by another navigation", "frame was detached"),
    *("No resource with given identifier", "No data found for resource", "body is unavailable"),  # of a page left
)


class CrawlFailed(PinstreamError):
    """The crawl could not be carried to its end."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class Refused(Exception):
    """The site did not answer a request as it should.

    `transient` refusals are worth another try; `took_s` is what one more may take at worst. `held`: it was not asked at
    all, because it has refused others. `status` is the site's, where it says that it does not know the request.
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        transient: bool = False,
        retry_after_s: float | None = None,
        took_s: float = 0.0,
        held: bool = False,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.transient = transient
        self.retry_after_s = retry_after_s
        self.took_s = took_s
        self.held = held
        self.status = status

    @property
    def missing(self) -> bool:
        """Whether the site has nothing at that address."""
        return self.status in (404, 410)

    def final(self) -> Refused:
        """The same, after which no other try is of use."""
        return Refused(self.reason, self.message)


class BrowserFailed(Exception):
    """The browser, or its page, crashed or was closed."""


class Silent(BrowserFailed):
    """The page, the browser or its driver stands still."""


@asynccontextmanager
async def answering(within_s: float, what: str) -> AsyncGenerator[None, None]:
    """Within, the browser is asked something that it must answer in so long. Raises Silent."""
    try:
        async with asyncio.timeout(within_s):
            yield
    except TimeoutError as error:
        raise Silent(f"{what} does not answer") from error


def timed_out(what: str) -> Refused:
    """`what` was not finished in time."""
    message = f"{what} was not finished within {TIMED_OUT_S:g} s; try again later, or see whether the site is slow."
    return Refused(Reason.UNREACHABLE, message, transient=True, took_s=TIMED_OUT_S)


def too_long() -> Refused:
    """An answer that is longer than any that is wanted."""
    message = f"The site's answer is longer than {MOST_BYTES >> 20} MiB and was cut off; try again later."
    return Refused(Reason.UPSTREAM_CHANGED, message, transient=True)


def unreachable(why: str) -> Refused:
    """No answer came; `why` is Chromium's word for it, such as ERR_NAME_NOT_RESOLVED."""
    advice = "see whether SITE_URL is right and this machine reaches it"
    transient = True
    if "NAME_NOT_RESOLVED" in why:
        said, advice = "the name of the site could not be resolved", "see whether DNS works here and SITE_URL is right"
    elif "CERT" in why or "SSL" in why:
        said, advice = f"no trusted TLS connection ({why})", "name the authority that signed it in UPSTREAM_CA_FILE"
        transient = "CERT" not in why
    elif "PROXY" in why or "TUNNEL" in why:
        said, advice = f"the proxy did not let the request through ({why})", "see whether UPSTREAM_PROXY is right"
    elif "REFUSED" in why:
        said = "the connection was refused"
    else:
        said = f"the connection failed ({why})"
    return Refused(Reason.UNREACHABLE, f"The site could not be reached: {said}; {advice}.", transient=transient)


def from_playwright(error: Error, what: str) -> Refused | BrowserFailed:
    """What Playwright's error means."""
    if isinstance(error, PlaywrightTimeout):
        return timed_out(what)
    if match := _NET_ERROR.search(error.message):
        return unreachable(match[1])
    if any(sign in error.message for sign in _MOVED):
        return Refused(Reason.UNREACHABLE, "The site's page moved on by itself; try again later.", transient=True)
    return BrowserFailed(error.message.split("\n", 1)[0])
