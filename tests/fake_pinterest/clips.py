"""Which renditions a video has: on the CDN, in a search result, and in a richer answer.

A path template holds `{}` where `AA/BB/CC/SIG` belongs and is relative to `/videos/`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache

Size = tuple[int, int]

RUNG_SIZES: dict[str, Size] = {
    "240w": (234, 416),
    "360w": (360, 640),
    "480w": (486, 864),
    "486w": (486, 864),
    "540w": (540, 960),
    "720w": (720, 1280),
    "t1": (360, 640),
    "t2": (486, 864),
    "t3": (540, 960),
    "t4": (720, 1280),
}
FULL = ("240w", "360w", "540w", "720w")
HEVC = tuple(f"iht/hevcMp4V3/{{}}_{rung}.mp4" for rung in FULL)
HEVC_TIERS = {f"V_HEVC_MP4_T{n}_V2": path for n, path in enumerate(HEVC, 1)}
HEVC_HLS, HEVC_DASH = "iht/h265/{}.m3u8", "iht/h265-pt/{}.mpd"
OTHER_CODECS = ("hevc", "h265", "av1")


@dataclass(frozen=True, eq=False)
class Clip:
    name: str
    family: str
    weight: int  # of a hundred and some new videos
    rungs: tuple[str, ...]
    files: tuple[str, ...] = ()
    listed: dict[str, str] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)  # by PinResource and the pin page only
    sizes: dict[str, Size] = field(default_factory=dict)  # where a rung is not as wide as its name says

    def size(self, rung: str) -> Size:
        return self.sizes.get(rung) or RUNG_SIZES[rung]

    @property
    def source(self) -> Size:
        return (1080, 1920) if self.family == "mc" else self.size(self.rungs[-1])

    @property
    def master(self) -> str:
        return f"{self.family}/hls/{{}}.m3u8"


def _exp(rung: str) -> str:
    return f"iht/expMp4/{{}}_{rung}.mp4"


def _tier(number: int) -> str:
    return f"mc/expMp4/{{}}_t{number}.mp4"


MC_720P = "mc/720p/{}.mp4"
MC_RUNGS = ("240w", "480w", "720w")
UNGUESSABLE = "iht/expMp4/{}_720w_r2.mp4"

CLIPS = (
    Clip("iht-720", "iht", 24, FULL, (_exp("720w"), _exp("540w"), _exp("360w"), *HEVC)),
    Clip("iht-540", "iht", 9, ("240w", "360w", "540w"), (_exp("540w"), _exp("360w"))),
    Clip("iht-360", "iht", 7, ("240w", "360w"), (_exp("360w"),)),
    Clip("iht-486", "iht", 4, ("240w", "360w", "540w"), (_exp("540w"),), sizes={"540w": (486, 864)}),
    Clip("iht-486w", "iht", 2, ("240w", "360w", "486w"), (_exp("486w"),)),
    Clip("iht-648", "iht", 4, FULL, (_exp("720w"),), sizes={"720w": (648, 1152)}),
    Clip(
        "iht-wide",
        "iht",
        4,
        ("720w",),
        (_exp("720w"),),
        sizes={"720w": (720, 406)},
    ),
    Clip("iht-smaller", "iht", 6, FULL, (_exp("540w"), _exp("360w"))),
    Clip("iht-smallest", "iht", 3, FULL, (_exp("360w"),)),
    Clip("iht-old", "iht", 4, FULL, ("iht/720p/{}.mp4",)),
    Clip("iht-old-720w", "iht", 3, FULL, ("iht/720p/{}_720w.mp4",)),
    Clip("iht-hevc", "iht", 3, FULL, HEVC),
    Clip("iht-hevc-listed", "iht", 2, FULL, HEVC, HEVC_TIERS),
    Clip("iht-hls", "iht", 5, FULL),
    Clip("iht-told", "iht", 2, FULL, (UNGUESSABLE,), told={"V_720P": UNGUESSABLE}),
    Clip("iht-listed", "iht", 8, FULL, (_exp("720w"), _exp("540w")), {"V_720P": _exp("720w")}),
    Clip("iht-refused", "iht", 2, FULL, (_exp("540w"),), {"V_720P": _exp("720w")}),
    Clip("iht-gone", "iht", 1, FULL, (), {"V_720P": _exp("720w")}),
    Clip(
        "iht-codecs",
        "iht",
        2,
        FULL,
        (_exp("720w"), "iht/h265-pt-mp4/{}_720w_t1.mp4", "iht/av1Mp4-enabled-v2/{}_720w.mp4", *HEVC),
        {**HEVC_TIERS, "V_HLS_HEVC": HEVC_HLS, "V_DASH_HEVC": HEVC_DASH},
    ),
    Clip(
        "mc-tiers",
        "mc",
        4,
        MC_RUNGS,
        (MC_720P, _tier(4), _tier(3), _tier(2), _tier(1)),
        {"V_EXP3": _tier(1), "V_EXP4": _tier(2), "V_EXP5": _tier(3), "V_EXP6": _tier(4), "V_EXP7": MC_720P},
    ),
    Clip("mc-low-tiers", "mc", 2, MC_RUNGS, (_tier(2), _tier(1)), {"V_EXP3": _tier(1), "V_EXP4": _tier(2)}),
    Clip("mc-listed", "mc", 3, MC_RUNGS, (MC_720P,), {"V_720P": MC_720P}),
    Clip("mc-720p", "mc", 5, MC_RUNGS, (MC_720P,)),
    Clip("mc-t4", "mc", 2, MC_RUNGS, (_tier(4), _tier(3), _tier(2), _tier(1))),
    Clip("mc-t2", "mc", 2, MC_RUNGS, (_tier(2), _tier(1))),
    Clip("mc-told", "mc", 1, MC_RUNGS, ("mc/expMp4/{}_t2_v2.mp4",), told={"V_EXP4": "mc/expMp4/{}_t2_v2.mp4"}),
    Clip("mc-hls", "mc", 2, MC_RUNGS),
)

BEST_KEYS = ("V_720P", "V_EXP7", "V_EXP6", "V_EXP5", "V_EXP4", "V_EXP3")


@cache
def best_file(clip: Clip) -> str | None:
    """The H.264 file that the order of resolution arrives at, as a template; None: HLS is all there is."""
    for candidate in _candidates(clip):
        if candidate in clip.files and not any(codec in candidate for codec in OTHER_CODECS):
            return candidate
    return None


def _candidates(clip: Clip) -> list[str]:
    listed = [clip.listed[key] for key in BEST_KEYS if key in clip.listed]
    told = [clip.told[key] for key in BEST_KEYS if key in clip.told]
    if clip.family == "mc":
        return [*listed, MC_720P, *(_tier(n) for n in (4, 3, 2, 1)), *told]
    guesses = [_exp(rung) for rung in reversed(clip.rungs)]
    return [*listed, *guesses, "iht/720p/{}.mp4", "iht/720p/{}_720w.mp4", *told]
