"""What an address on Pinterest stands for: the source whose videos are read.

The host only says that it is Pinterest's; what is read is always read on SITE_URL.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from libs.common.errors import PinstreamError

DEFAULT_SITE = "https://www.pinterest.com"
SHORT_HOST = "pin.it"
SHORTENER_HOST = "api.pinterest.com"
MAX_URL_CHARS = 2000
MAX_NAME_CHARS = 200  # of a user, a board, a section, percent encodings undone
RELATED = "related"  # the fragment that asks for the pins beside a pin

# First segments of a path that are never usernames; `resource` is where the site's own pages ask for data.
RESERVED = frozenset(
    (
        *("pin", "search", "ideas", "today", "settings", "business", "news_hub", "categories", "topics", "discover"),
        *("login", "signup", "about", "_", "resource"),
    )
)

_SITE_HOST = re.compile(r"(?:(?:www|m|[a-z]{2}(?:-[a-z]{2})?)\.)*pinterest\.(?:com|info|[a-z]{2}|com?\.[a-z]{2})")
_ANY_PINTEREST = re.compile(r"(?:[a-z0-9-]+\.)*pinterest\.(?:com|info|[a-z]{2}|com?\.[a-z]{2})")
_PIN = re.compile(r"(?:.*--)?([0-9]{1,20})")
_CODE = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_PORTS = {"http": 80, "https": 443}


class SearchSource(NamedTuple):
    """What the site's search finds."""

    query: str


class BoardSource(NamedTuple):
    """The pins of a board, those in its sections too."""

    username: str
    slug: str


class SectionSource(NamedTuple):
    """The pins of one section of a board."""

    username: str
    slug: str
    section: str


class UserSource(NamedTuple):
    """The pins that a user has created, then those that the user has saved; or one of the two."""

    username: str
    created: bool = True
    saved: bool = True


class PinSource(NamedTuple):
    """One pin."""

    pin: str


class RelatedSource(NamedTuple):
    """The pins that the site shows beside one; not the pin itself."""

    pin: str


class ShortLink(NamedTuple):
    """An address that leads to another; only the site knows to which."""

    code: str


Source = SearchSource | BoardSource | SectionSource | UserSource | PinSource | RelatedSource | ShortLink


class NotASource(PinstreamError):
    """The address is none of a search, a board, a section, a user, a pin or a short link."""


def is_url(text: str) -> bool:
    """Whether `text` is meant as an address and not as a topic: it has a scheme, or a path on a host of Pinterest."""
    text = text.strip()
    if not text or any(character.isspace() for character in text):
        return False
    if _SCHEME.match(text):
        return True
    host, slash, path = text.partition("/")
    return bool(slash and path.strip("/") and (_ANY_PINTEREST.fullmatch(host.lower()) or host.lower() == SHORT_HOST))


def source_at(url: str, site: str = DEFAULT_SITE) -> Source:
    """The source at `url`, which is on a host of Pinterest's or on `site`'s. Raises NotASource, with a sentence."""
    parts = _split(url.strip())
    host = (parts.hostname or "").rstrip(".")
    on_site = _SITE_HOST.fullmatch(host) is not None or _origin(parts) == _origin(urlsplit(site))
    segments = _segments(parts.path)
    if host == SHORT_HOST:
        return _short_link(segments[0] if len(segments) == 1 else "")
    if (on_site or host == SHORTENER_HOST) and segments[:1] == ["url_shortener"]:
        return _short_link(segments[1] if segments[2:] in ([], ["redirect"]) and len(segments) > 1 else "")
    if not on_site:
        raise NotASource(_not_here(host))
    if not segments:
        raise NotASource("the address names no search, board, user or pin; give the address of one")
    if segments[0] == "pin":
        return _pin(segments, parts.fragment)
    if segments[0] == "search":
        return _search(segments, parts.query)
    return _named(segments)


def is_pinterest(site: str) -> bool:
    """Whether `site`, an origin, is Pinterest itself, whose short links have hosts of their own."""
    return _SITE_HOST.fullmatch((urlsplit(site).hostname or "").rstrip(".")) is not None


def path_of(*segments: str) -> str:
    """The path on the site of a user, a board or a section."""
    return "".join(f"/{quote(segment, safe='')}" for segment in segments) + "/"


def _split(url: str) -> SplitResult:
    if not url:
        raise NotASource("the address is empty")
    if len(url) > MAX_URL_CHARS:
        raise NotASource(f"the address has {len(url)} characters; {MAX_URL_CHARS} are the most")
    if "\\" in url or any(character.isspace() or not character.isprintable() for character in url):
        raise NotASource("the address has characters that no address has")
    try:
        parts = urlsplit(url if _SCHEME.match(url) else f"https://{url.removeprefix('//')}")
        _ = parts.port
    except ValueError as error:
        raise NotASource(f"the address cannot be read: {error}") from error
    if parts.scheme not in _PORTS:
        raise NotASource(f"the address must begin with https:// or http://, not {parts.scheme[:20]}://")
    if "@" in parts.netloc:
        raise NotASource("the address must name no user before its host")
    return parts


def _origin(parts: SplitResult) -> tuple[str, int]:
    """Host and port: http and https of the same host are the same site where neither names a port."""
    port = parts.port
    usual = port is None or port == _PORTS.get(parts.scheme)
    return (parts.hostname or "").rstrip("."), 0 if usual else port or 0


def _segments(path: str) -> list[str]:
    """The parts of a path, percent encodings undone; empty ones do not count."""
    segments = []
    for segment in path.split("/"):
        if not segment:
            continue
        try:
            name = unquote(segment, errors="strict")
        except UnicodeDecodeError as error:
            raise NotASource("the address has percent encodings that are no UTF-8") from error
        if name.strip() in ("", ".", "..") or "/" in name or "\\" in name or not name.isprintable():
            raise NotASource("the path of the address has a part that names nothing")
        if len(name) > MAX_NAME_CHARS:
            raise NotASource(f"a part of the address has {len(name)} characters; {MAX_NAME_CHARS} are the most")
        segments.append(name.strip())
    return segments


def _short_link(code: str) -> ShortLink:
    if not _CODE.fullmatch(code):
        raise NotASource(f"a short link has the form https://{SHORT_HOST}/<code>")
    return ShortLink(code)


def _pin(segments: list[str], fragment: str) -> PinSource | RelatedSource:
    match = _PIN.fullmatch(segments[1]) if len(segments) > 1 else None
    if match is None:
        raise NotASource("a pin's address has the form /pin/<number>/")
    return RelatedSource(match[1]) if fragment.lower() == RELATED else PinSource(match[1])


def _search(segments: list[str], query: str) -> SearchSource:
    if len(segments) > 2 or segments[1:2] not in ([], ["pins"], ["videos"]):
        raise NotASource("of searches, those for pins and for videos can be read: /search/pins/?q=<topic>")
    try:
        words = parse_qs(query, errors="strict").get("q", [""])[0].strip()
    except ValueError as error:  # percent encodings that are no UTF-8, or too many fields
        raise NotASource("the query of the address cannot be read") from error
    if not words:
        raise NotASource("the address of a search needs a topic: /search/pins/?q=<topic>")
    return SearchSource(words)


def _named(segments: list[str]) -> Source:
    username, *rest = segments
    if username.lower() in RESERVED:
        raise NotASource(f"/{username}/ is a page of the site and no user; give a search, a board, a user or a pin")
    match rest:
        case []:
            return UserSource(username)
        case ["_created"]:
            return UserSource(username, saved=False)
        case ["_saved"]:
            return UserSource(username, created=False)
        case [slug, *_] if slug.startswith("_"):
            raise NotASource("of a user's pages, /<user>/, /<user>/_created/ and /<user>/_saved/ can be read")
        case [slug]:
            return BoardSource(username, slug)
        case [slug, section]:
            return SectionSource(username, slug, section)
    raise NotASource("the path of the address is longer than that of a section: /<user>/<board>/<section>/")


def _not_here(host: str) -> str:
    shown = (host or "it")[:80]
    if _ANY_PINTEREST.fullmatch(host):
        return f"{shown} has no pins to read; give an address on www.pinterest.com"
    return f"{shown} is not a host of Pinterest; give an address on www.pinterest.com"
