"""The client's exceptions.

PinstreamError
├── BrokerMissing       no nats-server can be run here
├── StackFailed         a service did not start
├── GatewayUnreachable  the gateway does not answer
├── RequestRefused      the gateway refused an operation; carries code and field
└── SearchFailed        the session ended for a fault; carries the reason
"""

from __future__ import annotations

from libs.common.errors import PinstreamError
from libs.common.messages import Reason


class BrokerMissing(PinstreamError):
    """No nats-server can be run here."""


class StackFailed(PinstreamError):
    """A service did not start."""


class GatewayUnreachable(PinstreamError):
    """The gateway does not answer; start it with `pinstream up`."""


class RequestRefused(PinstreamError):
    """The gateway refused an operation; `field` is the path of what was wrong with it."""

    def __init__(self, code: str, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.field = code, message, field


class SearchFailed(PinstreamError):
    """The session ended for a fault, after all that was found had been given."""

    def __init__(self, reason: Reason, message: str | None) -> None:
        super().__init__(message or f"the search ended: {reason}")
        self.reason = reason
