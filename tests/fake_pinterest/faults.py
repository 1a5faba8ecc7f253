"""What goes wrong, on request: answers that are no answers, and answers with something amiss."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import Receive, Scope, Send

from .feeds import Feed
from .paging import Page, cursor_of
from .pins import story_module
from .state import State

RETRY_AFTER_S = 1
LONG_RETRY_AFTER_S = 3600
HUGE_BYTES = 6_000_000
_ERRORS = {
    "rate_limited": 429,
    "rate_limited_bare": 429,
    "rate_limited_date": 429,
    "rate_limited_zero": 429,
    "rate_limited_long": 429,
    "e500": 500,
    "e502": 502,
    "e503": 503,
    "e503_retry_after": 503,
    "unauthorized": 401,
    "missing": 404,
    "forbidden": 403,
}
_CHUNK = b" " * 1_048_576
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
    media_type: bytes = b"application/json"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", self.media_type), (b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.body[: len(self.body) // 2], "more_body": True})
        while self.hangs and (await receive())["type"] != "http.disconnect":
            pass


class Endless:
    """An answer that goes on and on, as fast as it is taken."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        gone = asyncio.ensure_future(_gone(receive))
        while not gone.done():
            await send({"type": "http.response.body", "body": _CHUNK, "more_body": True})
            await asyncio.sleep(0)
        await gone


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def fault_at(state: State, feed: Feed, page: Page, asked_gated: bool) -> str | None:
    """The fault that strikes this page now. The page's own, gated requests use up a fault of their own."""
    options = feed.options
    if options.fault is None or options.of != "self" or options.fault.startswith("cdn_"):
        return None
    struck = {"first": page.first, "middle": page.middle, "last": page.last}
    if not struck.get(options.at, options.at == str(page.number)):
        return None
    return options.fault if state.use(f"{feed.key} {asked_gated}", options.times) else None


def fault_on_html(state: State, feed: Feed, page: Callable[[], Response]) -> Response | Unfinished | None:
    """What is given instead of `page`, the HTML of a list or of a pin."""
    fault = feed.options.fault
    if feed.options.at != "page" or fault is None or not state.use(f"{feed.key} page", feed.options.times):
        return None
    if fault in ("cut", "hang"):
        return Unfinished(bytes(page().body), fault == "hang", b"text/html; charset=utf-8")
    if fault.startswith("lead_"):
        return _led(fault, f"http://127.0.0.1:{feed.options.hostile or 9}/{fault}")
    if fault in _SCRIPTS:
        return HTMLResponse(f"<!doctype html><title>A page</title><script>{_SCRIPTS[fault]}</script>")
    if fault == "blank":
        return HTMLResponse("<!doctype html><title>A page</title><p>We couldn't find that page</p>")
    return refusal(fault)


def fault_on_pin(state: State, feed: Feed | None, pin: str) -> str | None:
    """The fault that strikes PinResource now, for a pin of `feed`; each pin has its own."""
    if feed is None or feed.options.at != "pin" or feed.options.fault is None:
        return None
    return feed.options.fault if state.use(f"{feed.key} pin {pin}", feed.options.times) else None


def fault_on_lookup(state: State, feed: Feed, name: str) -> str | None:
    """The fault that strikes the resource `name`, which tells of a board, its sections or a user."""
    if feed.options.at != "lookup" or feed.options.fault is None:
        return None
    return feed.options.fault if state.use(f"{feed.key} {name}", feed.options.times) else None


def retry_after(fault: str) -> str | None:
    match fault:
        case "rate_limited" | "e503_retry_after":
            return str(RETRY_AFTER_S)
        case "rate_limited_date":
            return format_datetime(datetime.now(UTC) + timedelta(seconds=RETRY_AFTER_S + 1), usegmt=True)
        case "rate_limited_zero":
            return "0"
        case "rate_limited_long":
            return str(LONG_RETRY_AFTER_S)
    return None


def refusal(fault: str) -> Response | None:
    """An answer without data; None where the fault lies in the data."""
    if fault in _ERRORS:
        status = _ERRORS[fault]
        wait = retry_after(fault)
        headers = {"Retry-After": wait} if wait else None
        return error_response(status, 8, _MESSAGES.get(status, "Upstream error"), headers)
    if fault == "error_in_200":
        return _as_success(error_response(429, 8, "You have exceeded your rate limit. Try again later."))
    if fault == "failure_in_200":
        told = {"status": "failure", "code": 12, "message": "Something went wrong", "data": None, "http_status": 200}
        return Response(msgspec.json.encode({"resource_response": told}), media_type="application/json")
    if fault == "login_redirect":
        return RedirectResponse("/login/?next=%2Fsearch%2F", 302)
    return wall(fault) if fault in ("login_wall", "consent_wall") else None


def wall(kind: str) -> Response:
    """A login or consent page, with status 200."""
    if kind == "login_wall":
        return HTMLResponse(_wall("Log in to see more", "login-form", "Log in to see more ideas"))
    return HTMLResponse(_wall("Before you continue", "consent-form", "We use cookies. Accept all?"))


def redirected(fault: str | None, request: Request) -> Response | None:
    """Another address for the same answer: on this host, or on another of the site's."""
    if fault == "moved":
        return RedirectResponse(f"{request.url.path}?{request.url.query}&moved=1", 302)
    if fault == "country_host":
        host = "de.pinterest.com" if request.url.scheme == "https" else f"localhost:{request.url.port}"
        return RedirectResponse(f"{request.url.scheme}://{host}{request.url.path}?{request.url.query}", 302)
    return None


def broken(fault: str, body: bytes) -> Response | Unfinished | Endless | None:
    """The body, spoilt on its way, or in a wrapping that is allowed but rare."""
    match fault:
        case "bom":
            return Response(b"\xef\xbb\xbf" + body, media_type="application/json")
        case "gzip":
            return Response(gzip.compress(body), 200, {"Content-Encoding": "gzip"}, "application/json")
        case "huge":
            return Response(body + b" " * HUGE_BYTES, media_type="application/json")
        case "endless":
            return Endless()
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
        case "repeats":
            return replace(page, entries=page.entries + page.entries[: len(page.entries) // 2])
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


def amiss_envelope(fault: str | None, envelope: dict[str, Any]) -> dict[str, Any]:
    """The cursor as a list, or under another name."""
    response, options = envelope["resource_response"], envelope["resource"]["options"]
    cursor = response.get("bookmark")
    if cursor is not None and fault == "bookmark_list":
        return envelope | {"resource_response": response | {"bookmark": [cursor]}}
    if fault == "bookmark_renamed":
        kept = {key: value for key, value in response.items() if key != "bookmark"}
        asked = {key: value for key, value in options.items() if key != "bookmarks"}
        resource = envelope["resource"] | {"options": asked}
        return envelope | {"resource_response": kept | {"next_cursor": cursor}, "resource": resource}
    return envelope


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


def _as_success(response: Response) -> Response:
    response.status_code = 200
    return response


def _renamed(result: Any) -> Any:
    if not isinstance(result, dict):
        return result
    return {_RENAMED.get(key, key): value for key, value in result.items()}


_SCRIPTS = {
    "spin": "for (;;) {}",
    "reload": "location.reload()",
    "login_script": "location.href = '/login/'",
}


def _led(fault: str, address: str) -> Response:
    """A page that leads elsewhere."""
    if fault == "lead_302":
        return RedirectResponse(address, 302)
    if fault == "lead_meta":
        return HTMLResponse(
            f'<!doctype html><meta http-equiv="refresh" content="0;url={address}"><title>A page</title>'
        )
    return HTMLResponse(f"<!doctype html><title>A page</title><script>location.replace({address!r})</script>")


def _wall(title: str, form: str, words: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><title>{title}</title></head><body>'
        f'<form data-test-id="{form}" method="post" action="/login/"><h1>{words}</h1>'
        '<button type="submit">Continue</button></form></body></html>'
    )
