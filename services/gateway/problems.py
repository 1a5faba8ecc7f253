"""What is answered to a request that cannot be carried out: a problem document (RFC 9457) that names the field."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from libs.common import metrics
from libs.common.errors import PinstreamError

MEDIA_TYPE = "application/problem+json"
COME_BACK_S = 5.0  # what a client is told to wait while the broker is away
ELSEWHERE_S = 1.0  # likewise where another gateway can take it
MOST_CHARACTERS = 500


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was refused. `type` is `urn:pinstream:<code>`; `field` is what was wrong.

    A field is the path of a member of the body, such as `filters.min_height`, the name of a parameter or of a header,
    or `body` for the body as a whole. `retry_after_s` is in seconds.
    """

    type: str
    title: str
    status: int
    code: str
    detail: str
    instance: str
    field: str | None = None
    retry_after_s: float | None = None


class Problem(PinstreamError):
    """A request is refused; `str` is the detail."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        retry_after_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail[:MOST_CHARACTERS])
        self.status, self.code, self.field = status, code, field
        self.retry_after_s = retry_after_s
        self.headers = dict(headers or {})

    def answer(self, request: Request) -> Response:
        """The document."""
        metrics.gateway_refusals.add(1, {"protocol": "rest", "code": self.code})
        document = ProblemDocument(
            type=f"urn:pinstream:{self.code}",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            code=self.code,
            detail=str(self),
            instance=request.url.path,
            field=self.field,
            retry_after_s=self.retry_after_s,
        )
        later = {} if self.retry_after_s is None else retry_after(self.retry_after_s)
        headers = {"Cache-Control": "no-store", **self.headers, **later}
        return Response(msgspec.json.encode(document), self.status, headers, MEDIA_TYPE)


def retry_after(seconds: float) -> dict[str, str]:
    """The header; a second at least."""
    return {"Retry-After": str(max(1, round(seconds)))}


async def answer_problem(request: Request, error: Exception) -> Response:
    """The handler of Problem."""
    assert isinstance(error, Problem)
    return error.answer(request)


async def answer_http_error(request: Request, error: Exception) -> Response:
    """The handler of what the router refuses: a path, a method."""
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "_")
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        detail = f"{request.method} is not possible here"
    elif error.status_code == HTTPStatus.NOT_FOUND:
        detail = "there is nothing at this address; /openapi.json lists what there is"
    else:
        detail = str(error.detail)
    return Problem(error.status_code, code, detail, headers=error.headers).answer(request)


async def answer_failure(request: Request, _error: Exception) -> Response:
    """The handler of what nobody expected; it is logged by the server."""
    return Problem(500, "internal_error", "the gateway failed; its log says why").answer(request)
