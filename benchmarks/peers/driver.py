"""A peer as a library, in a process that runs on: `python driver.py NAME`, in the environment of the peers.

A line of JSON on the input is a task (`query` or `url`, `pace_s` between requests); the answers are lines of JSON with
the moment by the monotonic clock, which all processes of a machine share: what was found, and how it ended. The peers
are asked as their documents say; this file imports nothing of ours.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

Task = dict[str, Any]
MEDIA = (".m3u8", ".mp4")


def say(**line: Any) -> None:
    sys.stdout.write(json.dumps({"at": time.monotonic(), **line}) + "\n")
    sys.stdout.flush()


def video_addresses(value: Any) -> Iterator[str]:
    """All that a pin's JSON tells of files and playlists, wherever it tells it: what a careful user would find."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from video_addresses(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from video_addresses(inner)
    elif isinstance(value, str) and value.startswith("https://v") and value.endswith(MEDIA):
        yield value


def gallery_dl() -> Callable[[Task], Iterator[list[str]]]:
    """Its extractor, whose messages are what its own jobs read; the first address and those of `_fallback`."""
    config, extractor = importlib.import_module("gallery_dl.config"), importlib.import_module("gallery_dl.extractor")
    message = importlib.import_module("gallery_dl.extractor.message").Message

    def run(task: Task) -> Iterator[list[str]]:
        config.set(("extractor",), "sleep-request", task["pace_s"])
        address = task.get("url") or f"https://www.pinterest.com/search/pins/?q={quote(task['query'])}"
        found = extractor.find(address)
        found.initialize()
        for kind, url, pin in found:
            if kind == message.Url:
                yield [one.removeprefix("ytdl:") for one in (url, *pin.get("_fallback", ()))]

    return run


def pinterest_dl() -> Callable[[Task], Iterator[list[str]]]:
    """`iter_search`, with its own delay where none is asked for."""
    scraper = importlib.import_module("pinterest_dl").PinterestDL.with_api()

    def run(task: Task) -> Iterator[list[str]]:
        pace = {"delay": task["pace_s"]} if task["pace_s"] else {}
        for media in scraper.iter_search(task["query"], **pace):
            if media.video_stream:
                yield [media.video_stream.url]

    return run


def py3_pinterest() -> Callable[[Task], Iterator[list[str]]]:
    """`search` until it gives an empty list, as its document says; its pins are the site's JSON."""
    client = importlib.import_module("py3pin.Pinterest").Pinterest()

    def run(task: Task) -> Iterator[list[str]]:
        client.bookmark_manager.bookmark_map.clear()
        while batch := client.search("videos", task["query"]):
            for pin in batch:
                yield list(video_addresses(pin))
            time.sleep(task["pace_s"])

    return run


def yt_dlp() -> Callable[[Task], Iterator[list[str]]]:
    """A board's entries; it gives them when it has them all."""
    module = importlib.import_module("yt_dlp")

    def run(task: Task) -> Iterator[list[str]]:
        options = {"quiet": True, "compat_opts": {"no-certifi"}, "sleep_interval_requests": task["pace_s"]}
        with module.YoutubeDL(options) as downloader:
            for entry in downloader.extract_info(task["url"], download=False, process=False)["entries"]:
                yield list(video_addresses(entry))

    return run


def playwright() -> Callable[[Task], Iterator[list[str]]]:
    """What such a script does: open the search, listen to every answer, scroll until nothing more comes."""
    started = importlib.import_module("playwright.sync_api").sync_playwright().start()
    browser = started.chromium.launch(
        executable_path=os.environ["CHROMIUM"], proxy={"server": os.environ["HTTPS_PROXY"]}, args=["--no-sandbox"]
    )
    still_s = 4.0

    def run(task: Task) -> Iterator[list[str]]:
        context = browser.new_context(ignore_https_errors=True, viewport={"width": 1280, "height": 900})
        found: list[list[str]] = []
        heard = [time.monotonic()]

        def listen(response: Any) -> None:
            if "/resource/" in response.url:
                heard[0] = time.monotonic()
                if response.ok:
                    found.append(list(video_addresses(response.json())))
            elif response.url.endswith(MEDIA):
                heard[0] = time.monotonic()
                found.append([response.url])

        page = context.new_page()
        page.on("response", listen)
        try:
            page.goto(task.get("url") or f"https://www.pinterest.com/search/videos/?q={quote(task['query'])}&rs=typed")
            heard[0] = time.monotonic()
            while time.monotonic() - heard[0] < still_s:
                page.mouse.wheel(0, 900)
                page.wait_for_timeout(max(250, task["pace_s"] * 1000))
                while found:
                    yield found.pop(0)
        finally:
            context.close()

    return run


PEERS = {
    "gallery-dl": gallery_dl,
    "pinterest-dl": pinterest_dl,
    "py3-pinterest": py3_pinterest,
    "yt-dlp": yt_dlp,
    "playwright": playwright,
}


def main(name: str) -> None:
    run = PEERS[name]()
    say(ready=True)
    for line in sys.stdin:
        try:
            for addresses in run(json.loads(line)):
                if addresses:
                    say(found=addresses)
            say(end="")
        except Exception as error:
            traceback.print_exc()
            kind = type(error)
            say(end=kind.__name__, module=kind.__module__, message=str(error)[:300])


if __name__ == "__main__":
    main(sys.argv[1])
