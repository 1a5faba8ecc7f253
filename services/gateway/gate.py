"""The gate: before anything else it is found out who asks; whose key is revoked or expires is cut off in mid-course."""

from __future__ import annotations

from msgspec.structs import replace
from starlette.types import ASGIApp, Receive, Scope, Send

from libs.common.errors import BrokerUnavailable, PublishRefused
from libs.common.frames import CloseCode, ErrorCode
from services.gateway.access import NEEDED, Access
from services.gateway.callers import SCOPE_KEY, TokenRefused
from services.gateway.door import PLACE_KEY
from services.gateway.guard import Guard
from services.gateway.limits import Limited, Limits
from services.gateway.problems import COME_BACK_S
from services.gateway.refusals import is_open, refuse

NOTICE_S = 0.5  # in which a protocol that has a word of its own for it tells its client


class Gate:
    """ASGI middleware. `late` are beginnings of paths whose clients may give their token after they have connected:
    they come in as callers that are not admitted, and what serves them asks `Access` whose the token is."""

    def __init__(self, app: ASGIApp, access: Access, limits: Limits | None = None, late: tuple[str, ...] = ()) -> None:
        self.app, self.access, self.limits, self.late = app, access, limits, late

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] not in ("http", "websocket") or is_open(scope):
            await self.app(scope, receive, send)
            return
        late = bool(self.late) and scope["path"].startswith(self.late)
        try:
            caller = await self.access.caller(scope)
            if not caller.admitted and not late:
                raise TokenRefused(NEEDED)
        except TokenRefused as error:
            await refuse(scope, receive, send, 401, CloseCode.TOKEN_REFUSED, "unauthorized", str(error))
            return
        except (BrokerUnavailable, PublishRefused):
            why = "what you came with cannot be checked now; try again"
            wait_s = COME_BACK_S if scope["type"] == "http" else None  # over a socket clients take an error for an end
            await refuse(scope, receive, send, 503, CloseCode.UNAVAILABLE, ErrorCode.UNAVAILABLE, why, wait_s)
            return
        if scope["type"] == "http" and self.limits is not None:
            try:
                await self.limits.request(caller)
            except Limited as error:
                await refuse(scope, receive, send, 429, None, error.code, str(error), error.retry_after_s)
                return
        scope[SCOPE_KEY] = replace(caller, place=scope.get(PLACE_KEY, ""))
        guard = Guard(scope, receive, send, NOTICE_S if late else 0.0)
        with self.access.held(caller, guard.end):
            await guard.serve(self.app)
