"""The lists of pins that the site has, and its other things: what to ask which resource for, and the page of each."""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from libs.common.source import path_of
from services.crawler.extract import as_pin
from services.crawler.metadata import pin_id
from services.crawler.pinterest import PAGE_SIZE, Asked, resource

_SEARCH_HANDLER = "www/search/[scope].js"
_PIN_HANDLER = "www/pin/[id].js"
_USER_HANDLER = "www/[username].js"
_BOARD_HANDLER = "www/[username]/[slug].js"
_SECTION_HANDLER = "www/[username]/[slug]/[section_slug].js"


class Listing(NamedTuple):
    """A list of pins. `path` is that of the page that shows it; `heard` is what the addresses have that this page asks.

    `alone` says whether nothing but the list's own pins plays on its page, `besides` which pin is shown there that is
    none of them. Where it is not `known`, its resource cannot be asked, for want of an id, and its page alone can be
    read. `instead` is another resource for the same list, where the site does not know the first.
    """

    resource: str
    options: dict[str, Any]
    path: str
    handler: str
    heard: tuple[str, ...]
    alone: bool = False
    besides: str | None = None
    known: bool = True
    instead: tuple[str, dict[str, Any]] | None = None

    def asked(self, bookmark: str | None, size: int = PAGE_SIZE) -> Asked:
        """A page of it, with at most `size` pins; `bookmark` is the cursor that the page before gave."""
        options = {**self.options, "page_size": size, "bookmarks": [bookmark] if bookmark else []}
        return resource(self.resource, self.path, options, self.handler)

    def is_asked_by(self, url: str) -> bool:
        """Whether a request of the site's own page asks for it."""
        path = urlsplit(url).path.lower()
        return any(name in path for name in self.heard)

    def of(self, entries: list[Any]) -> list[Any]:
        """Those of `entries` that are in it."""
        if self.besides is None:
            return entries
        return [entry for entry in entries if not is_pin(entry, self.besides)]

    def other(self) -> Listing | None:
        """The same list by its other resource, if it has one."""
        if self.instead is None:
            return None
        name, options = self.instead
        return self._replace(resource=name, options=options, instead=None)


def is_pin(entry: Any, id_: str) -> bool:
    """Whether an entry of an answer or a page is the pin `id_`."""
    pin = as_pin(entry)
    return pin is not None and pin_id(pin) == id_


def of_search(query: str) -> Listing:
    """A search for videos, as full pins."""
    options = {
        "query": query,
        "scope": "videos",
        "rs": "typed",
        "appliedProductFilters": "---",
        "auto_correction_disabled": False,
        "gated": False,
        "redux_normalize_feed": True,
    }
    path = f"/search/videos/?q={quote(query, safe='')}&rs=typed"
    heard = ("searchresource", "searchfeedresource", "/_/graphql", "/_graphql")
    return Listing("BaseSearchResource", options, path, _SEARCH_HANDLER, heard, alone=True)


def of_board(username: str, slug: str, board_id: str = "") -> Listing:
    """A board's pins; its page can be read without `board_id`."""
    path = path_of(username, slug)
    options = {
        "board_id": board_id,
        "board_url": path,
        "field_set_key": "react_grid_pin",
        "filter_section_pins": False,
        "currentFilter": -1,
        "sort": "default",
        "layout": "default",
    }
    return Listing("BoardFeedResource", options, path, _BOARD_HANDLER, ("boardfeedresource",), known=bool(board_id))


def of_section(username: str, slug: str, section: str, section_id: str = "") -> Listing:
    """The pins of a board's section; its page can be read without `section_id`."""
    options = {"section_id": section_id, "field_set_key": "react_grid_pin"}
    path = path_of(username, slug, section)
    heard = ("boardsectionpinsresource",)
    return Listing("BoardSectionPinsResource", options, path, _SECTION_HANDLER, heard, known=bool(section_id))


def of_created(username: str) -> Listing:
    """The pins that a user has made."""
    options = {"username": username, "field_set_key": "grid_item"}
    path, heard = path_of(username, "_created"), ("useractivitypinsresource",)
    return Listing("UserActivityPinsResource", options, path, _USER_HANDLER, heard)


def of_saved(username: str) -> Listing:
    """The pins that a user has saved."""
    options = {"username": username, "field_set_key": "grid_item"}
    return Listing("UserPinsResource", options, path_of(username, "_saved"), _USER_HANDLER, ("userpinsresource",))


def of_related(pin: str) -> Listing:
    """The pins that the site shows beside `pin`."""
    heard = ("relatedpinfeedresource", "relatedmodulesresource")
    options = {"pin": pin, "pin_id": pin}  # which of the two each of the resources takes is not known for certain
    instead = ("RelatedModulesResource", options)
    path = pin_path(pin)
    return Listing("RelatedPinFeedResource", options, path, _PIN_HANDLER, heard, besides=pin, instead=instead)


def pin_path(pin: str) -> str:
    """The page of a pin."""
    return path_of("pin", pin)


def pin(id_: str) -> Asked:
    """One pin, with all that the site says of it."""
    return resource("PinResource", pin_path(id_), {"id": id_, "field_set_key": "detailed"}, _PIN_HANDLER)


def board(username: str, slug: str) -> Asked:
    """What the site says of a board: its id, how many pins and sections it has, whether it is public."""
    options = {"username": username, "slug": slug, "field_set_key": "detailed"}
    return resource("BoardResource", path_of(username, slug), options, _BOARD_HANDLER)


def sections(username: str, slug: str, board_id: str, bookmark: str | None) -> Asked:
    """A page of a board's sections: the id and the slug of each."""
    options = {"board_id": board_id, "page_size": PAGE_SIZE, "bookmarks": [bookmark] if bookmark else []}
    return resource("BoardSectionsResource", path_of(username, slug), options, _BOARD_HANDLER)


def user(username: str) -> Asked:
    """What the site says of a user."""
    options = {"username": username, "field_set_key": "profile"}
    return resource("UserResource", path_of(username), options, _USER_HANDLER)
