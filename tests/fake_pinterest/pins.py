"""A pin as the resource endpoints show it: about 52 fields, of which any but the media may be null or missing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from random import Random

from .catalogue import Pin
from .feeds import board_feed
from .origins import Origins
from .signatures import number
from .variants import Json, carousel_json, embed_json, picture_signature, story_json, video_json

_MAKERS = ("mia", "okafor", "lindqvist", "sato", "ferreira", "novak", "aster", "bramble")
_BOARDS = ("slow-crafts", "weekend-ideas", "studio-notes", "things-to-try", "colour-tests")
_WORDS = ("in three steps", "from scratch", "for beginners", "close up", "start to finish", "by hand", "in one take")
_COLOURS = ("#c8553d", "#4f7cac", "#6b9080", "#8d6a9f", "#d08c60", "#bc4749", "#588157", "#e9c46a")
_NEWEST = datetime(2026, 8, 1, tzinfo=UTC)
_SIZES = {"170x": 170, "236x": 236, "474x": 474, "736x": 736, "orig": 1080}
_KEPT = frozenset(
    ["id", "node_id", "type", "images", "videos", "story_pin_data", "carousel_data", "embed", "image_signature"]
)
_EMPTY_FIELDS = dict.fromkeys(
    [
        "ad_match_reason",
        "aggregated_pin_data",
        "alt_text",
        "attribution",
        "campaign_id",
        "digital_media_source_type",
        "domain",
        "link_utm_applicable_and_replaced",
        "music_attributions",
        "product_pin_data",
        "promoted_lead_form",
        "promoter",
        "rich_metadata",
        "shopping_flags",
        "sponsorship",
        "story_pin_data_id",
        "video_status",
        "video_status_message",
    ]
)
_FALSE_FIELDS = dict.fromkeys(
    [
        "has_required_attribution_provider",
        "is_downstream_promotion",
        "is_eligible_for_pdp",
        "is_eligible_for_web_closeup",
        "is_oos_product",
        "is_repin",
        "is_stale_product",
        "is_uploaded",
        "is_whitelisted_for_tried_it",
        "promoted_is_lead_ad",
        "promoted_is_removable",
        "should_open_in_stream",
    ],
    False,
)


def search_pin(pin: Pin, topic: str, origins: Origins, named: bool = False) -> Json:
    """A pin as a search or a feed gives it; `named` stories tell their videos' signatures alone."""
    rng = Random(int(pin.id))
    shown = _whole(pin, topic, origins, rng, rich=False)
    if named:
        shown["story_pin_data"] = story_json(pin, origins, named=True)
    for key in [key for key in shown if key not in _KEPT]:
        chance = rng.random()
        if chance < 0.08:
            shown[key] = None
        elif chance < 0.11:
            del shown[key]
    if pin.gif is None and not pin.videos and rng.random() < 0.02:
        del shown["images"]
    shown["domain"] = _domain(pin)  # never null: yt-dlp, which works, relies on it
    return shown


def detailed_pin(pin: Pin, topic: str, origins: Origins) -> Json:
    """A pin as PinResource gives it: nothing left out, and renditions that a search does not list."""
    rng = Random(int(pin.id))
    extra = {
        "repin_count": rng.randrange(9_000),
        "comment_count": rng.randrange(80),
        "native_creator": _person(pin, rng),
        "auto_alt_text": f"a photo of {topic or 'an idea'}",
        "closeup_description": None,
    }
    return _whole(pin, topic, origins, rng, rich=True) | extra


def stub(pin: Pin, topic: str, origins: Origins) -> Json:
    """What a gated search gives instead: a picture, and nothing that plays."""
    shown = _whole(pin, topic, origins, Random(int(pin.id)), rich=False)
    kept = (
        "id",
        "node_id",
        "type",
        "images",
        "image_signature",
        "title",
        "grid_title",
        "dominant_color",
        "is_promoted",
    )
    moving = bool(pin.videos) and not pin.embed
    return {key: shown[key] for key in kept} | {"grid_badge": "video" if moving else None}


def _domain(pin: Pin) -> str:
    return "youtube.com" if pin.embed else "Uploaded by user"


def story_module(number_in_feed: int) -> Json:
    return {
        "id": str(4_800_000_000_000 + number_in_feed),
        "type": "story",
        "story_type": "related_searches_module",
        "title": {"format": "Searches to try", "text": None, "args": []},
        "objects": [{"type": "explorearticle", "id": "1", "title": "more like this"}],
        "cover_images": [],
    }


def title_of(pin: Pin, topic: str) -> str:
    return f"{(topic or 'Idea').capitalize()} {_WORDS[number('title', pin.id) % len(_WORDS)]}"


def colour_of(pin: Pin) -> str:
    return _COLOURS[number("colour", pin.ids.tag, pin.ids.root) % len(_COLOURS)]


@lru_cache(maxsize=512)
def board_json(username: str, slug: str, origins: Origins) -> Json | None:
    feed = board_feed(username, slug)
    if feed is None:
        return None
    return {
        "id": feed.board_id,
        "type": "board",
        "name": slug.partition("--")[0].replace("-", " ").capitalize(),
        "url": f"/{username}/{slug}/",
        "pin_count": feed.pins,
        "section_count": 2,
        "privacy": "public",
        "owner": person_json(username, origins),
        "image_cover_url": None,
    }


@lru_cache(maxsize=512)
def person_json(username: str, origins: Origins) -> Json:
    face = f"{number('face', username):016x}" * 2
    return {
        "id": str(10**17 + number("person", username) % 10**17),
        "type": "user",
        "username": username,
        "full_name": username.partition("--")[0].replace("_", " ").title(),
        "follower_count": number("followers", username) % 90_000,
        "image_small_url": origins.picture("30x30_RS", face),
    }


@lru_cache(maxsize=512)
def _board_of_pin(username: str, slug: str, origins: Origins) -> Json:
    board = board_json(username, slug, origins)
    assert board is not None
    return {key: board[key] for key in ("id", "type", "name", "url")}


def _whole(pin: Pin, topic: str, origins: Origins, rng: Random, *, rich: bool) -> Json:
    picture = picture_signature(pin)
    username, slug = rng.choice(_MAKERS), rng.choice(_BOARDS)
    title = title_of(pin, topic)
    created = _NEWEST - timedelta(minutes=rng.randrange(900_000))
    promoted = rng.random() < 0.05
    shown: Json = {
        "id": pin.id,
        "node_id": f"UGluOjp{number('node', pin.id):x}",
        "type": "pin",
        **_EMPTY_FIELDS,
        **_FALSE_FIELDS,
        "title": title if rng.random() < 0.8 else "",
        "grid_title": title,
        "description": rng.choice((" ", " ", f"{title}. Notes in the comments.", "#diy #howto")),
        "created_at": f"{created:%a, %d %b %Y %H:%M:%S +0000}",
        "dominant_color": colour_of(pin),
        "link": rng.choice((None, "https://example.com/notes")),
        "images": images_json(picture, origins),
        "image_signature": picture,
        "videos": video_json(pin.video, origins, rich) if pin.video else None,
        "story_pin_data": story_json(pin, origins, rich),
        "carousel_data": carousel_json(pin, origins, rich),
        "embed": embed_json(pin, origins),
        "is_video": bool(pin.video) if rng.random() < 0.8 else rng.random() < 0.5,
        "pinner": person_json(username, origins),
        "board": _board_of_pin(username, slug, origins),
        "reaction_counts": {"1": rng.randrange(4_000)},
        "rich_summary": None,
        "is_promoted": promoted,
        "method": "uploaded",
        "price_value": 0.0,
        "tracking_params": f"{rng.getrandbits(128):032x}",
    }
    if promoted:
        shown |= {
            "promoter": person_json("brand_of_the_day", origins),
            "ad_match_reason": 2,
            "campaign_id": str(rng.randrange(10**11, 10**12)),
        }
    return shown


def images_json(picture: str, origins: Origins) -> Json:
    return {
        size: {
            "url": origins.picture("originals" if size == "orig" else size, picture),
            "width": width,
            "height": width * 16 // 9,
        }
        for size, width in _SIZES.items()
    }


def _person(pin: Pin, rng: Random) -> Json:
    return {"username": rng.choice(_MAKERS), "full_name": "A maker", "id": str(number("creator", pin.id))}
