"""The connection to the broker; the only module that imports the NATS client.

Every publish that is acknowledged here is idempotent (create-only, or the latest state of something), so it may be
sent again after a time-out that hid a success.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import msgspec
import nats
import nats.errors
import stamina
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.common import metrics
from libs.common.broker_access import NoTls, login, refused, renewed, renewed_key, tls_context
from libs.common.delivery import seconds
from libs.common.errors import (
    BrokerUnavailable,
    PermissionRefused,
    StartFailed,
    StreamMissing,
    TooLarge,
    Unsendable,
)
from libs.common.refusal import NO_MESSAGE, NO_STREAM, ApiError, ApiRefused, refusal
from libs.common.settings import Settings, without_password
from libs.common.subjects import JETSTREAM, inbox_prefix
from libs.common.tasks import end

CONNECT_PATIENCE_S = 10.0
CLOSE_S = 0.5  # of a connection that has never been
PING_EVERY_S = 3  # two unanswered pings: a dead link is noticed within 9 s; the client's default is minutes
ATTEMPT_S = 2.0  # one publish or request; a broker that is alive answers within milliseconds
PATIENCE_S = 30.0  # all attempts together: longer than a restart of the broker or the election of a leader
SWEEP_S = 0.25
PURGE_BATCH = 128
NO_SEQUENCE = 2**53  # of a message; no stream has so many
NOT_THERE = ("store EOF", "no message found", "message not found")  # how servers say it of such a one
LAG_S = 0.02  # how long a replica that lags is given to catch up, each time
HEADER_FRAME_BYTES = 16  # of NATS headers, beside names and values
REFUSED_FOR_S = 20.0  # a refused permission makes a service unready for so long; what needs it tries more often
UNSENDABLE = (nats.errors.BadHeaderError, nats.errors.BadSubjectError, nats.errors.MaxPayloadError)
LINK_DOWN = (nats.errors.Error, OSError, RuntimeError)  # the last is uvloop's word for a transport that is gone
MIN_SERVER = (2, 11)  # subject-scoped expected sequences and batched direct gets


EXPECTED_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
_violation = re.compile(r"permissions violation for (?P<what>publish|subscription) to \"(?P<subject>[^\"]*)\"", re.I)

log = structlog.get_logger()

T = TypeVar("T")


class Fence(NamedTuple):
    """What must be the last record on `subjects` for a publish to be stored."""

    subjects: str
    sequence: int


class Stored(NamedTuple):
    """A message as a stream holds it; `stored_at` is seconds since 1970 by the broker's clock."""

    subject: str
    sequence: int
    stored_at: float
    body: bytes
    headers: dict[str, str]


class _Waiting(NamedTuple):
    """A message whose answer is waited for; `due` by the loop's clock."""

    subject: str
    answer: asyncio.Future[Msg]
    due: float


class _PubAck(msgspec.Struct):
    seq: int = 0
    error: ApiError | None = None


_ack_decoder = msgspec.json.Decoder(_PubAck)


class _Client(Client):
    """Bears subjects that are not UTF-8, which a server takes, and lets no server do without TLS where it is wanted.

    What comes for a subscription in `at_once` is handed over as it is read, past the queue and the task that others
    have: an acknowledgement needs neither, and there is one for each message that is stored.
    """

    def __init__(self) -> None:
        super().__init__()
        self.at_once: dict[int, Callable[[Msg], None]] = {}  # by the subscription's id

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        take = self.at_once.get(sid)
        if take is None:
            await super()._process_msg(sid, subject, reply, data, headers)
            return
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        message = self._build_message(sid, subject, reply, data, await self._process_headers(headers))
        try:
            take(message)
        except Exception as error:  # of a callback; the connection must not end for it
            log.exception("a message was not taken", subject=message.subject)
            await self._error_cb(error)

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        super()._remove_sub(sid, max_msgs)
        if not max_msgs:
            self.at_once.pop(sid, None)

    def renew(self, settings: Settings, context: ssl.SSLContext | None) -> None:
        """What was read of files is read again; the library does so with the seed, and not with its public half."""
        self._public_nkey = renewed_key(settings, self._public_nkey)
        if context is not None:
            self.options["tls"] = renewed(settings, context)

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """As the library has it, which looks at each character of a name by itself: a third of all calls there were."""
        found: dict[str, str] = {}
        for line in raw.split(b"\r\n"):
            name, colon, value = line.partition(b":")
            if colon and (key := _header_name(name)) is not None:
                found[key] = value.strip().decode("utf-8", "replace")
        return found

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        try:
            message: Msg = super()._build_message(sid, subject, reply, data, headers)
        except UnicodeDecodeError:
            shown = subject.decode("utf-8", "backslashreplace").encode()
            message = super()._build_message(sid, shown, reply, data, headers)
        return message

    async def _connect_to_server(self, server: Any) -> None:
        if self._transport is not None:
            # of a server that took the connection and said nothing: the library lets it lie
            self._transport.close()  # type: ignore[no-untyped-call]
        await super()._connect_to_server(server)

    async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
        if initial_connection and "tls" in self.options and not info.get("tls_required"):
            raise NoTls(NoTls.__doc__)  # the client would go on without
        await super()._process_info(info, initial_connection)


@lru_cache(maxsize=256)
def _header_name(raw: bytes) -> str | None:
    """None where it is none: not ASCII, or with a space in it. There are a dozen names in all messages."""
    try:
        name = raw.strip().decode("ascii")
    except UnicodeDecodeError:
        return None
    return name if not name or name.split(None, 1) == [name] else None


class Bus:
    """A connection that reconnects for ever. Use `connect`."""

    def __init__(self, client: _Client) -> None:
        self.client = client
        self._acks: dict[str, _Waiting] = {}
        self._refused_at = float("-inf")  # a permission, last
        self._tokens = itertools.count()
        self._background: set[asyncio.Task[None]] = set()
        self._purging: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._inbox = ""
        self._sweeper: asyncio.Task[None] | None = None
        self.reconnects = 0
        self.lost = ""  # why the connection was closed for good, where it was
        self._closing = False
        self.owner: asyncio.Task[Any] | None = None  # who is ended when the connection is lost

    @property
    def connected(self) -> bool:
        """Whether the link to a server stands now."""
        return self.client.is_connected

    @property
    def permitted(self) -> bool:
        """Whether the broker has refused no permission lately."""
        return time.monotonic() - self._refused_at > REFUSED_FOR_S

    # publishing

    async def publish(
        self,
        subject: str,
        body: bytes,
        *,
        headers: dict[str, str] | None = None,
        fence: Fence | None = None,
        create: bool = False,
        patience_s: float = PATIENCE_S,
    ) -> int:
        """Stores a message in the stream that takes `subject` and returns its sequence.

        `create`: only if the subject holds nothing yet. Raises AlreadyExists, Fenced, StreamFull, TooLarge,
        PermissionRefused, PublishRefused, or BrokerUnavailable after `patience_s`.
        """
        sent = dict(headers or {})
        if create:
            sent[EXPECTED_SEQUENCE] = "0"
        if fence is not None:
            sent[EXPECTED_SEQUENCE] = str(fence.sequence)
            sent[EXPECTED_SUBJECT] = fence.subjects
        return await _patiently(
            lambda: self._publish_once(subject, body, sent, fenced=fence is not None), patience_s, ATTEMPT_S
        )

    async def _publish_once(self, subject: str, body: bytes, headers: dict[str, str], *, fenced: bool) -> int:
        reply = await self._request(subject, body, headers or None, ATTEMPT_S)
        if reply.headers and reply.headers.get("Status") == "503":
            raise BrokerUnavailable(f"no stream takes {subject} now")
        ack = _ack_decoder.decode(reply.data)
        if ack.error is None:
            return ack.seq
        raise refusal(subject, ack.error, fenced=fenced)

    async def _request(self, subject: str, body: bytes, headers: dict[str, str] | None, timeout_s: float) -> Msg:
        """The reply to a message. The client's own `request` can swallow a cancellation before Python 3.12."""
        size = len(body) + sum(len(name.encode()) + len(value.encode()) + 4 for name, value in (headers or {}).items())
        if size + HEADER_FRAME_BYTES > self.client.max_payload:  # the server would end the connection for it
            raise TooLarge(f"{size} bytes for {subject} are more than the broker takes")
        token = f"{self._inbox}.{next(self._tokens)}"
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Msg] = loop.create_future()
        self._acks[token] = _Waiting(subject, future, loop.time() + timeout_s)
        try:
            await self.client.publish(subject, body, reply=token, headers=headers)
            return await future
        except UNSENDABLE as error:
            raise Unsendable(f"{subject}: {type(error).__name__} {error}") from error
        except LINK_DOWN as error:
            raise BrokerUnavailable(f"{subject}: {error or type(error).__name__}") from error
        finally:
            self._acks.pop(token, None)

    async def tell(
        self, subject: str, body: bytes = b"", headers: dict[str, str] | None = None, *, reply: str = ""
    ) -> None:
        """Core NATS: whoever listens now hears it, at most once, and may answer at `reply`."""
        try:
            await self.client.publish(subject, body, reply=reply, headers=headers)
        except LINK_DOWN as error:
            raise BrokerUnavailable(f"telling {subject}: {error}") from error

    async def ask(self, subject: str, body: bytes, timeout_s: float) -> bytes:
        """The body of the one answer to a message; raises BrokerUnavailable after `timeout_s`."""
        return bytes((await self._request(subject, body, None, timeout_s)).data)

    async def subscribe(self, subject: str, callback: Callable[[Msg], Awaitable[None]]) -> Any:
        """Calls `callback` for each message on `subject`, also after reconnects; returns what unsubscribes."""
        return await self.client.subscribe(subject, cb=callback)

    async def subscribe_at_once(self, subject: str, take: Callable[[Msg], None]) -> Any:
        """The same, without a task between: what `take` does holds up all that comes behind it."""

        async def early(message: Msg) -> None:
            take(message)

        subscription = await self.client.subscribe(subject, cb=early)
        self.client.at_once[subscription._id] = take
        return subscription

    async def settled(self) -> None:
        """Returns when the broker has taken all that was sent, subscriptions too, or the link is down."""
        with suppress(*LINK_DOWN):
            for _ in range(2):  # the client sends its first ping before what waits to be sent
                await self.client.flush(int(ATTEMPT_S))

    def new_inbox(self) -> str:
        """A subject that nobody else has."""
        return self.client.new_inbox()

    # JetStream requests

    async def api(self, subject: str, request: Any = None, patience_s: float = PATIENCE_S) -> dict[str, Any]:
        """The answer to a request at `$JS.API.<subject>`; raises ApiRefused, StreamMissing or BrokerUnavailable."""
        body = b"" if request is None else msgspec.json.encode(request)
        return await _patiently(lambda: self._api_once(subject, body), patience_s)

    async def _api_once(self, subject: str, body: bytes) -> dict[str, Any]:
        reply = await self._request(f"{JETSTREAM}.{subject}", body, None, ATTEMPT_S * 2)
        if reply.headers and reply.headers.get("Status") == "503":
            raise BrokerUnavailable(f"{JETSTREAM}.{subject}: nobody answers; is JetStream on?")
        answer: dict[str, Any] = msgspec.json.decode(reply.data)
        if "error" in answer:
            error_ = msgspec.convert(answer["error"], ApiError)
            if error_.err_code == NO_STREAM:
                raise StreamMissing
            if error_.code == 503:
                raise BrokerUnavailable(f"{JETSTREAM}.{subject}: {error_.description}")
            raise ApiRefused(error_)
        return answer

    async def subjects_under(self, stream: str, pattern: str, at_least: int = 0) -> tuple[set[str], float]:
        """The subjects matching `pattern` that `stream` holds, and the broker's time, seconds since 1970.

        A leader that was just elected may not have applied all that its forerunner acknowledged: with `at_least`, it is
        waited until it knows of that sequence.
        """
        found: set[str] = set()
        end_at = asyncio.get_running_loop().time() + PATIENCE_S
        while True:
            answer = await self.api(f"STREAM.INFO.{stream}", {"subjects_filter": pattern, "offset": len(found)})
            if answer["state"]["last_seq"] < at_least:
                if asyncio.get_running_loop().time() > end_at:
                    raise BrokerUnavailable(f"the leader of {stream} does not know of {at_least} yet")
                await asyncio.sleep(LAG_S)
                continue
            page = answer["state"].get("subjects") or {}
            found.update(page)
            if not page or len(found) >= answer.get("total", 0):
                return found, seconds(answer["ts"])

    async def last(self, stream: str, subject: str) -> Stored | None:
        """The last message on `subject`, read from the stream's leader, or None."""
        try:
            answer = await self.api(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
        except ApiRefused as error:
            if error.err_code in NO_MESSAGE:
                return None
            raise
        message = answer["message"]
        return Stored(
            message["subject"], message["seq"], seconds(message["time"]), _base64(message.get("data", "")), {}
        )

    async def read(self, stream: str, pattern: str, sequence: int, batch: int) -> list[Stored]:
        """Up to `batch` messages matching `pattern` from `sequence` on, in order, by batched direct get."""
        return await _patiently(lambda: self._read_once(stream, pattern, sequence, batch), PATIENCE_S)

    async def _read_once(self, stream: str, pattern: str, sequence: int, batch: int) -> list[Stored]:
        inbox = self.new_inbox()
        replies: asyncio.Queue[Msg] = asyncio.Queue()
        found: list[Stored] = []
        try:
            subscription = await self.client.subscribe(inbox, cb=replies.put)
            try:
                request = {"seq": max(sequence, 1), "next_by_subj": pattern, "batch": batch}
                await self.client.publish(f"{JETSTREAM}.DIRECT.GET.{stream}", msgspec.json.encode(request), reply=inbox)
                while True:
                    async with asyncio.timeout(ATTEMPT_S):
                        reply = await replies.get()
                    headers = reply.headers or {}
                    status = headers.get("Status")
                    if "Nats-Sequence" in headers:
                        status = None  # a header of the message's own
                    if status in ("204", "404"):
                        return found
                    if status is not None:
                        raise BrokerUnavailable(f"reading {pattern}: {status} {headers.get('Description', '')}")
                    place = int(headers["Nats-Sequence"])
                    stored_at = seconds(headers["Nats-Time-Stamp"])
                    found.append(Stored(headers["Nats-Subject"], place, stored_at, reply.data, headers))
            finally:
                with suppress(*LINK_DOWN):  # the subscription is gone with it
                    await subscription.unsubscribe()
        except (TimeoutError, *LINK_DOWN) as error:
            raise BrokerUnavailable(f"reading {pattern}: {error or type(error).__name__}") from error

    async def count(self, stream: str, pattern: str) -> int:
        """How many messages match `pattern`, by whichever replica answers: one that lags knows of fewer.

        The first of a batch says how many come after it, so nothing is sent but that one.
        """
        request = msgspec.json.encode({"seq": 1, "next_by_subj": pattern, "batch": 1})
        async for attempt in stamina.retry_context(
            on=BrokerUnavailable, attempts=None, timeout=PATIENCE_S, wait_initial=0.05, wait_max=1.0
        ):
            with attempt:
                reply = await self._request(f"{JETSTREAM}.DIRECT.GET.{stream}", request, None, ATTEMPT_S)
                headers = reply.headers or {}
                if "Nats-Num-Pending" in headers and "Nats-Sequence" in headers:
                    return 1 + int(headers["Nats-Num-Pending"])
                if headers.get("Status") == "404":
                    return 0
                told = f"{headers.get('Status', '')} {headers.get('Description', '')}"
                raise BrokerUnavailable(f"counting {pattern}: {told}")
        raise BrokerUnavailable(f"could not count {pattern}")

    async def purge(self, stream: str, pattern: str) -> int:
        """Removes the messages matching `pattern`, the oldest last; returns how many there were.

        One by one: after a purge with a filter nats-server forgets, when it is started again, what its consumers had
        been given and not acknowledged, of other sessions too (2.14 and 2.15, tests/integration/test_purge.py).
        """
        found: list[int] = []
        removed = 0
        async with self._purging.setdefault(f"{stream} {pattern}", asyncio.Lock()):  # those who come after find none
            while batch := await self.read(stream, pattern, (found[-1] if found else 0) + 1, PURGE_BATCH):
                found += [stored.sequence for stored in batch]
            parts = [found[at : at + PURGE_BATCH] for at in range(1, len(found), PURGE_BATCH)]
            for part in (*parts, found[:1]):
                removed += sum(await asyncio.gather(*(self.remove(stream, one) for one in part)))
        return removed

    async def clock(self, stream: str) -> float:
        """Seconds since 1970 by the clock of the leader of `stream`."""
        return seconds((await self.api(f"STREAM.INFO.{stream}"))["ts"])

    async def probe(self, stream: str) -> None:
        """Has `stream` remove a message that it does not have; raises where it cannot write.

        With a permission that removes one message at a time at most, where a purge of nothing would ask for all.
        """
        try:
            await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": NO_SEQUENCE, "no_erase": True})
        except ApiRefused as error:
            if not any(words in str(error) for words in NOT_THERE):
                raise

    async def remove(self, stream: str, sequence: int) -> bool:
        """Removes one message for good; returns whether there was one."""
        try:
            await self.api(f"STREAM.MSG.DELETE.{stream}", {"seq": sequence, "no_erase": True})
        except ApiRefused as error:
            if error.err_code in NO_MESSAGE:
                return False
            raise
        return True

    # its own life

    def background(self, work: Coroutine[Any, Any, None], name: str) -> None:
        """Has `work` done that nobody waits for; what is left of it ends with the connection."""
        task = asyncio.create_task(work, name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _start(self, name: str) -> None:
        version = self.client.connected_server_version
        if (version.major, version.minor) < MIN_SERVER:
            raise StartFailed(f"the broker is nats-server {version.major}.{version.minor}; 2.11 or newer is needed")
        self._inbox = self.client.new_inbox()

        def acked(message: Msg) -> None:
            waiting = self._acks.get(message.subject)
            if waiting is not None and not waiting.answer.done():
                waiting.answer.set_result(message)

        await self.subscribe_at_once(f"{self._inbox}.*", acked)
        await self.settled()  # a refusal comes before the answer
        if not self.permitted:
            raise StartFailed(f"the broker lets this user have no answers; is NATS_NKEY_FILE the key of {name}?")
        self._sweeper = asyncio.create_task(self._sweep(), name="bus sweeper")

    async def _sweep(self) -> None:
        """Gives up publishes whose acknowledgement is overdue: one task for all instead of a timer for each."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_S)
            self._check_reconnecting()
            now = loop.time()
            for token, waiting in list(self._acks.items()):
                if now > waiting.due:
                    self._acks.pop(token, None)
                    if not waiting.answer.done():
                        waiting.answer.set_exception(nats.errors.TimeoutError())

    def _refused(self, error: str) -> bool:
        """Tells whoever waits that a permission was refused; the broker itself leaves them to their time-outs."""
        found = _violation.search(error)
        if found is None:
            return False
        self._refused_at = time.monotonic()
        subject = found["subject"]
        if found["what"] == "publish":
            for waiting in self._acks.values():  # the client library puts the error into small letters
                if waiting.subject.lower() == found["subject"].lower() and not waiting.answer.done():
                    subject = waiting.subject
                    waiting.answer.set_exception(PermissionRefused(f"no permission to publish to {subject}"))
        log.error("the broker refused a permission", to=found["what"], subject=subject)
        return True

    def _check_reconnecting(self) -> None:
        """The client's task that reconnects can die of an error that it does not expect; nothing would ever follow."""
        task = self.client._reconnection_task
        if self.client.is_reconnecting and task is not None and task.done() and not self._closing:
            error = None if task.cancelled() else task.exception()
            self._lose(f"reconnecting has ended: {error!r}")

    def _lose(self, why: str) -> None:
        """Ends whoever holds this connection, which will not come back."""
        if self.lost:
            return
        self.lost = why
        log.error("the broker's connection is lost for good", why=why)
        if self.owner is not None:
            self.owner.cancel()

    async def _on_reconnect(self) -> None:
        self.reconnects += 1
        url = self.client.connected_url
        log.warning("connected to the broker again", server=f"{url.hostname}:{url.port}" if url else None)

    async def _close(self) -> None:
        self._closing = True
        await end(*self._background)
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
        try:
            if self.client.is_connected:
                async with asyncio.timeout(ATTEMPT_S):
                    await self.client.flush()
        except (TimeoutError, *LINK_DOWN) as error:
            log.warning("closing without a last flush", error=str(error))
        try:
            async with asyncio.timeout(ATTEMPT_S):  # it would wait for ever for a link whose handshake failed
                await self.client.close()
        except (TimeoutError, *LINK_DOWN) as error:
            log.info("the connection was gone before it was closed", error=str(error))


def _base64(text: str) -> bytes:
    return msgspec.convert(text, bytes)


async def _patiently(once: Callable[[], Awaitable[T]], patience_s: float, first_s: float = 0.0) -> T:
    """What `once` gives; tried again while the broker is away, for `patience_s` in all, of which the first takes
    `first_s` at least. That is by itself: what retries need costs as much again as a request.
    """
    began = time.monotonic()
    try:
        return await once()
    except BrokerUnavailable:
        left_s = patience_s - max(first_s, time.monotonic() - began)
        if left_s <= 0:
            raise
    async for attempt in stamina.retry_context(
        on=BrokerUnavailable, attempts=None, timeout=left_s, wait_initial=0.05, wait_max=1.0
    ):
        with attempt:
            return await once()
    raise AssertionError("a retry ends by what it returns or raises")


class _Starting:
    """What is known while the first connection is tried for."""

    def __init__(self, settings: Settings) -> None:
        self.servers = [part.strip() for part in settings.nats_url.split(",")]
        self._where = without_password(settings.nats_url)
        self._refusals: dict[Any, str] = {}  # by server

    def is_refused_by(self, server: Any, why: str | None) -> None:
        """What will not change by itself; raises StartFailed where all servers have said so. None: it may change."""
        if why is not None:
            self._refusals[server] = why
        if len(self._refusals) == len(self.servers):
            why = next(iter(self._refusals.values()))
            raise StartFailed(f"the broker at {self._where} cannot be used: {why}")

    def failure(self, error: Exception) -> StartFailed:
        """What to say of it."""
        if isinstance(error, StartFailed):
            return error
        why = next(iter(self._refusals.values()), str(error) or "no answer")
        return StartFailed(f"no broker at {self._where} ({why}); start nats-server with JetStream, or set NATS_URL")


@asynccontextmanager
async def connect(settings: Settings, name: str) -> AsyncIterator[Bus]:
    """A bus named `name`; raises StartFailed where no broker of a fit version answers within ten seconds.

    It reconnects for ever, but for errors after which a server will not have it back: then the task that is inside the
    context is cancelled and BrokerUnavailable raised.
    """
    client = _Client()
    bus = Bus(client)
    context, known_by = tls_context(settings), login(settings)
    user = name.split(maxsplit=1)[0]  # those of one service have inboxes in common
    starting = _Starting(settings)

    async def failed(error: Exception) -> None:
        why = refused(settings, error)
        if bus._inbox == "":
            starting.is_refused_by(client._server_pool[-1].uri, why)
        elif why is not None:
            log.error("broker connection", error=why)
            client.renew(settings, context)
        elif isinstance(error, nats.errors.SlowConsumerError):
            log.error("a subscription fell behind and lost messages", subject=error.subject)
        elif not bus._refused(str(error)):
            log.warning("broker connection", error=str(error) or type(error).__name__)

    bus.owner = owner = asyncio.current_task()

    async def closed() -> None:
        if not bus._closing and bus._inbox:
            bus._lose(str(client.last_error or "for no reason given"))

    async def disconnected() -> None:
        if not client.is_closed:
            metrics.broker_disconnects.add(1)
            log.warning("lost the broker")
            client.renew(settings, context)

    try:
        async with asyncio.timeout(CONNECT_PATIENCE_S):
            await client.connect(
                starting.servers,
                name=name,
                **known_by,
                tls=context,
                inbox_prefix=inbox_prefix(user),
                error_cb=failed,
                disconnected_cb=disconnected,
                closed_cb=closed,
                reconnected_cb=bus._on_reconnect,
                max_reconnect_attempts=-1,
                reconnect_time_wait=0.25,  # type: ignore[arg-type]  # slept for as it is: a fraction works
                connect_timeout=2,
                ping_interval=PING_EVERY_S,
                max_outstanding_pings=2,
            )
    except (TimeoutError, StartFailed, *LINK_DOWN) as error:
        with suppress(TimeoutError, *LINK_DOWN):
            async with asyncio.timeout(CLOSE_S):  # after a handshake that failed the client would wait for ever
                await client.close()
        raise starting.failure(error) from error
    metrics.broker_disconnects.add(0)
    try:
        await bus._start(user)
        yield bus
    except asyncio.CancelledError:
        if not bus.lost or owner is None:
            raise
        owner.uncancel()
        raise BrokerUnavailable(f"the broker's connection was closed for good: {bus.lost}") from None
    finally:
        await bus._close()
