"""The client library: searches as asynchronous iterators over typed results.

async for video in Client("ws://127.0.0.1:8080/ws").search("ceramic glaze", limit=50):
    print(video.url)

A board, a user, a pin or a short link instead of a topic: `.search(url="https://www.pinterest.com/mia/glazes/")`.

With several gateways, `Client("ws://a/ws,ws://b/ws")`: where one is lost, the session goes on at the next.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, Self

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from libs.client.errors import GatewayUnreachable, RequestRefused, SearchFailed
from libs.common.frames import (
    DEFAULT_RESULT_LIMIT,
    SUBPROTOCOL,
    SUBPROTOCOL_TROUBLE,
    Accepted,
    AnyFrame,
    Completed,
    ErrorCode,
    ErrorFrame,
    Progress,
    VideoFrame,
    decode_frame,
)
from libs.common.messages import Filters, Video

FOR_GOOD_CODES = range(4500, 5000)  # 4000 to 4499 come back, as do the standard codes
OPENINGS = 2  # times that a search is asked for before `accepted` was heard: each may have begun a session
OPEN_S = 10.0
RETRY_FIRST_S, RETRY_MOST_S = 0.1, 5.0
WAIT_MOST_S = 30.0  # of what a gateway asks to wait
STEADY_S = 5.0  # a connection that stood this long was one, though nothing may have come over it


class Client:
    """The gateways at `urls`, such as ws://127.0.0.1:8080/ws: one, several with commas between them, or a sequence.

    A lost connection is made again, at the next address, for up to `reconnect_timeout_s`, and the session resumed after
    the last sequence. `api_key`, or a JWT in its place, says who asks. A session that is held up, because nothing can
    be stored now, is waited for as long as `unavailable_timeout_s`, by default as long as a session may take.
    """

    def __init__(
        self,
        urls: str | Sequence[str],
        *,
        api_key: str | None = None,
        reconnect_timeout_s: float = 60.0,
        unavailable_timeout_s: float = 600.0,
    ) -> None:
        parts = urls.split(",") if isinstance(urls, str) else urls
        self.urls = tuple(part.strip() for part in parts if part.strip())
        if not self.urls:
            raise ValueError("a client needs the address of a gateway")
        self.api_key = api_key
        self.reconnect_timeout_s = reconnect_timeout_s
        self.unavailable_timeout_s = unavailable_timeout_s

    def search(
        self,
        query: str | None = None,
        *,
        url: str | None = None,
        limit: int = DEFAULT_RESULT_LIMIT,
        filters: Filters | None = None,
        new_only: str | None = None,
        callback_url: str | None = None,
    ) -> Search:
        """Up to `limit` distinct videos on `query`, or at the address `url` of the site, as they are found.

        `url` is that of a search, a board, a section of one, a user, a pin, the pins beside one (`…/pin/1/#related`) or
        a short link. Exactly one of the two is given. All videos are what `filters` ask for. `new_only` names a scope,
        such as daily-glazes: only what no search of that scope has given in the last 30 days. What is found is also
        posted to `callback_url`, by the gateways, whether this client stays or not, unless it leaves the iteration.
        """
        if (query is None) == (url is None):
            raise TypeError("search() takes a topic or a url, and not both")
        asked = {"search_query": query} if url is None else {"url": url}
        parameters: dict[str, Any] = {**asked, "result_limit": limit}
        if filters is not None:
            parameters["filters"] = msgspec.to_builtins(filters)
        if new_only is not None:
            parameters |= {"new_only": True, "scope": new_only}
        if callback_url is not None:
            parameters["callback_url"] = callback_url
        return Search(self, {"operation": "initiate_extraction", "parameters": parameters})

    def follow(self, session_id: str, *, after: int = 0) -> Search:
        """The videos of a session that exists, from the sequence after `after` on."""
        search = Search(self, None)
        search.session_id, search.sequence = session_id, after
        return search

    async def cancel(self, session_id: str) -> None:
        """Ends a session; returns when it is complete.

        Raises RequestRefused where there is none of that id, GatewayUnreachable where it could not be ended in time.
        """
        route = _Route(self)
        while True:
            connection = await route.connect()
            try:
                await connection.send(_operation("cancel_extraction", session_id=session_id))
                async for text in connection:
                    frame = _frame(text)
                    if isinstance(frame, Completed) and frame.session_id == session_id:
                        return
                    if isinstance(frame, ErrorFrame):
                        if not _passing(frame):
                            raise RequestRefused(frame.code, frame.message, frame.field)
                        route.lost(frame.message)
                        await asyncio.sleep(frame.retry_after_s or RETRY_FIRST_S)
                        break
                else:
                    route.lost("the connection was closed")
            except ConnectionClosed as closed:
                _raise_if_for_good(closed)
                route.lost("the connection was lost")
            finally:
                await connection.close()


class _Route:
    """Which of a client's gateways is used now, and since when none has said anything."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.place = 0
        self._lost_at: float | None = None
        self._why = "no answer"

    @property
    def url(self) -> str:
        """The address in use."""
        return self.client.urls[self.place % len(self.client.urls)]

    def heard(self) -> None:
        """A gateway has said something."""
        self._lost_at = None

    def lost(self, why: str) -> None:
        """The next connection is to another gateway, where there is another."""
        self._lost_at = self._lost_at or time.monotonic()
        self._why = why
        self.place += 1

    async def connect(self) -> ClientConnection:
        """Tries one address after the other, with a pause after each round. Raises GatewayUnreachable in the end."""
        first = self._lost_at is None
        end = (self._lost_at or time.monotonic()) + self.client.reconnect_timeout_s
        delay_s = RETRY_FIRST_S
        while True:
            if time.monotonic() > end:
                raise GatewayUnreachable(
                    f"{self._named} said nothing of use for {self.client.reconnect_timeout_s:g} s: {self._why}"
                )
            refused = 0
            for _ in self.client.urls:
                try:
                    return await self._open()
                except InvalidURI as error:
                    raise RequestRefused("invalid_url", str(error), "url") from error
                except (OSError, TimeoutError, InvalidHandshake) as error:
                    refused += isinstance(error, ConnectionRefusedError)
                    self._why = str(error) or type(error).__name__
                    self.place += 1
            if first and refused == len(self.client.urls):
                raise GatewayUnreachable(f"no gateway at {self._named}; start it with `pinstream up`")
            if time.monotonic() + delay_s > end:
                raise GatewayUnreachable(f"no gateway at {self._named}: {self._why}")
            await asyncio.sleep(random.uniform(delay_s / 2, delay_s))
            delay_s = min(delay_s * 2, RETRY_MOST_S)

    @property
    def _named(self) -> str:
        return " or ".join(self.client.urls)

    def _open(self) -> websocket:
        key = self.client.api_key
        return websocket(
            self.url,
            subprotocols=[Subprotocol(SUBPROTOCOL_TROUBLE), Subprotocol(SUBPROTOCOL)],
            max_size=None,
            open_timeout=OPEN_S,
            proxy=None,
            compression=None,
            additional_headers=None if key is None else {"Authorization": f"Bearer {key}"},
        )


class _Again(Exception):
    """The gateway will not take the search, and another may, or the same one after `wait_s`."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class Search:
    """One search: iterate over it for videos, or over `frames()` for all that the gateway says.

    `session_id`, `progress` and `completed` are filled as the frames come, and `webhook_secret`, where the session has
    webhooks and its caller no name; `trouble` says why the session is held up, where it is. Leaving the iteration early
    cancels the session. After the last video of a session that ended for a fault SearchFailed is raised.
    """

    def __init__(self, client: Client, request: dict[str, Any] | None) -> None:
        self._client = client
        self._request = request
        self._generator: AsyncGenerator[AnyFrame, None] | None = None
        self.session_id: str | None = None
        self.webhook_secret: str | None = None
        self.sequence = 0
        self.progress: Progress | None = None
        self.completed: Completed | None = None
        self.trouble: str | None = None
        self.reconnects = 0
        self._openings = 0
        self._route = _Route(client)
        self._troubled_at = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._generator is not None:
            await self._generator.aclose()

    async def __aiter__(self) -> AsyncIterator[Video]:
        async with aclosing(self.frames()) as frames:
            async for frame in frames:
                if isinstance(frame, VideoFrame):
                    yield frame.video
        if self.completed is not None and self.completed.reason.failed:
            raise SearchFailed(self.completed.reason, self.completed.message)

    def frames(self) -> AsyncGenerator[AnyFrame, None]:
        """Every frame to `completed`; each video once, through any number of reconnects.

        An ErrorFrame among them says that the session is held up; a Progress that it goes on. Raises RequestRefused or
        GatewayUnreachable.
        """
        self._generator = self._frames()
        return self._generator

    async def _frames(self) -> AsyncGenerator[AnyFrame, None]:
        while True:
            connection = await self._route.connect()
            opened_at, why, wait_s = time.monotonic(), "it closed the connection", 0.0
            try:
                await connection.send(self._opening())
                while True:
                    frame = self._understood(await self._receive(connection))
                    if frame is None:
                        continue
                    yield frame
                    if isinstance(frame, Completed):
                        return
            except _Again as again:
                why, wait_s = str(again), min(again.wait_s, WAIT_MOST_S)
            except ConnectionClosed as closed:
                _raise_if_for_good(closed)
            finally:
                await self._leave(connection)
            self.reconnects += 1
            if time.monotonic() - opened_at > STEADY_S:
                self._route.heard()
            self._route.lost(why)
            await asyncio.sleep(wait_s + random.uniform(RETRY_FIRST_S, RETRY_FIRST_S * 3))

    def _opening(self) -> str:
        if self.session_id is not None:
            return _operation("resume_extraction", session_id=self.session_id, after=self.sequence)
        self._openings += 1
        if self._openings > OPENINGS:
            raise GatewayUnreachable(f"{self._route.url} accepts connections and drops them")
        return json.dumps(self._request)

    async def _receive(self, connection: ClientConnection) -> str | bytes:
        if self.trouble is None:
            return await connection.recv()
        try:
            async with asyncio.timeout(self._troubled_at + self._client.unavailable_timeout_s - time.monotonic()):
                return await connection.recv()
        except TimeoutError:
            raise GatewayUnreachable(
                f"the search was held up for {self._client.unavailable_timeout_s:g} s: {self.trouble}"
            ) from None

    def _understood(self, text: str | bytes) -> AnyFrame | None:
        """The frame in `text` if it is new; frames of kinds that a later gateway sends are passed over."""
        frame = _frame(text)
        if isinstance(frame, ErrorFrame):
            self._failed(frame)
            return frame
        if frame is not None:
            self._route.heard()
        match frame:
            case Accepted():
                if frame.session_id != self.session_id:
                    self.session_id, self.sequence = frame.session_id, frame.sequence
                    self.webhook_secret = frame.webhook_secret
            case VideoFrame():
                self.trouble = None
                if frame.sequence <= self.sequence:
                    return None
                self.sequence = frame.sequence
            case Progress():
                self.progress = frame
                if frame.state != "waiting":
                    self.trouble = None
            case Completed():
                self.completed = frame
        return frame

    def _failed(self, frame: ErrorFrame) -> None:
        """Returns where the session goes on all the same."""
        if frame.code == ErrorCode.RATE_LIMITED and frame.retry_after_s is not None:
            self._openings -= self.session_id is None
            raise _Again(frame.message, frame.retry_after_s)
        if self.session_id is None:
            if frame.code == ErrorCode.DRAINING:
                self._openings -= 1  # this one has begun nothing
                raise _Again(frame.message)
        elif _passing(frame):
            if self.trouble is None:
                self._troubled_at = time.monotonic()
            self.trouble = frame.message
            return
        raise RequestRefused(frame.code, frame.message, frame.field)

    async def _leave(self, connection: ClientConnection) -> None:
        """Closes; a search that is left in the middle is cancelled, a session that is only followed is not."""
        left = self._request is not None and self.completed is None and self.session_id is not None
        with suppress(ConnectionClosed):
            if left and connection.state.name == "OPEN":
                await connection.send(_operation("cancel_extraction", session_id=self.session_id))
        await connection.close()


def _frame(text: str | bytes) -> AnyFrame | None:
    try:
        return decode_frame(text)
    except msgspec.ValidationError:
        return None


def _passing(frame: ErrorFrame) -> bool:
    """Whether it is no refusal but a matter of time."""
    return frame.code in (ErrorCode.UNAVAILABLE, ErrorCode.DRAINING)


def _raise_if_for_good(closed: ConnectionClosed) -> None:
    code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1006, "")
    if code in FOR_GOOD_CODES:
        raise RequestRefused(f"closed_{code}", reason or f"the gateway closed the connection ({code})") from None


def _operation(name: str, **parameters: Any) -> str:
    return json.dumps({"operation": name, "parameters": parameters})
