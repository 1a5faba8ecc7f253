"""What an address says: whether it is media, which video it names, which video host it embeds."""

from __future__ import annotations

import re
from hashlib import sha256
from typing import Any
from urllib.parse import parse_qs, urlsplit

from services.crawler.value import link

_MEDIA = (".mp4", ".m3u8", ".mpd", ".cmfv")
_MEDIA_UNDER_VIDEOS = (".webm", ".mov", ".m4v")  # seen nowhere yet, plain media all the same
_SIGNATURE = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")
_ID = r"([A-Za-z0-9_-]{3,64})"

# host suffix → (pattern over path?query, canonical address); what a host embeds that no pattern knows stays as it is
_EMBEDS: dict[str, tuple[tuple[str, ...], str]] = {
    "youtube.com": (
        (rf"^/(?:embed|v|e|shorts|live)/{_ID}", rf"^/watch\?(?:[^#]*&)?v={_ID}"),
        "https://www.youtube.com/watch?v={}",
    ),
    "youtube-nocookie.com": ((rf"^/(?:embed|v)/{_ID}",), "https://www.youtube.com/watch?v={}"),
    "youtu.be": ((rf"^/{_ID}",), "https://www.youtube.com/watch?v={}"),
    "vimeo.com": ((r"^/(?:video/|.*/)?(\d{4,})",), "https://vimeo.com/{}"),
    "dailymotion.com": (
        (rf"^/(?:embed/)?video/{_ID}", rf"^/player[^?]*\?(?:[^#]*&)?video={_ID}"),
        "https://www.dailymotion.com/video/{}",
    ),
    "dai.ly": ((rf"^/{_ID}",), "https://www.dailymotion.com/video/{}"),
    "ted.com": ((r"^/talks/([\w-]+)",), "https://www.ted.com/talks/{}"),
    "wistia.com": ((), ""),
    "wistia.net": ((), ""),
    "tiktok.com": ((r"/(?:video|embed(?:/v2)?|player/v1)/(\d+)",), "https://www.tiktok.com/video/{}"),
    "twitch.tv": ((), ""),
    "streamable.com": ((rf"^/(?:e/|o/)?{_ID}",), "https://streamable.com/{}"),
    "bilibili.com": ((), ""),
    "rutube.ru": ((), ""),
    "facebook.com": ((r"/videos/(?:[^/]+/)?(\d+)",), "https://www.facebook.com/watch/?v={}"),
}
_EMBED_ONLY_BY_PATTERN = ("facebook.com", "ted.com")  # most of what these hosts embed is no video


def is_media(address: str) -> bool:
    """Whether this is the address of a stream or a video file; never true of an image, a caption or sound."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return False
    path = parts.path.lower()
    if path.endswith(("_audio.m3u8", "_audio.mp4")):
        return False
    return path.endswith(_MEDIA) or ("/videos/" in path and path.endswith(_MEDIA_UNDER_VIDEOS))


def is_on_cdn(address: str) -> bool:
    """Whether a media address is like those of the site's CDN, so that nothing around it need say what it is."""
    return is_media(address) and "/videos/" in urlsplit(address).path and signature_in(address) is not None


def signature_in(address: str) -> str | None:
    """The 32 hex digits in the path that name a video on the CDN."""
    found = _SIGNATURE.findall(urlsplit(address).path.lower())
    return found[-1] if found else None


def signature_of(address: str) -> str:
    """The 32 hex digits in the path, or as many made from the address, where it has none."""
    return signature_in(address) or digest(address.split("?", 1)[0].split("#", 1)[0])


def digest(address: str) -> str:
    """32 hex digits that stand for `address`."""
    return sha256(address.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def embed_of(source: Any) -> tuple[str, str] | None:
    """The address of an embedded video and the canonical address of the same video; nothing for other embeds."""
    address = link(source)
    if address is None:
        return None
    parts = urlsplit(address)
    host = (parts.hostname or "").rstrip(".")
    for suffix, (patterns, form) in _EMBEDS.items():
        if host != suffix and not host.endswith("." + suffix):
            continue
        known = f"{parts.path}?{parts.query}"
        for pattern in patterns:
            if (match := re.search(pattern, known)) and match[1] != "videoseries":
                return address, form.format(match[1])
        if suffix in _EMBED_ONLY_BY_PATTERN or (parts.path in ("", "/") and not parse_qs(parts.query)):
            return None
        return address, f"https://{host}{parts.path}" + (f"?{parts.query}" if parts.query else "")
    return None
