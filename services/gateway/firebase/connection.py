"""One client over the WebSocket: its requests come in, the values and changes that it listens to go out."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

import msgspec
import structlog
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketDisconnected

from libs.common.errors import BrokerUnavailable
from libs.common.frames import CloseCode, ErrorCode
from libs.common.tasks import end
from services.gateway.callers import TokenRefused, caller_of
from services.gateway.firebase.hashes import hash_of
from services.gateway.firebase.identity import APP_CHECK, AUTH, EXPIRED, Authenticator, Identity
from services.gateway.firebase.listening import Listener, Listeners
from services.gateway.firebase.query import Query, QueryRefused, query_of
from services.gateway.firebase.requests import RequestRefused, Requests, Unavailable
from services.gateway.firebase.tree import REQUESTS, PermissionDenied, Place, dig, path_of, place_of
from services.gateway.firebase.watch import Watch
from services.gateway.firebase.wire import SEGMENT_CHARACTERS, BadFrame, Inbox, MessageSender, TooLong
from services.gateway.intake import Intake
from services.gateway.limits import Limited
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings

INTERNAL_ERROR, TOO_BIG, TRY_AGAIN = 1011, 1009, 1013
VERSION = "5"
PATH_NEEDED = "b.p has to be a path"
GIVEN_UP = ("n", "unauth", "unappeck")  # SDKs do not look at the answer
SHORT_CHARACTERS = SEGMENT_CHARACTERS // 2  # SDKs count UTF-16, in which a character may be two
REVOKED = {AUTH: "ac", APP_CHECK: "apc"}

log = structlog.get_logger()


class Refused(Exception):
    """The answer to a request that is not carried out: its status and a sentence."""

    def __init__(self, status: str, why: str) -> None:
        super().__init__(why)
        self.status = status


class Connection:
    """Its requests one after the other, and a task for each place that it listens to."""

    def __init__(
        self,
        websocket: WebSocket,
        sessions: Sessions,
        requests: Requests,
        settings: GatewaySettings,
        authenticator: Authenticator,
    ) -> None:
        self.websocket = websocket
        self.sessions, self.requests = sessions, requests
        self.identity = Identity(caller_of(websocket.scope), authenticator)
        self.sender = MessageSender(websocket, settings.send_timeout_s)
        self.listeners = Listeners(self.sender, settings.sessions_per_connection)
        self.limits = sessions.limits
        self._intake, self._inbox = Intake(settings), Inbox(settings.message_max_bytes)
        self._early_s = 0.0  # how much too early the message under way has come
        self._troubled = asyncio.Event()

    async def serve(self) -> None:
        """Until the client leaves or is closed."""
        host = self.websocket.headers.get("host", "")
        hello = {"ts": int(time.time() * 1000), "v": VERSION, "h": host, "s": secrets.token_hex(8)}
        await self.sender.control("h", hello)
        tasks = [
            asyncio.create_task(work, name=name)
            for work, name in (
                (self._receive(), "receive"),
                (self.sender.stuck.wait(), "stuck"),
                (self._revoked(), "revoked"),
                (self._tell_trouble(), "tell of the storage"),
                (self.listeners.failed.wait(), "listeners"),
            )
        ]
        storage = self.requests.storage
        storage.listen(self._storage_changed)
        try:
            with self.identity:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            storage.leave(self._storage_changed)
            await end(*tasks)
            await self.listeners.end()
        if self.sender.stuck.is_set():
            await self.sender.close(TRY_AGAIN, "too slow")
        elif self.listeners.failed.is_set():
            await self.sender.close(INTERNAL_ERROR, "internal error")

    async def _receive(self) -> None:
        try:
            while True:
                received = await self.websocket.receive()
                if received["type"] == "websocket.disconnect":
                    return
                await self._received(received.get("text") or "")
                del received  # an idle connection keeps nothing of its last message
        except BadFrame as error:
            log.info("a client does not speak the protocol", error=str(error))
            await self.sender.control("e", str(error))
            await self.sender.close(TOO_BIG, "no message of the protocol")
        except (WebSocketDisconnect, RuntimeError) as error:
            if not self.sender.closing and not isinstance(error, WebSocketDisconnect | WebSocketDisconnected):
                raise  # Starlette's word for a send or receive after the close is RuntimeError

    async def _received(self, text: str) -> None:
        if not self._inbox.amid:
            self._early_s = self._intake.early_s()
        elif len(text) < SHORT_CHARACTERS:  # the others are few, for a message is only so long
            self._early_s = max(self._early_s, self._intake.early_s())
        if self._intake.worn_out:
            await self.sender.close(CloseCode.RATE_LIMITED, "too many messages; come back slower")
            return
        try:
            message = self._inbox.take(text)
        except TooLong as error:
            await self._tell(error.number, "message_too_large", str(error))
            return
        if message is not None and message["t"] == "c":
            if message["d"].get("t") == "p" and not self._early_s:
                await self.sender.control("o", {})
        elif message is not None:
            await self._answer(message["d"])

    async def _answer(self, request: dict[str, Any]) -> None:
        number, action, body = request.get("r"), request.get("a"), request.get("b")
        body = body if isinstance(body, dict) else {}
        try:
            if self._early_s and action not in GIVEN_UP:
                raise Limited(ErrorCode.RATE_LIMITED, "too many messages; this one was not carried out", self._early_s)
            data = await self._carry_out(number, action, body)
            status = "ok"
        except PermissionDenied as error:
            status, data = "permission_denied", str(error)
        except QueryRefused as error:
            status, data = "invalid_query", str(error)
        except RequestRefused as error:
            status, data = "invalid_request", str(error)
        except (Unavailable, BrokerUnavailable) as error:
            status, data = "unavailable", str(error)
        except TokenRefused as error:
            status, data = "invalid_token", str(error)
        except Limited as error:
            status, data = error.code, f"{error}; try again in {error.retry_after_s:g} s"
        except Refused as error:
            status, data = error.status, str(error)
        if data is not None:
            await self._tell(number, status, data)

    async def _tell(self, number: Any, status: str, data: Any) -> None:
        await self.sender.data({"r": number, "b": {"s": status, "d": data}})

    async def _carry_out(self, number: Any, action: Any, body: dict[str, Any]) -> Any:
        """The data of the answer, or None where it answers itself."""
        match action:
            case "s" | "oc":
                return ""
            case "q" | "g":
                await (self._listen if action == "q" else self._get)(number, body)
                return None
            case "n":
                self.listeners.leave(_path(body), _tag(body))
                return ""
            case "p":
                return await self._put(body)
            case "m" | "o" | "om":
                raise PermissionDenied
            case "auth" | "gauth" | "appcheck" | "unauth" | "unappeck":
                return await self._identify(action, body)
        raise Refused("unknown_action", "that is not done here")

    async def _identify(self, action: str, body: dict[str, Any]) -> Any:
        before = self.identity.caller
        try:
            match action:
                case "unauth" | "unappeck":
                    self.identity.drop(AUTH if action == "unauth" else APP_CHECK)
                case "appcheck":
                    await self.identity.take(APP_CHECK, _token(body, "token"))
                case _:
                    await self.identity.take(AUTH, _token(body, "cred"))
                    owner = self.identity.caller.owner
                    return {"auth": {"uid": owner}} if owner else {}
            return ""
        finally:
            if self.identity.caller != before:
                await self._caller_changed()

    async def _caller_changed(self) -> None:
        await self.listeners.caller_changed(lambda listener: self._watch(listener.place, query_of(listener.query)))
        for listener in self.listeners.at_requests():
            await self._push_request(listener)

    async def _listen(self, number: Any, body: dict[str, Any]) -> None:
        path, tag, hash_ = _path(body), _tag(body), body.get("h") or ""
        query, place = query_of(body.get("q")), place_of(path)
        if self.listeners.full:
            raise Refused("too_many_listens", "this connection listens to too many places")
        if place is None or place.request:
            value = None
            if place is not None:
                query.check(place.path)
                value = dig(await self.requests.value(place.name, self.identity.caller), place.path)
            self.listeners.note(Listener(path, tag, place))
            if not hash_ or hash_of(value) != hash_:
                await self.listeners.push(path, tag, value)
            await self.sender.data({"r": number, "b": {"s": "ok", "d": {}}})
            return
        query.check(place.path)
        watch = self._watch(place, query)
        self.listeners.start(Listener(path, tag, place, body.get("q")), watch, number, hash_)

    async def _get(self, number: Any, body: dict[str, Any]) -> None:
        query, place = query_of(body.get("q")), place_of(_path(body))
        before = f'{{"t":"d","d":{{"r":{msgspec.json.encode(number).decode()},"b":{{"s":"ok","d":'
        if place is None or place.request:
            value = await self.requests.value(place.name, self.identity.caller) if place else None
            await self.sender.data({"r": number, "b": {"s": "ok", "d": dig(value, place.path if place else ())}})
            return
        query.check(place.path)
        watch = Watch(self.sessions, place, query, self.identity.caller, self.requests.storage)
        async with self.listeners.reading:
            await self.sender.send_pieces(before, watch.pieces(), "}}}", watch.most_pieces)

    async def _put(self, body: dict[str, Any]) -> str:
        """A push to `/requests`; nothing else can be written."""
        path = path_of(_path(body))
        if len(path) != 2 or path[0] != REQUESTS or "h" in body:
            raise PermissionDenied
        if self.limits is not None:
            await self.limits.request(self.identity.caller)
        value = await self.requests.put(path[1], body.get("d"), self.identity.caller)
        for listener in self.listeners.at_requests():
            if listener.place is not None and listener.place.name == path[1]:
                await self.listeners.push(listener.path, listener.tag, dig(value, listener.place.path))
        return ""

    async def _push_request(self, listener: Listener) -> None:
        assert listener.place is not None
        value = await self.requests.value(listener.place.name, self.identity.caller)
        await self.listeners.push(listener.path, listener.tag, dig(value, listener.place.path))

    def _watch(self, place: Place | None, query: Query) -> Watch:
        assert place is not None
        caller, storage = self.identity.caller, self.requests.storage
        return Watch(self.sessions, place, query, caller, storage, self.listeners.turn, patient=True)

    async def _revoked(self) -> None:
        """Until a token is no longer good, of which the client is told and then closed: it comes with a new one."""
        kind = await self.identity.over()
        await self.sender.data({"a": REVOKED[kind], "b": {"s": "expired_token", "d": EXPIRED}})
        await self.sender.close(TRY_AGAIN, "a token is no longer good")

    def _storage_changed(self, _trouble: str | None) -> None:
        self._troubled.set()

    async def _tell_trouble(self) -> None:
        while True:
            await self._troubled.wait()
            self._troubled.clear()
            await self.listeners.storage_changed()


def _path(body: dict[str, Any]) -> str:
    path = body.get("p")
    if not isinstance(path, str):
        raise Refused("invalid_request", PATH_NEEDED)
    return path


def _tag(body: dict[str, Any]) -> int | None:
    tag = body.get("t")
    if tag is not None and type(tag) is not int:
        raise Refused("invalid_request", "a tag is a whole number")
    return tag


def _token(body: dict[str, Any], name: str) -> str:
    token = body.get(name)
    if not isinstance(token, str):
        raise TokenRefused
    return token
