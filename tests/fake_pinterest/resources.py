"""`/resource/<Name>/get/`: the JSON that the site's own pages ask for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import anyio
import msgspec
from msgspec import Raw
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from . import feeds
from .catalogue import read_pin
from .faults import (
    Endless,
    Unfinished,
    amiss_envelope,
    amiss_page,
    amiss_results,
    broken,
    changed_envelope,
    error_response,
    fault_at,
    fault_on_lookup,
    fault_on_pin,
    redirected,
    refusal,
)
from .feeds import MODULE, Feed
from .options import BadOption
from .origins import Origins, origins_of
from .paging import MOST_A_PAGE, USUAL_A_PAGE, BadCursor, Page, page_of
from .pins import board_json, detailed_pin, person_json, search_pin, story_module, stub
from .state import State

Options = dict[str, Any]
Answer = Response | Unfinished | Endless


class Refused(Exception):
    """The request is answered with this error."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


class Resources:
    """An ASGI application, because a cut connection is no Starlette response."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._feeds: dict[str, Callable[[Options], Feed | None]] = {
            "BoardFeedResource": self._board_feed,
            "BoardSectionPinsResource": self._section_feed,
            "UserPinsResource": lambda options: feeds.user_feed(_text(options, "username"), "saved"),
            "UserActivityPinsResource": lambda options: feeds.user_feed(_text(options, "username"), "created"),
            "RelatedPinFeedResource": self._related_feed,
            "RelatedModulesResource": lambda options: self._beside(_text(options, "pin_id", "pin")),
        }
        self._things: dict[str, Callable[[Options, Origins], Any]] = {
            "PinResource": self._pin,
            "BoardResource": self._board,
            "BoardSectionResource": _section,
            "BoardSectionsResource": self._sections,
            "BoardsResource": _boards,
            "UserResource": _user,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            answer = await self._answer(request)
        except Refused as refused:
            answer = error_response(refused.status, refused.code, refused.message)
        except (BadOption, BadCursor) as error:
            answer = error_response(400, 1, str(error))
        await answer(scope, receive, send)

    async def _answer(self, request: Request) -> Answer:
        if not request.headers.get("x-pinterest-pws-handler", "").startswith("www/"):
            return _plain_refusal()
        name, options = request.path_params["name"], await _options_of(request)
        origins = origins_of(request)
        feed = self._feed_of(name, options)
        latency_ms = self._state.latency_ms
        if feed and feed.options.latency_ms is not None:
            latency_ms = feed.options.latency_ms
        if latency_ms:
            await anyio.sleep(latency_ms / 1000)
        if feed and feed.options.uri and len(request.url.path + request.url.query) > feed.options.uri:
            raise Refused(414, 1, "URI Too Long")
        if feed:
            return self._page(request, name, options, feed, origins)
        if name in self._things:
            envelope = _envelope(name, options, self._things[name](options, origins), None)
            fault = self._fault_on_pin(options) if name == "PinResource" else self._fault_on_lookup(name, options)
            if fault == "changed_envelope":
                return _json({"payload": envelope["resource_response"]["data"], "meta": {"code": 0}})
            spoilt = (refusal(fault) or broken(fault, msgspec.json.encode(envelope))) if fault else None
            return spoilt or _json(envelope)
        raise Refused(404, 11, f"No such resource: {name}")

    def _feed_of(self, name: str, options: Options) -> Feed | None:
        if name == "BaseSearchResource":
            feed: Feed | None = feeds.search_feed(_text(options, "query"), str(options.get("scope", "pins")))
        elif name in self._feeds:
            feed = self._feeds[name](options)
            if feed is None:
                raise Refused(404, 40, "Sorry! We couldn't find that.")
        else:
            return None
        assert feed is not None
        self._state.remember(feed)
        return feed

    def _fault_on_pin(self, options: Options) -> str | None:
        pin = read_pin(_text(options, "id"))
        return fault_on_pin(self._state, self._state.feed(pin.ids.tag), pin.id) if pin else None

    def _fault_on_lookup(self, name: str, options: Options) -> str | None:
        if "board_id" in options:
            feed = feeds.feed_of_board(_text(options, "board_id"))
            feed = self._state.board(feed) if feed else None
        elif "slug" in options:
            feed = feeds.board_feed(_text(options, "username"), _text(options, "slug"))
        else:
            feed = feeds.user_feed(_text(options, "username"), "saved") if "username" in options else None
        return fault_on_lookup(self._state, feed, name) if feed else None

    def _page(self, request: Request, name: str, options: Options, feed: Feed, origins: Origins) -> Answer:
        page = page_of(feed, options.get("bookmarks"), _page_size(options))
        asked_gated = options.get("gated") is True
        fault = fault_at(self._state, feed, page, asked_gated) if "moved" not in request.query_params else None
        refused = (refusal(fault) or redirected(fault, request)) if fault else None
        if refused:
            return refused
        page = amiss_page(fault, feed, page)
        gated = asked_gated if feed.options.gated == "asked" else feed.options.gated == "always"
        results = amiss_results(fault, self._results(feed, page, origins, gated or fault == "stubs"))
        if fault == "changed_envelope":
            return _json(changed_envelope(results, page.cursor))
        data = {"results": results, "nag": None} if name == "BaseSearchResource" else results
        envelope = amiss_envelope(fault, _envelope(name, options, data, page))
        spoilt = broken(fault, msgspec.json.encode(envelope)) if fault else None
        return spoilt or _json(envelope)

    def _results(self, feed: Feed, page: Page, origins: Origins, gated: bool) -> list[Any]:
        bare, named = feed.options.bare, feed.options.named
        return [
            story_module(n)
            if entry == MODULE
            else shown_pin(entry, feed.topic, origins, gated or bool(bare and n % bare == 0), named)
            for n, entry in enumerate(page.entries, page.start)
        ]

    def _pin(self, options: Options, origins: Origins) -> Any:
        pin = read_pin(_text(options, "id"))
        if pin is None:
            raise Refused(404, 50, "Sorry! We couldn't find that pin.")
        return detailed_pin(pin, self._state.topic(pin.ids.tag), origins)

    def _board(self, options: Options, origins: Origins) -> Any:
        username, slug = _text(options, "username"), _text(options, "slug")
        self._state.remember(_found(feeds.board_feed(username, slug)))
        return board_json(username, slug, origins)

    def _board_feed(self, options: Options) -> Feed | None:
        feed = feeds.feed_of_board(_text(options, "board_id"))
        if feed is None:
            return None
        feed = self._state.board(feed)
        hides = options.get("filter_section_pins") is True or feed.options.sections == "apart"
        return replace(feed, part=0 if hides else None)

    def _sections(self, options: Options, origins: Origins) -> Any:
        board = self._state.board(_found(feeds.feed_of_board(_text(options, "board_id"))))
        parts = [replace(board, key=f"{board.key}/{n}", part=n) for n in range(1, len(feeds.SECTIONS) + 1)]
        for part in parts:
            self._state.remember(part)
        return [_section_json(part, None) for part in parts]

    def _related_feed(self, options: Options) -> Feed | None:
        """Of one pin in four it knows nothing, and RelatedModulesResource all."""
        pin = _text(options, "pin", "pin_id")
        return self._beside(pin) if not feeds.is_related_by_modules_alone(pin) else None

    def _beside(self, id_: str) -> Feed | None:
        pin = read_pin(id_)
        return feeds.related_feed(id_, self._state.feed(pin.ids.tag)) if pin else None

    def _section_feed(self, options: Options) -> Feed | None:
        feed = feeds.feed_of_board(_text(options, "section_id"))
        return self._state.board(feed) if feed and feed.part else None


@lru_cache(maxsize=16_384)
def shown_pin(pin_id: str, topic: str, origins: Origins, gated: bool, named: bool = False) -> Raw:
    pin = read_pin(pin_id)
    assert pin is not None
    return Raw(msgspec.json.encode(stub(pin, topic, origins) if gated else search_pin(pin, topic, origins, named)))


def _boards(options: Options, origins: Origins) -> Any:
    return [board_json(_text(options, "username"), slug, origins) for slug in ("slow-crafts", "studio-notes")]


def _user(options: Options, origins: Origins) -> Any:
    username = _text(options, "username")
    if username in (feeds.GHOST, feeds.GONE[0]):
        raise Refused(404, 30, "User not found.")
    return person_json(username, origins)


def _section(options: Options, origins: Origins) -> Any:
    if "section_id" in options:
        return _section_json(_found(feeds.feed_of_board(_text(options, "section_id"))), None)
    username, slug = _text(options, "username"), _text(options, "board_slug")
    feed = _found(feeds.section_feed(username, slug, _text(options, "section_slug")))
    return _section_json(feed, board_json(username, slug, origins))


def _section_json(feed: Feed, board: Any) -> Options:
    slug = feeds.SECTIONS[(feed.part or 1) - 1]
    owned = board or {"id": replace(feed, part=None).board_id, "name": "A board", "owner": {"username": "someone"}}
    count = sum(1 for _ in feed.catalogue())
    title = slug.replace("-", " ").capitalize()
    return {
        "id": feed.board_id,
        "type": "board_section",
        "slug": slug,
        "title": title,
        "board": owned,
        "pin_count": count,
    }


async def _options_of(request: Request) -> Options:
    if request.method == "POST":
        token = request.headers.get("x-csrftoken")
        if not token or token != request.cookies.get("csrftoken"):
            raise Refused(403, 1, "CSRF token missing or incorrect")
        data: Any = dict(parse_qsl((await request.body()).decode())).get("data")
    else:
        data = request.query_params.get("data")
    try:
        options = msgspec.json.decode(str(data).encode(), type=dict[str, Any])["options"]
    except (msgspec.DecodeError, KeyError) as error:
        raise Refused(400, 1, "Invalid data parameter") from error
    if not isinstance(options, dict):
        raise Refused(400, 1, "Invalid data parameter")
    return options


def _page_size(options: Options) -> int:
    size = options.get("page_size") or USUAL_A_PAGE
    if not isinstance(size, int) or size < 1:
        raise Refused(400, 1, "Invalid page size")
    if size > MOST_A_PAGE:
        raise Refused(400, 1, f"Page size exceeds maximum value of {MOST_A_PAGE}")
    return size


def _text(options: Options, *names: str) -> str:
    for name in names:
        if isinstance(options.get(name), str | int):
            return str(options[name])
    raise Refused(400, 1, f"Missing parameter: {names[0]}")


def _found(thing: Any) -> Any:
    if thing is None:
        raise Refused(404, 40, "Sorry! We couldn't find that.")
    return thing


def _envelope(name: str, options: Options, data: Any, page: Page | None) -> Options:
    cursor = page.cursor if page else None
    echoed = {key: value for key, value in options.items() if key != "bookmarks"}
    if cursor is not None:
        echoed["bookmarks"] = [cursor]
    response: Options = {
        "status": "success",
        "code": 0,
        "message": "ok",
        "endpoint_name": f"v3_{name.removesuffix('Resource').lower()}",
        "data": data,
        "x_pinterest_sli_endpoint_name": f"v3_{name.lower()}",
        "http_status": 200,
    }
    if cursor is not None:
        response["bookmark"] = cursor
    return {
        "resource_response": response,
        "client_context": {"is_authenticated": False, "country": "US", "language": "en", "user": {}},
        "resource": {"name": name, "options": echoed},
        "request_identifier": "4817203391",
    }


def _json(content: Any) -> Answer:
    return Response(msgspec.json.encode(content), media_type="application/json")


def _plain_refusal() -> Answer:
    return PlainTextResponse("Invalid Resource Request", 403)
