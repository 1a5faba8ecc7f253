"""What goes out to one client: one frame at a time, in time, and its close."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from opentelemetry import trace
from opentelemetry.trace import SpanKind
from starlette.websockets import WebSocket, WebSocketDisconnect

from libs.common import metrics, subjects
from libs.common.frames import AnyFrame, Completed, ErrorFrame, VideoFrame, encode_frame
from libs.common.telemetry import extract, processed
from services.gateway.following import Step

log = structlog.get_logger()
tracer = trace.get_tracer("services.gateway")


class Sender:
    """Sends frames; a client that does not take one within `timeout_s` is `stuck` and gets no more of them."""

    def __init__(self, websocket: WebSocket, timeout_s: float) -> None:
        self.websocket = websocket
        self.timeout_s = timeout_s
        self.stuck = asyncio.Event()
        self.closing = False
        self._turn = asyncio.Lock()

    async def send(self, frame: AnyFrame) -> None:
        """Returns when the client has room for the next one. Raises WebSocketDisconnect or RuntimeError."""
        await self.send_text(encode_frame(frame))
        if isinstance(frame, ErrorFrame):
            metrics.gateway_refusals.add(1, {"protocol": "websocket", "code": frame.code})

    async def send_text(self, text: str) -> None:
        """Likewise."""
        async with self._turn:  # outside of the time-out: a hundred sessions may wait for one slow client
            await self._put(text)

    async def _put(self, text: str) -> None:
        if self.stuck.is_set():
            return
        try:
            async with asyncio.timeout(self.timeout_s):
                await self.websocket.send_text(text)
        except TimeoutError:
            log.warning("client too slow", timeout_s=self.timeout_s)
            self.stuck.set()

    async def close(self, code: int, reason: str) -> None:
        """Closes the connection, once; the client may come back and resume."""
        if self.closing:
            return
        self.closing = True
        metrics.gateway_closes.add(1, {"code": str(int(code))})
        try:
            await self.websocket.close(code, reason)
        except (WebSocketDisconnect, RuntimeError) as error:
            log.debug("the client has left", code=code, error=str(error))


@asynccontextmanager
async def delivered(step: Step, protocol: str) -> AsyncIterator[None]:
    """Around the sending of a frame: measures how long a video took since its capture, and traces it.

    There is a span where the record that the frame comes from is recorded in the trace.
    """
    async with _traced(step):
        yield
    if step.captured_at is not None:
        metrics.delivery.record(max(0.0, time.time() - step.captured_at), {"protocol": protocol})


@asynccontextmanager
async def _traced(step: Step) -> AsyncIterator[None]:
    frame, context = step.frame, extract(step.headers)
    sampled = trace.get_current_span(context).get_span_context().trace_flags.sampled
    if not sampled or not isinstance(frame, VideoFrame | Completed):
        yield
        return
    session = {"messaging.message.conversation_id": frame.session_id}
    kind = "video" if isinstance(frame, VideoFrame) else "completed"
    with (
        processed(subjects.RECORD_TEMPLATE, subjects.RESULTS, context, attributes=session),
        tracer.start_as_current_span(f"send frame {kind}", kind=SpanKind.SERVER),
    ):
        yield
