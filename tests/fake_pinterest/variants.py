"""The four places of a pin's JSON in which videos sit."""

from __future__ import annotations

from typing import Any

from .catalogue import Block, Pin, StoryPage
from .clips import HEVC_TIERS, Clip
from .origins import Origins
from .signatures import clip_of, duration_ms, has_captions, number, sharded

Json = dict[str, Any]
_HLS_KEYS = (("V_HLSV4",), ("V_HLSV4", "V_HLSV3_MOBILE"), ("V_HLSV3_WEB", "V_HLSV3_MOBILE"), ("V_HLSV3_MOBILE",))


def renditions(signature: str, rich: bool = False) -> dict[str, str]:
    """Key to path template: what a search lists, or a richer answer."""
    clip = clip_of(signature)
    keys = _HLS_KEYS[number("keys", signature) % len(_HLS_KEYS)]
    return dict.fromkeys(keys, clip.master) | clip.listed | (clip.told if rich else {})


def video_json(signature: str, origins: Origins, rich: bool = False) -> Json:
    clip = clip_of(signature)
    variants: Json = {
        key: _variant(signature, clip, template, origins) for key, template in renditions(signature, rich).items()
    }
    if number("bare", signature) % 12 == 0:
        width, height = clip.source
        variants["V_240P"] = {"width": width, "height": height, "duration": duration_ms(signature)}
    return {"id": str(10**17 + number("media", signature) % 10**17), "video_list": variants}


def _variant(signature: str, clip: Clip, template: str, origins: Origins) -> Json:
    width, height = clip.source if clip.family == "mc" else _size(clip, template)
    captions: Json | None = {} if number("no captions", signature) % 2 else None
    if has_captions(signature):
        captions = {"en-us": f"{origins.video}/videos/captions/en-us/{sharded(signature)}.vtt"}
    return {
        "url": origins.media(template, signature),
        "width": width,
        "height": height,
        "duration": duration_ms(signature),
        "thumbnail": origins.poster(signature),
        "captions_urls": captions,
    }


def _size(clip: Clip, template: str) -> tuple[int, int]:
    for rung in clip.rungs:
        if f"_{rung}" in template:
            return clip.size(rung)
    return clip.source


def story_json(pin: Pin, origins: Origins, rich: bool = False, named: bool = False) -> Json | None:
    """`named`: of its videos the signatures alone are told."""
    if not pin.story:
        return None
    return {
        "id": str(10**17 + number("story", pin.ids.tag, pin.ids.root) % 10**17),
        "type": "storypindata",
        "page_count": len(pin.story),
        "pages_preview": [],
        "metadata": None,
        "pages": [_page_json(pin, place, page, origins, rich, named) for place, page in enumerate(pin.story)],
    }


def _page_json(pin: Pin, place: int, page: StoryPage, origins: Origins, rich: bool, named: bool) -> Json:
    shown: Json = {
        "id": str(10**17 + number("page", pin.ids.tag, pin.ids.root, place) % 10**17),
        "image_signature": picture_signature(pin, place),
        "layout": 0,
        "blocks": [_block_json(pin, place, block, origins, rich, named) for block in page.blocks],
    }
    if page.video:
        shown |= _story_video(page.video, origins, rich, named)
    return shown


def _story_video(signature: str, origins: Origins, rich: bool, named: bool) -> Json:
    return {"video": None if named else video_json(signature, origins, rich), "video_signature": signature}


def _block_json(pin: Pin, place: int, block: Block, origins: Origins, rich: bool, named: bool) -> Json:
    shown: Json = {"block_type": 3 if block.signature else 2, "type": block.kind, "block_style": None}
    if block.signature:
        return shown | _story_video(block.signature, origins, rich, named) | {"tracking_id": None}
    if block.kind == "story_pin_paragraph_block":
        return shown | {"text": "Slow cooling makes the colour.", "id": "0"}
    picture = picture_signature(pin, place)
    url = origins.picture("originals", picture)
    images = {"originals": {"url": url, "width": 1080, "height": 1920}}
    return shown | {"image": {"images": images}, "image_signature": picture}


def carousel_json(pin: Pin, origins: Origins, rich: bool = False) -> Json | None:
    if not pin.slots:
        return None
    slots = []
    for place, signature in enumerate(pin.slots):
        picture = origins.picture("736x", picture_signature(pin, place))
        slots.append(
            {
                "id": str(10**17 + number("slot", pin.ids.tag, pin.ids.root, place) % 10**17),
                "title": None,
                "link": None,
                "images": {"736x": {"url": picture, "width": 736, "height": 1308}},
                "videos": video_json(signature, origins, rich) if signature else None,
            }
        )
    return {"id": "1", "index": 0, "carousel_slots": slots}


def embed_json(pin: Pin, origins: Origins) -> Json | None:
    if pin.gif:
        return {"type": "gif", "src": origins.picture("originals", pin.gif, "gif"), "width": 90, "height": 160}
    if pin.embed:
        return {"type": "video", "src": pin.embed, "width": 560, "height": 315}
    return None


def picture_signature(pin: Pin, place: int = 0) -> str:
    return f"{number('picture', pin.ids.tag, pin.ids.root, place):016x}" * 2


def every_rendition(signature: str, origins: Origins) -> list[str]:
    """As the pin page's `videoUrls`: HLS, files, HEVC and DASH, whatever their codec."""
    clip = clip_of(signature)
    templates = [clip.master, *clip.listed.values(), *clip.files]
    if clip.name == "iht-720":
        templates += HEVC_TIERS.values()
    return [origins.media(template, signature) for template in dict.fromkeys(templates)]
