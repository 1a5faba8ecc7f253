"""What a feed holds: the same feed gives the same pins, in every process and for ever."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import TypeVar

from .clips import CLIPS
from .pin_ids import PinId, decode_pin_id, encode_pin_id
from .signatures import make_signature, number

SHAPES = (
    "image",
    "gif",
    "youtube",
    "vimeo",
    "story-images",
    "story-one",
    "story-two",
    "story-three",
    "story-page",
    "video-and-story",
    "carousel-images",
    "carousel-one",
    "carousel-two",
)
REPIN, SINGLE = "repin", "single"
WITHOUT_VIDEO = ("image", "gif", "story-images", "carousel-images")
# Of a thousand pins. The videos' mix gives 476 unique videos, embeds among them.
MIXES: dict[str, dict[str, int]] = {
    "videos": {
        SINGLE: 378,
        REPIN: 324,
        "image": 200,
        "gif": 10,
        "carousel-images": 10,
        "story-images": 10,
        "youtube": 12,
        "vimeo": 8,
        "story-one": 10,
        "story-two": 8,
        "story-three": 6,
        "story-page": 6,
        "video-and-story": 4,
        "carousel-one": 8,
        "carousel-two": 6,
    },
    "pictures": {"image": 940, "story-images": 30, "carousel-images": 30},
    "pins": {SINGLE: 34, REPIN: 2, "story-two": 2, "carousel-one": 2, "gif": 10, "story-images": 10, "image": 940},
}
T = TypeVar("T")
FIRST_SHAPE = 32  # codes below it are clips


@dataclass(frozen=True, slots=True)
class Block:
    kind: str | None
    signature: str | None = None


@dataclass(frozen=True, slots=True)
class StoryPage:
    blocks: tuple[Block, ...] = ()
    video: str | None = None


@dataclass(frozen=True, slots=True)
class Pin:
    """A pin and where in it its videos are; `video`, `StoryPage.video`, `slots` hold signatures."""

    id: str
    ids: PinId
    shape: str
    video: str | None = None
    story: tuple[StoryPage, ...] = ()
    slots: tuple[str | None, ...] = ()
    embed: str | None = None
    gif: str | None = None

    @property
    def videos(self) -> tuple[str, ...]:
        """Signatures and embed addresses in reading order: the index in an item's name counts them."""
        in_story = (
            signature for page in self.story for signature in (*(block.signature for block in page.blocks), page.video)
        )
        return tuple(found for found in (self.video, *in_story, *self.slots, self.embed) if found)


@lru_cache(maxsize=256)
def pin_ids(tag: int, mood: int, pins: int, mix: str) -> tuple[str, ...]:
    """The ids of a feed's pins, in the feed's order."""
    rng = Random(tag)
    plan = _dealt(MIXES[mix], pins)
    rng.shuffle(plan)
    if SINGLE in plan:
        first = plan.index(SINGLE)
        plan[0], plan[first] = plan[first], plan[0]
    clips = _dealt({code: clip.weight for code, clip in enumerate(CLIPS)}, plan.count(SINGLE))
    rng.shuffle(clips)
    ids: list[str] = []
    roots: list[tuple[int, int]] = []
    for ordinal, what in enumerate(plan):
        root = ordinal
        if what == REPIN and roots:
            root, code = rng.choice(roots)
        elif what in (SINGLE, REPIN):
            code = clips.pop() if clips else 0
        else:
            code = FIRST_SHAPE + SHAPES.index(what)
        if root == ordinal and what not in WITHOUT_VIDEO:
            roots.append((ordinal, code))
        ids.append(encode_pin_id(PinId(tag, mood, ordinal, root, code)))
    return tuple(ids)


def catalogue(tag: int, mood: int, pins: int, mix: str) -> Iterator[Pin]:
    for pin_id in pin_ids(tag, mood, pins, mix):
        pin = read_pin(pin_id)
        assert pin is not None
        yield pin


@lru_cache(maxsize=16_384)
def read_pin(pin_id: str) -> Pin | None:
    """The pin of that id, whichever feed it was seen in; None if there is none."""
    ids = decode_pin_id(pin_id)
    if ids is None or FIRST_SHAPE + len(SHAPES) <= ids.code or len(CLIPS) <= ids.code < FIRST_SHAPE:
        return None
    if ids.code < FIRST_SHAPE:
        return Pin(pin_id, ids, SINGLE, video=_signature(ids, 0, ids.code))
    return _shaped(pin_id, ids, SHAPES[ids.code - FIRST_SHAPE])


def _shaped(pin_id: str, ids: PinId, shape: str) -> Pin:
    origin = (ids.tag, ids.root)
    first, second, third = (_signature(ids, index, _any_clip(*origin, index)) for index in range(3))
    picture, words = Block("story_pin_image_block"), Block("story_pin_paragraph_block")
    video_block = "story_pin_video_block"
    match shape:
        case "gif":
            return Pin(pin_id, ids, shape, gif=f"{number('gif', *origin):016x}" * 2)
        case "youtube":
            return Pin(pin_id, ids, shape, embed=f"https://www.youtube.com/embed/{number(*origin):016x}"[:41])
        case "vimeo":
            return Pin(pin_id, ids, shape, embed=f"https://player.vimeo.com/video/{10**8 + number(*origin) % 10**9}")
        case "story-images":
            return Pin(pin_id, ids, shape, story=(StoryPage((picture,)), StoryPage((picture, words))))
        case "story-one":
            return Pin(pin_id, ids, shape, story=(StoryPage((Block(video_block, first),)), StoryPage((picture,))))
        case "story-two":
            pages = (StoryPage((picture,)), StoryPage((Block(video_block, first), words)))
            return Pin(pin_id, ids, shape, story=(*pages, StoryPage((Block(None, second),))))
        case "story-three":
            pages = (StoryPage((Block(None, first),)), StoryPage((words, Block(video_block, second))))
            return Pin(pin_id, ids, shape, story=(*pages, StoryPage((Block(video_block, third), picture))))
        case "story-page":
            return Pin(pin_id, ids, shape, story=(StoryPage((picture,)), StoryPage((), video=first)))
        case "video-and-story":
            return Pin(pin_id, ids, shape, video=first, story=(StoryPage((Block(video_block, second),)),))
        case "carousel-images":
            return Pin(pin_id, ids, shape, slots=(None, None, None))
        case "carousel-one":
            return Pin(pin_id, ids, shape, slots=(None, first, None))
        case "carousel-two":
            return Pin(pin_id, ids, shape, slots=(first, None, second))
    return Pin(pin_id, ids, shape)


def _signature(ids: PinId, index: int, clip_code: int) -> str:
    return make_signature((ids.tag, ids.root, index), clip_code, ids.mood)


_BAG = tuple(code for code, clip in enumerate(CLIPS) for _ in range(clip.weight))


def _any_clip(tag: int, root: int, index: int) -> int:
    return _BAG[number("clip", tag, root, index) % len(_BAG)]


def _dealt(shares: dict[T, int], count: int) -> list[T]:
    """`count` things in the proportions of `shares`, by largest remainder."""
    whole = sum(shares.values())
    exact = {thing: count * share / whole for thing, share in shares.items()}
    dealt = {thing: int(amount) for thing, amount in exact.items()}
    by_remainder = sorted(exact, key=lambda thing: (dealt[thing] - exact[thing], -shares[thing]))
    for thing in by_remainder[: count - sum(dealt.values())]:
        dealt[thing] += 1
    return [thing for thing, amount in dealt.items() for _ in range(amount)]
