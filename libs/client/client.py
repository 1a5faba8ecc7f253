"""The client library: searches as asynchronous iterators over typed results.

async for video in Client("ws://127.0.0.1:8080/ws").search("ceramic glaze", limit=50):
    print(video.url)
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, Self

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.typing import Subprotocol

from libs.client.errors import GatewayUnreachable, RequestRefused, SearchFailed
from libs.common.frames import (
    DEFAULT_RESULT_LIMIT,
    SUBPROTOCOL,
    Accepted,
    AnyFrame,
    Completed,
    ErrorFrame,
    Progress,
    VideoFrame,
    decode_frame,
)
from libs.common.messages import Video

FOR_GOOD_CODES = range(4500, 5000)  # 4000 to 4499 come back, as do the standard codes
OPENINGS = 2  # times that a search is asked for before `accepted` was heard: each may have begun a session
OPEN_S = 10.0
RETRY_FIRST_S, RETRY_MOST_S = 0.1, 5.0


class Client:
    """A gateway at `url`, such as ws://127.0.0.1:8080/ws.

    A lost connection is made again for up to `reconnect_timeout_s`, and the session resumed after the last sequence.
    """

    def __init__(self, url: str, *, reconnect_timeout_s: float = 60.0) -> None:
        self.url = url
        self.reconnect_timeout_s = reconnect_timeout_s

    def search(self, query: str, *, limit: int = DEFAULT_RESULT_LIMIT) -> Search:
        """Up to `limit` distinct videos on `query`, as they are found."""
        parameters = {"search_query": query, "result_limit": limit}
        return Search(self, {"operation": "initiate_extraction", "parameters": parameters})

    def follow(self, session_id: str, *, after: int = 0) -> Search:
        """The videos of a session that exists, from the sequence after `after` on."""
        search = Search(self, None)
        search.session_id, search.sequence = session_id, after
        return search

    async def cancel(self, session_id: str) -> None:
        """Ends a session. Raises RequestRefused where there is none of that id."""
        async with self._connection() as connection:
            await connection.send(_operation("cancel_extraction", session_id=session_id))
            async for text in connection:
                frame = decode_frame(text)
                if isinstance(frame, ErrorFrame):
                    raise RequestRefused(frame.code, frame.message, frame.field)
                if isinstance(frame, Completed):
                    return

    def _connection(self) -> connect:
        return connect(
            self.url,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            max_size=None,
            open_timeout=OPEN_S,
            proxy=None,
            compression=None,
        )


class Search:
    """One search: iterate over it for videos, or over `frames()` for all that the gateway says.

    `session_id`, `progress` and `completed` are filled as the frames come. Leaving the iteration early cancels the
    session. After the last video of a session that ended for a fault SearchFailed is raised.
    """

    def __init__(self, client: Client, request: dict[str, Any] | None) -> None:
        self._client = client
        self._request = request
        self._generator: AsyncGenerator[AnyFrame, None] | None = None
        self.session_id: str | None = None
        self.sequence = 0
        self.progress: Progress | None = None
        self.completed: Completed | None = None
        self.reconnects = 0
        self._openings = 0
        self._lost_at: float | None = None  # since when no frame has been heard

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

        Raises RequestRefused or GatewayUnreachable.
        """
        self._generator = self._frames()
        return self._generator

    async def _frames(self) -> AsyncGenerator[AnyFrame, None]:
        while True:
            connection = await self._connect()
            try:
                await connection.send(self._opening())
                async for text in connection:
                    frame = self._understood(text)
                    if frame is None:
                        continue
                    self._lost_at = None
                    yield frame
                    if isinstance(frame, Completed):
                        return
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else 1006
                if code in FOR_GOOD_CODES:
                    reason = closed.rcvd.reason if closed.rcvd else ""
                    raise RequestRefused(
                        f"closed_{code}", reason or f"the gateway closed the connection ({code})"
                    ) from None
            finally:
                await self._leave(connection)
            self.reconnects += 1
            self._lost_at = self._lost_at or time.monotonic()
            await asyncio.sleep(random.uniform(RETRY_FIRST_S, RETRY_FIRST_S * 3))

    def _opening(self) -> str:
        if self.session_id is None:
            self._openings += 1
            if self._openings > OPENINGS:
                raise GatewayUnreachable(f"{self._client.url} accepts connections and drops them")
        else:
            return _operation("resume_extraction", session_id=self.session_id, after=self.sequence)
        return json.dumps(self._request)

    def _understood(self, text: str | bytes) -> AnyFrame | None:
        """The frame in `text` if it is new; frames of kinds that a later gateway sends are passed over."""
        try:
            frame = decode_frame(text)
        except msgspec.ValidationError:
            return None
        match frame:
            case Accepted():
                self.session_id, self.sequence = frame.session_id, frame.sequence
            case VideoFrame():
                if frame.sequence <= self.sequence:
                    return None
                self.sequence = frame.sequence
            case Progress():
                self.progress = frame
            case Completed():
                self.completed = frame
            case ErrorFrame():
                raise RequestRefused(frame.code, frame.message, frame.field)
        return frame

    async def _leave(self, connection: ClientConnection) -> None:
        """Closes; a search that is left in the middle is cancelled, a session that is only followed is not."""
        left = self._request is not None and self.completed is None and self.session_id is not None
        with suppress(ConnectionClosed):
            if left and connection.state.name == "OPEN":
                await connection.send(_operation("cancel_extraction", session_id=self.session_id))
        await connection.close()

    async def _connect(self) -> ClientConnection:
        end = (self._lost_at or time.monotonic()) + self._client.reconnect_timeout_s
        if time.monotonic() > end:
            raise GatewayUnreachable(f"{self._client.url} has said nothing for {self._client.reconnect_timeout_s:g} s")
        first = self.session_id is None
        delay_s = RETRY_FIRST_S
        while True:
            try:
                return await self._client._connection()
            except InvalidURI as error:
                raise RequestRefused("invalid_url", str(error), "url") from error
            except (OSError, TimeoutError, InvalidHandshake) as error:
                if first and self.reconnects == 0 and isinstance(error, ConnectionRefusedError):
                    raise GatewayUnreachable(
                        f"no gateway at {self._client.url}; start it with `pinstream up`"
                    ) from error
                if time.monotonic() + delay_s > end:
                    raise GatewayUnreachable(f"no gateway at {self._client.url}: {error}") from error
            await asyncio.sleep(random.uniform(delay_s / 2, delay_s))
            delay_s = min(delay_s * 2, RETRY_MOST_S)


def _operation(name: str, **parameters: Any) -> str:
    return json.dumps({"operation": name, "parameters": parameters})
