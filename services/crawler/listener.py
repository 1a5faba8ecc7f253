"""Listening to a page through the DevTools protocol: what it asked for a listing, and what it was told."""

from __future__ import annotations

import asyncio
import time
from base64 import b64decode
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
import structlog
from playwright.async_api import CDPSession, Error

from libs.common.site_metrics import counted
from services.crawler.failure import (
    GRACE_S,
    MOST_BYTES,
    TIMED_OUT_S,
    Refused,
    answering,
    timed_out,
    too_long,
    unreachable,
)
from services.crawler.pinterest import Answer, after
from services.crawler.tab import Tab

_BUFFER = 64 * 1024 * 1024  # bytes of bodies that Chromium keeps for getResponseBody

log = structlog.get_logger()


class _Request(NamedTuple):
    at: float
    after: str | None
    address: str


class Listener:
    """`next` gives answers, to requests whose address is `wanted`, as they are complete; use as an async context."""

    def __init__(self, tab: Tab, wanted: Callable[[str], bool]) -> None:
        self._wanted = wanted
        self._tab = tab
        self._heard: asyncio.Queue[Answer | Refused] = asyncio.Queue()
        self._asked: dict[str, _Request] = {}  # by request id
        self._answers: dict[str, Answer] = {}
        self._bytes: dict[str, int] = {}
        self._reading: set[asyncio.Task[None]] = set()
        self._session: CDPSession | None = None
        self._held = 0
        self._frame = ""  # the page's own, not one within it
        self._loader = ""  # of the document that is open in it

    async def __aenter__(self) -> Listener:
        async with answering(TIMED_OUT_S, "the page"):
            self._session = await self._begun()
        return self

    async def _begun(self) -> CDPSession:
        session = await self._tab.context.new_cdp_session(self._tab.page)
        session.on("Page.frameNavigated", self._on_navigated)
        session.on("Network.requestWillBeSent", self._on_request)
        session.on("Network.responseReceived", self._on_response)
        session.on("Network.dataReceived", self._on_data)
        session.on("Network.loadingFinished", self._on_finished)
        session.on("Network.loadingFailed", self._on_failed)
        await session.send("Network.enable", {"maxTotalBufferSize": _BUFFER, "maxResourceBufferSize": _BUFFER})
        await session.send("Page.enable")
        frame = (await session.send("Page.getFrameTree"))["frameTree"]["frame"]
        self._frame, self._loader = frame["id"], frame["loaderId"]
        return session

    async def __aexit__(self, *_: object) -> None:
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        if self._session is not None:
            try:
                async with asyncio.timeout(GRACE_S):
                    await self._session.detach()
            except (Error, TimeoutError) as error:
                log.debug("the page was gone before its listener", why=str(error))

    async def next(self, patience_s: float) -> Answer | None:
        """The next answer; nothing where the page asked for none in so long. Raises Refused."""
        while True:
            try:
                async with asyncio.timeout(patience_s):
                    heard = await self._heard.get()
            except TimeoutError:
                if not self._asked and not self._reading:
                    return None
                if self._asked and not self._held and time.monotonic() - self._oldest() > TIMED_OUT_S:
                    self._asked.clear()
                    raise timed_out("A request of the site's page") from None
                continue
            if isinstance(heard, Refused):
                raise heard
            return heard

    @contextmanager
    def held(self) -> Iterator[None]:
        """While a request of the page waits for its turn, the site is not late."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            now = time.monotonic()
            self._asked = {id_: request._replace(at=now) for id_, request in self._asked.items()}

    def _oldest(self) -> float:
        return min(request.at for request in self._asked.values())

    def refused(self, refusal: Refused) -> None:
        """A request of the page may not go; `next` raises this."""
        self._heard.put_nowait(refusal)

    def forget(self) -> None:
        """Drops what a page said that is no longer open."""
        for task in self._reading:
            task.cancel()
        self._asked.clear()
        self._answers.clear()
        self._bytes.clear()
        while not self._heard.empty():
            self._heard.get_nowait()

    def _on_navigated(self, event: dict[str, Any]) -> None:
        """Another document is there: what the one before still asks for can no longer be read."""
        frame = event["frame"]
        if frame["id"] == self._frame:
            self._loader = frame["loaderId"]
            self.forget()

    def _on_request(self, event: dict[str, Any]) -> None:
        request = event["request"]
        if event["loaderId"] != self._loader:
            return
        if event.get("type") in ("XHR", "Fetch") and self._wanted(request["url"]):
            cursor = after(request["url"], request.get("postData"))
            self._asked[event["requestId"]] = _Request(time.monotonic(), cursor, request["url"])

    def _on_response(self, event: dict[str, Any]) -> None:
        if (request := self._asked.get(event["requestId"])) is None:
            return
        response = event["response"]
        counted("feed", response["status"])
        headers = {name.lower(): value for name, value in response["headers"].items()}
        self._answers[event["requestId"]] = Answer(
            status=response["status"],
            content_type=response.get("mimeType"),
            retry_after=headers.get("retry-after"),
            after=request.after,
            address=request.address,
        )

    def _on_data(self, event: dict[str, Any]) -> None:
        request = event["requestId"]
        if request not in self._asked:
            return
        self._bytes[request] = self._bytes.get(request, 0) + event["dataLength"]
        if self._bytes[request] > MOST_BYTES:
            self._asked.pop(request)
            self._heard.put_nowait(too_long())
            self._start(self._stop_loading())

    def _on_finished(self, event: dict[str, Any]) -> None:
        request = event["requestId"]
        if self._asked.pop(request, None) is None:
            return
        self._start(self._read(request, self._answers.pop(request, Answer())))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="response body")
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    async def _stop_loading(self) -> None:
        assert self._session is not None
        try:
            async with asyncio.timeout(TIMED_OUT_S):
                await self._session.send("Page.stopLoading")
        except (Error, TimeoutError) as error:
            log.debug("an answer without an end goes on with its page", why=str(error))

    def _on_failed(self, event: dict[str, Any]) -> None:
        if self._asked.pop(event["requestId"], None) is not None and not event.get("canceled"):
            self._answers.pop(event["requestId"], None)
            why = str(event.get("errorText", "")).removeprefix("net::")
            if "BLOCKED_BY_CLIENT" not in why:  # `refused` has told of that
                self._heard.put_nowait(unreachable(why))

    async def _read(self, request: str, answer: Answer) -> None:
        assert self._session is not None
        try:
            async with asyncio.timeout(TIMED_OUT_S):
                got = await self._session.send("Network.getResponseBody", {"requestId": request})
        except (Error, TimeoutError) as error:
            log.info("an answer of the page could not be read", why=str(error))
            refused = answer.status >= 400  # whatever it said besides
            self._heard.put_nowait(answer if refused else unreachable("the answer was lost"))
            return
        body = got["body"]
        if got.get("base64Encoded"):
            body = b64decode(body).decode("utf-8", "replace")
        self._heard.put_nowait(msgspec.structs.replace(answer, body=body))
