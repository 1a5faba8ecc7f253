"""What goes wrong, on request: answers that are no answers, and answers with something amiss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec
from starlette.responses import HTMLResponse, Response
from starlette.types import Receive, Scope, Send

from .feeds import Feed
from .paging import Page, cursor_of
from .pins import story_module
from .state import State

RETRY_AFTER_S = 1
_ERRORS = {"rate_limited": 429, "rate_limited_bare": 429, "e500": 500, "e502": 502, "e503": 503, "forbidden": 403}
_MESSAGES = {429: "Too many requests", 403: "Access forbidden", 500: "Something went wrong on our end"}
_RENAMED = {
    "videos": "media_videos",
    "story_pin_data": "story_data",
    "carousel_data": "carousel",
    "embed": "embedded",
}


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An answer that breaks off in its middle, or whose end never comes."""

    body: bytes
    hangs: bool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})
        while self.hangs and (await receive())["type"] != "http.disconnect":
            pass


def fault_at(state: State, feed: Feed, page: Page, asked_gated: bool) -> str | None:
    """The fault that strikes this page now. The page's own, gated requests use up a fault of their own."""
    options = feed.options
    if options.fault is None or options.fault.startswith("cdn_"):
        return None
    struck = {"first": page.first, "middle": page.middle, "last": page.last}
    if not struck.get(options.at, options.at == str(page.number)):
        return None
    return options.fault if state.use(f"{feed.key} {asked_gated}", options.times) else None


def fault_on_html(state: State, feed: Feed) -> Response | None:
    if feed.options.at != "page" or feed.options.fault is None:
        return None
    if not state.use(f"{feed.key} page", feed.options.times):
        return None
    return refusal(feed.options.fault)


def refusal(fault: str) -> Response | None:
    """An answer without data; None where the fault lies in the data."""
    if fault in _ERRORS:
        status = _ERRORS[fault]
        headers = {"Retry-After": str(RETRY_AFTER_S)} if fault == "rate_limited" else None
        return error_response(status, 8, _MESSAGES.get(status, "Upstream error"), headers)
    if fault == "login_wall":
        return HTMLResponse(_wall("Log in to see more", "login-form", "Log in to see more ideas"))
    if fault == "consent_wall":
        return HTMLResponse(_wall("Before you continue", "consent-form", "We use cookies. Accept all?"))
    return None


def broken(fault: str, body: bytes) -> Response | Unfinished | None:
    """The body, spoilt on its way."""
    match fault:
        case "truncated":
            return Response(body[: len(body) // 2], media_type="application/json")
        case "cut":
            return Unfinished(body, hangs=False)
        case "hang":
            return Unfinished(body, hangs=True)
    return None


def amiss_page(fault: str | None, feed: Feed, page: Page) -> Page:
    match fault:
        case "empty_page":
            return replace(page, entries=(), cursor=cursor_of(feed, page.start, page.number + 1))
        case "loop":
            return replace(page, cursor=page.own_cursor)
        case "no_cursor":
            return replace(page, cursor=None)
    return page


def amiss_results(fault: str | None, results: list[Any]) -> list[Any]:
    match fault:
        case "nulls":
            return [
                shown for n, result in enumerate(results) for shown in ((None, result) if n % 5 == 0 else (result,))
            ]
        case "stories":
            return [
                shown
                for n, result in enumerate(results)
                for shown in ((story_module(n), result) if n % 5 == 0 else (result,))
            ]
        case "renamed_field":
            return [_renamed(msgspec.json.decode(msgspec.json.encode(result))) for result in results]
    return results


def changed_envelope(results: list[Any], cursor: str | None) -> dict[str, Any]:
    return {"payload": {"items": results, "next": cursor}, "meta": {"code": 0}}


def error_response(status: int, code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    error = {"http_status": status, "code": code, "message": message, "status": "failure"}
    envelope = {
        "resource_response": {"status": "failure", "code": code, "message": message, "data": None, "error": error},
        "client_context": {},
        "request_identifier": "0",
    }
    return Response(msgspec.json.encode(envelope), status, headers, "application/json")


def _renamed(result: Any) -> Any:
    if not isinstance(result, dict):
        return result
    return {_RENAMED.get(key, key): value for key, value in result.items()}


def _wall(title: str, form: str, words: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><title>{title}</title></head><body>'
        f'<form data-test-id="{form}" method="post" action="/login/"><h1>{words}</h1>'
        '<button type="submit">Continue</button></form></body></html>'
    )
