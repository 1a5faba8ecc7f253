"""`/requests`: what is pushed there begins a session, whose id is then found under the same key.

The id is derived from the caller and the push id, so nothing is remembered but the session: the same push, sent again
after a lost connection and through any gateway, is the same session.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import Any

import msgspec

from libs.common import subjects
from libs.common.errors import BrokerUnavailable, PinstreamError, PublishRefused
from libs.common.frames import InitiateExtraction
from libs.common.messages import RequestRecord
from libs.common.telemetry import received
from services.gateway.callers import Caller
from services.gateway.firebase.tree import PermissionDenied, node
from services.gateway.idempotency import KeyEnding, KeyReused, session_derived
from services.gateway.limits import Limited
from services.gateway.operations import InvalidOperation, parse_operation
from services.gateway.problems import COME_BACK_S, ELSEWHERE_S
from services.gateway.sessions import REFUSALS, Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.storage import Storage, trouble_of
from services.gateway.webhooks.target import receivers_of

PUSH_ID = re.compile(r"[-0-9A-Z_a-z]{20}")
ALPHABET = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"  # in the order of keys
OPERATION = "initiate_extraction"


class RequestRefused(PinstreamError):
    """What was pushed asks for nothing that can be searched."""


class Unavailable(PinstreamError):
    """Nothing can be begun now; try again."""

    def __init__(self, message: str | None = None, retry_after_s: float = COME_BACK_S) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Requests:
    """Begins sessions, and tells which one a push began."""

    def __init__(self, sessions: Sessions, storage: Storage, settings: GatewaySettings) -> None:
        self.sessions, self.storage = sessions, storage
        self.site, self.receivers = settings.site_url, receivers_of(settings)
        self.draining = False

    async def put(self, push_id: str, value: Any, caller: Caller) -> dict[str, Any]:
        """Begins the session that `value` asks for; returns what is under `/requests/<push_id>` from now on.

        Raises RequestRefused, PermissionDenied where something else is there, or Unavailable.
        """
        if not PUSH_ID.fullmatch(push_id) or not isinstance(value, dict):
            raise PermissionDenied
        wanted = self._wanted(value)
        if self.draining:
            raise Unavailable("this gateway is about to stop; try again", ELSEWHERE_S)
        session = session_of(caller, push_id)
        try:
            with received("receive /requests", {}, trusted=False, refusals=REFUSALS) as span:
                begun = await self.sessions.begin(wanted.parameters, caller=caller, keyed=session)
                span.set_attribute("pinstream.session", begun.session)
            there = await self._request(session)
        except KeyReused as error:
            raise PermissionDenied("another request is there; push a new one") from error
        except KeyEnding as error:
            raise PermissionDenied("the session of this request is no longer kept; push a new one") from error
        except Limited as error:
            raise Unavailable(f"{error}; try again in {error.retry_after_s:g} s", error.retry_after_s) from error
        except (BrokerUnavailable, PublishRefused) as error:
            connected = self.sessions.session_log.bus.connected
            raise Unavailable(f"{self.storage.trouble or trouble_of(error, connected=connected)}; try again") from error
        if there is None:
            raise Unavailable
        return self._echo(there, caller)

    async def value(self, push_id: str, caller: Caller) -> dict[str, Any] | None:
        """What is under `/requests/<push_id>`. Raises BrokerUnavailable."""
        if not caller.admitted or not PUSH_ID.fullmatch(push_id):
            return None
        there = await self._request(session_of(caller, push_id))
        return None if there is None else self._echo(there, caller)

    def _wanted(self, value: dict[str, Any]) -> InitiateExtraction:
        operation = value if "operation" in value else {"operation": OPERATION, "parameters": value}
        try:
            wanted = parse_operation(msgspec.json.encode(operation).decode(), self.site, self.receivers)
        except InvalidOperation as error:
            raise RequestRefused(str(error)) from error
        if not isinstance(wanted, InitiateExtraction):
            raise RequestRefused(f"operation must be {OPERATION}")
        return wanted

    async def _request(self, session: str) -> RequestRecord | None:
        there = await self.sessions.session_log.get(session, subjects.REQUEST)
        return there.message if there and isinstance(there.message, RequestRecord) else None

    def _echo(self, record: RequestRecord, caller: Caller) -> dict[str, Any]:
        return _echo(record, caller, self.sessions.secret_of(record))


def session_of(caller: Caller, push_id: str) -> str:
    """The id of the session that a push of `caller` begins; who does not know the push id cannot guess it."""
    return session_derived(caller, push_id, b"firebase-push-id")


def new_push_id() -> str:
    """As the SDKs make them: eight characters of time in milliseconds, twelve of chance; later ones come later."""
    milliseconds = int(time.time() * 1000)
    stamp = "".join(ALPHABET[milliseconds >> 6 * place & 63] for place in reversed(range(8)))
    return stamp + "".join(secrets.choice(ALPHABET) for _ in range(12))


def _echo(record: RequestRecord, caller: Caller, webhook_secret: str | None) -> dict[str, Any]:
    request = record.request
    scope = request.scope.removeprefix(caller.scope("")) if request.scope and caller.owner else request.scope
    told: dict[str, Any] = node(
        {
            "session_id": request.session,
            "search_query": request.query or None,
            "url": request.url,
            "result_limit": request.result_limit,
            "filters": msgspec.to_builtins(request.filters),
            "new_only": True if request.scope else None,
            "scope": scope,
            "callback_url": record.callback_url,
            "webhook_secret": webhook_secret,
            "requested_at": request.requested_at,
        }
    )
    return told
