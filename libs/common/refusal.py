"""What the broker says when it does not do as asked, as exceptions of the project."""

from __future__ import annotations

import msgspec

from libs.common.errors import AlreadyExists, BrokerUnavailable, Fenced, PublishRefused, StreamFull, TooLarge

WRONG_LAST_SEQUENCE = 10071
UNDER_WAY = 10164  # by several replicas: a publish with a condition on the same subjects is not decided yet
STORE_FAILED = 10077
NO_ROOM = (10002, 10023, 10028, 10047)  # limits of the account, of the server's memory and of its disk
TOO_LARGE = 10054
NO_STREAM = 10059
NO_CONSUMER = 10014
NO_MESSAGE = (10037, 10043, 10057)  # for a read, for a removal


class ApiError(msgspec.Struct):
    """The `error` of an answer."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class ApiRefused(PublishRefused):
    """The broker refused a JetStream request; `err_code` says why."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(f"{error.description} ({error.err_code})")
        self.err_code = error.err_code


def refusal(subject: str, error: ApiError, *, fenced: bool) -> Exception:
    """What the refusal of a message on `subject` means."""
    if error.err_code == WRONG_LAST_SEQUENCE:
        return Fenced(f"{subject}: {error.description}") if fenced else AlreadyExists(subject)
    if error.err_code == STORE_FAILED:
        return (
            AlreadyExists(subject)
            if "per subject" in error.description
            else StreamFull(f"{subject}: {error.description}")
        )
    if error.err_code in NO_ROOM:
        return StreamFull(f"{subject}: {error.description}")
    if error.err_code == TOO_LARGE:
        return TooLarge(f"{subject}: {error.description}")
    if error.code == 503 or error.err_code == UNDER_WAY:
        return BrokerUnavailable(f"{subject}: {error.description}")
    return PublishRefused(f"{subject}: {error.description} ({error.err_code})")
