"""The HTML: grids that fill themselves by script, and pin pages rendered in either of two shapes."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import quote

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from . import feeds
from .catalogue import Pin, read_pin
from .clips import best_file
from .faults import Unfinished, fault_on_html, wall
from .feeds import Feed
from .options import BadOption
from .origins import Origins, origins_of
from .paging import USUAL_A_PAGE, page_of
from .pins import detailed_pin, images_json, title_of
from .resources import shown_pin
from .signatures import clip_of
from .state import State
from .variants import every_rendition, picture_signature

_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "html"), autoescape=True, undefined=StrictUndefined
)
_PIN_ID = re.compile(r"(?:.*--)?(\d+)")


class Pages:
    def __init__(self, state: State) -> None:
        self._state = state

    async def home(self, request: Request) -> Response:
        return _page(request, "home.html", title="A stand-in", query="")

    async def search(self, request: Request) -> Response | Unfinished:
        scope, query = request.path_params["scope"], request.query_params.get("q", "")
        try:
            feed = feeds.search_feed(query, scope)
        except BadOption as error:
            return PlainTextResponse(str(error), 400)
        self._state.remember(feed)
        options = {
            "query": query,
            "scope": scope,
            "rs": request.query_params.get("rs", "typed"),
            "appliedProductFilters": "---",
            "auto_correction_disabled": False,
            "redux_normalize_feed": True,
            "gated": True,
        }
        props = self._first_page(feed, options, origins_of(request)) if feed.options.embedded else None
        parts = (request, feed.topic, "BaseSearchResource", "www/search/[scope].js", options, query, props)
        return self._or_fault(feed, lambda: self._grid(*parts))

    def _or_fault(self, feed: Feed, page: Callable[[], Response]) -> Response | Unfinished:
        return fault_on_html(self._state, feed, page) or page()

    async def away(self, request: Request) -> Response:
        """Leads to any address: for the hostile page."""
        return RedirectResponse(request.query_params["to"], 302)

    async def attachment(self, request: Request) -> Response:
        return PlainTextResponse("a file", headers={"Content-Disposition": 'attachment; filename="trap.txt"'})

    async def login(self, request: Request) -> Response:
        return wall("login_wall")

    async def board(self, request: Request) -> Response | Unfinished:
        username, slug = request.path_params["username"], request.path_params["slug"]
        if slug in ("_saved", "_created"):
            return await self.user(request)
        feed = feeds.board_feed(username, slug)
        if feed is None:
            return _missing()
        self._state.remember(feed)
        options = {"board_id": feed.board_id, "board_url": f"/{username}/{slug}/", "field_set_key": "react_grid_pin"}
        parts = (request, feed.topic, "BoardFeedResource", "www/[username]/[slug].js", options)
        return self._or_fault(feed, lambda: self._grid(*parts))

    async def section(self, request: Request) -> Response | Unfinished:
        names = (request.path_params[part] for part in ("username", "slug", "section"))
        feed = feeds.section_feed(*names)
        if feed is None:
            return _missing()
        self._state.remember(feed)
        handler = "www/[username]/[slug]/[section_slug].js"
        parts = (request, feed.topic, "BoardSectionPinsResource", handler, {"section_id": feed.board_id})
        return self._or_fault(feed, lambda: self._grid(*parts))

    async def user(self, request: Request) -> Response | Unfinished:
        username = request.path_params["username"]
        created = request.path_params.get("slug") == "_created"
        feed = feeds.user_feed(username, "created" if created else "saved")
        if feed is None:
            return _missing()
        self._state.remember(feed)
        resource = "UserActivityPinsResource" if created else "UserPinsResource"
        options = {"username": username, "field_set_key": "grid_item"}
        return self._or_fault(feed, lambda: self._grid(request, username, resource, "www/[username].js", options))

    async def pin(self, request: Request) -> Response | Unfinished:
        match = _PIN_ID.fullmatch(request.path_params["pin"])
        pin = read_pin(match[1]) if match else None
        if pin is None:
            return _missing()
        origins, topic = origins_of(request), self._state.topic(pin.ids.tag)
        shape = request.query_params.get("shape") or ("props", "relay")[self._state.turn() % 2]
        shown = detailed_pin(pin, topic, origins)
        props = _in_script({"initialReduxState": {"pins": {pin.id: shown}}}) if shape == "props" else None
        shown_page = partial(
            _page,
            request,
            "pin.html",
            title=title_of(pin, topic),
            query=topic,
            image=images_json(picture_signature(pin), origins)["736x"]["url"],
            videos=[_player(video, origins) for video in pin.videos if not video.startswith("https:")],
            props=props,
            relay=None if props else _relay(pin, shown, origins),
            options=msgspec.json.encode({"pin_id": pin.id}).decode(),
        )
        feed = self._state.feed(pin.ids.tag)
        return self._or_fault(feed, shown_page) if feed else shown_page()

    async def short(self, request: Request) -> Response:
        """`pin.it/<code>` and its two stations; the code is the pin's id in base 36, or a word."""
        code, origins = request.path_params["code"], origins_of(request)
        if request.url.hostname == "pin.it":
            return RedirectResponse(f"https://api.pinterest.com/url_shortener/{quote(code)}/redirect/", 302)
        leads = {
            "board": f"{origins.site}/mia/glazes/",
            "elsewhere": "https://example.com/pin/1/",
            "ideas": f"{origins.site}/ideas/",
            "national": "https://www.pinterest.co.uk/mia/glazes/",
        }
        if code in leads:
            return RedirectResponse(leads[code], 302)
        try:
            pin = read_pin(str(int(code, 36)))
        except ValueError:
            pin = None
        if pin is None:
            return _missing()
        return RedirectResponse(f"{origins.site}/pin/{pin.id}/sent/?invite_code=0&sfo=1", 302)

    async def pidgets(self, request: Request) -> Response:
        origins = origins_of(request)
        asked = request.query_params.get("pin_ids", "").split(",")
        pins = [pin for pin in map(read_pin, asked) if pin]
        shown = [detailed_pin(pin, self._state.topic(pin.ids.tag), origins) for pin in pins]
        kept = ("id", "description", "images", "videos", "story_pin_data", "embed", "pinner", "board", "dominant_color")
        return JSONResponse(
            {"status": "success", "code": 0, "data": [{key: pin[key] for key in kept} for pin in shown]}
        )

    async def preview(self, request: Request) -> Response:
        """What the grid's script asks for a card that it only has a stub of."""
        pin, origins = read_pin(request.path_params["pin"]), origins_of(request)
        if pin is None:
            return _missing()
        videos = [video for video in pin.videos if not video.startswith("https:")]
        return JSONResponse({"masters": [origins.media(clip_of(video).master, video) for video in videos]})

    def _first_page(self, feed: Feed, options: dict[str, Any], origins: Origins) -> Markup:
        page = page_of(feed, None, USUAL_A_PAGE)
        told = (feed.topic, origins, feed.options.gated == "always", feed.options.named)
        pins = {entry: shown_pin(entry, *told) for entry in page.entries if entry != feeds.MODULE}
        first = {"data": {"results": list(pins.values())}, "nextBookmark": page.cursor}
        asked = msgspec.json.encode(options).decode()
        return _in_script({"initialReduxState": {"pins": pins, "resources": {"BaseSearchResource": {asked: first}}}})

    def _grid(
        self,
        request: Request,
        title: str,
        resource: str,
        handler: str,
        options: dict[str, Any],
        query: str = "",
        props: Markup | None = None,
    ) -> Response:
        asked = msgspec.json.encode(options).decode()
        hostile = feeds.search_feed(query).options.hostile if query else None
        shown = {"resource": resource, "handler": handler, "options": asked, "query": query, "props": props}
        return _page(request, "grid.html", title=title or "Ideas", hostile=hostile, **shown)


def _player(signature: str, origins: Origins) -> dict[str, str | None]:
    file = best_file(clip_of(signature))
    return {"poster": origins.poster(signature), "file": origins.media(file, signature) if file else None}


def _relay(pin: Pin, shown: dict[str, Any], origins: Origins) -> dict[str, Markup]:
    data = _camel(shown) | {"entityId": pin.id, "__typename": "Pin"}
    _list_renditions(data, origins)
    request = msgspec.json.encode({"name": "UnauthPinPageQuery", "variables": {"pinId": pin.id}}).decode()
    return {"request": _in_script(request), "response": _in_script({"data": {"v3GetPinQueryv2": {"data": data}}})}


def _list_renditions(value: Any, origins: Origins) -> None:
    if isinstance(value, dict):
        if "videoList" in value:
            url = next(variant["url"] for variant in value["videoList"].values() if "url" in variant)
            value["videoUrls"] = every_rendition(url.rpartition("/")[2][:32], origins)
        for inner in value.values():
            _list_renditions(inner, origins)
    elif isinstance(value, list):
        for inner in value:
            _list_renditions(inner, origins)


def _camel(value: Any) -> Any:
    if isinstance(value, dict):
        return {_camel_key(key): _camel(inner) for key, inner in value.items()}
    return [_camel(inner) for inner in value] if isinstance(value, list) else value


def _camel_key(key: str) -> str:
    """`video_list` becomes videoList, `V_HLSV4` vHLSV4, `236x` stays."""
    first, *rest = key.split("_")
    if key.startswith("V_"):
        return "v" + "".join(rest)
    return first + "".join(word[:1].upper() + word[1:] for word in rest)


def _page(request: Request, template: str, **shown: Any) -> Response:
    page = HTMLResponse(_TEMPLATES.get_template(template).render(**shown))
    if "csrftoken" not in request.cookies:
        page.set_cookie("csrftoken", token_hex(16), samesite="lax")
    return page


def _in_script(value: Any) -> Markup:
    return Markup(msgspec.json.encode(value).decode().replace("</", "<\\/"))


def _missing() -> Response:
    return HTMLResponse("<!doctype html><title>Not found</title><h1>We couldn't find that page</h1>", 404)
