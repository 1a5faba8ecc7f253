"""The canary: a small known search that says whether the site's shape is still what the extractor knows.

`python -m services.crawler.canary [--json] [QUERY]` prints one line and exits with 0 (it is), 1 (it has changed) or 69
(the site was not reached, or refused). It reads two pages of the feed and one pin's page, at the crawler's pace.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import structlog

from libs.common import metrics
from libs.common.errors import BadSetting, StartFailed
from libs.common.exit_codes import EX_CONFIG, EX_UNAVAILABLE
from libs.common.loop import run_main
from libs.common.messages import Reason
from libs.common.settings import from_environment
from libs.common.tasks import end
from libs.common.telemetry import telemetry
from services.crawler import listing, pinterest
from services.crawler.asking import answer_of
from services.crawler.browser import Browser
from services.crawler.envelope import embedded, read_envelope
from services.crawler.extract import extract
from services.crawler.failure import BrowserFailed, Refused
from services.crawler.pacing import Patience
from services.crawler.settings import CrawlerSettings
from services.crawler.shape import Judgement, judge
from services.crawler.tab import Tab

EX_CHANGED = 1
PAGES = 2  # of the feed: about a hundred pins
LEAST_PINS = 20  # by which a search can be judged
LONGEST_S = 180.0  # a page with all its patience takes 60 s
POSTPONED_S = 30.0  # while too many tabs are leased

log = structlog.get_logger()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one run found: `result` is `ok`, `changed`, or the reason why the site could not be judged."""

    result: str
    line: str
    judgement: Judgement | None = None
    page_way: str | None = None  # why a pin's page could not be read, where it was refused

    @property
    def exit_code(self) -> int:
        return {"ok": 0, "changed": EX_CHANGED}.get(self.result, EX_UNAVAILABLE)


async def run(browser: Browser, query: str) -> Verdict:
    """Looks once, in a tab of its own, and sets the metrics."""
    try:
        async with asyncio.timeout(LONGEST_S), browser.lease() as tab:
            verdict = await _looked(tab, browser, query)
    except Refused as refusal:
        changed = refusal.reason is Reason.UPSTREAM_CHANGED
        result = "changed" if changed else str(refusal.reason)
        verdict = Verdict(result=result, line=f"{result}: {refusal.message}")
    except BrowserFailed as failure:
        result = str(Reason.BROWSER_FAILED)
        verdict = Verdict(result=result, line=f"{result}: {failure}")
    except TimeoutError:
        result = str(Reason.UNREACHABLE)
        verdict = Verdict(result=result, line=f"{result}: The site took longer than {LONGEST_S:g} s; try again later.")
    _note(verdict)
    return verdict


async def _looked(tab: Tab, browser: Browser, query: str) -> Verdict:
    site = browser.settings.site
    patience = Patience(browser.pacer, _tell_nobody)
    await patience.of(tab.land)
    documents: list[Any] = []
    bookmark: str | None = None
    while len(documents) < PAGES:
        asked = listing.of_search(query).asked(bookmark)
        documents.append(await patience.of(lambda asked=asked: _document(tab, asked, browser)))  # type: ignore[misc]
        bookmark = read_envelope(documents[-1]).bookmark
        if pinterest.is_end(bookmark):
            break
    judgement = judge(documents, site)
    if judgement.ok and judgement.pins < LEAST_PINS:
        few = f"The search gave {judgement.pins} pins, too few to judge by; set CANARY_QUERY to a more common topic."
        return Verdict(result="too_few", line=f"too_few: {few}", judgement=judgement)
    page_way = None
    if pin := _pin_with_video(documents, site):
        try:
            html = await patience.of(lambda: tab.goto(f"/pin/{pin}/"))
        except Refused as refusal:
            page_way = f"{refusal.reason}: {refusal.message}"
        else:
            if not extract(embedded(html), session="canary", site=site).media:
                vanished = [*judgement.vanished, "the videos in a pin's page"]
                judgement = msgspec.structs.replace(judgement, vanished=vanished)
    line = judgement.line + (f"; a pin's page was refused ({page_way})" if page_way else "")
    result = "ok" if judgement.ok else "changed"
    return Verdict(result=result, line=line, judgement=judgement, page_way=page_way)


async def _document(tab: Tab, asked: pinterest.Asked, browser: Browser) -> Any:
    """The answer's JSON, of whatever shape. Raises Refused where it is a refusal, or no JSON."""
    answer = await answer_of(tab, asked, browser.pacer)
    try:
        pinterest.envelope_in(answer)
    except Refused as refusal:
        if refusal.reason is not Reason.UPSTREAM_CHANGED or answer.status >= 300 or refusal.transient:
            raise
    return msgspec.json.decode(answer.body.lstrip("\ufeff \t\r\n"))


def _pin_with_video(documents: Sequence[Any], site: str) -> str | None:
    """The first that has a video of the site's own."""
    for document in documents:
        for media in extract(read_envelope(document).results, session="canary", site=site).media:
            if media.pin.id and media.variants:
                return media.pin.id
    return None


async def _tell_nobody(state: str, waiting_for: str | None, waiting_until: float | None) -> None:
    """Where a client would be told what is being waited for."""


def _note(verdict: Verdict) -> None:
    metrics.canary_runs.add(1, {"result": verdict.result})
    metrics.canary_run_at.set(time.time())
    if verdict.result in ("ok", "changed"):
        metrics.canary_ok.set(int(verdict.result == "ok"))
        judgement = verdict.judgement or Judgement()
        metrics.canary_vanished.set(len(judgement.vanished))
        metrics.canary_new.set(len(judgement.new))


@asynccontextmanager
async def canary_running(browser: Browser) -> AsyncIterator[None]:
    """Looks every CANARY_INTERVAL_S while inside, when no more than half of the tabs are leased."""
    if not browser.settings.canary_interval_s:
        yield
        return
    task = asyncio.create_task(_look_again_and_again(browser), name="canary")
    try:
        yield
    finally:
        await end(task)


async def _look_again_and_again(browser: Browser) -> None:
    settings = browser.settings
    wait_s = settings.canary_interval_s
    while True:
        await asyncio.sleep(wait_s)
        if browser.sessions > settings.sessions // 2:
            wait_s = min(POSTPONED_S, settings.canary_interval_s)
            continue
        wait_s = settings.canary_interval_s
        verdict = await run(browser, settings.canary_query)
        say = log.info if verdict.result == "ok" else log.warning
        say("canary", result=verdict.result, line=verdict.line)


async def look_once(settings: CrawlerSettings) -> Verdict:
    """Looks once with a browser of its own. Raises StartFailed."""
    async with Browser(msgspec.structs.replace(settings, warm_contexts=0)) as browser:
        return await run(browser, settings.canary_query)


def main(argv: Sequence[str]) -> int:
    """The command; what it prints is the line, or with `--json` the verdict."""
    parser = argparse.ArgumentParser(prog="python -m services.crawler.canary", description=__doc__)
    parser.add_argument("query", nargs="?", metavar="QUERY", help="default: CANARY_QUERY")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a sentence")
    arguments = parser.parse_args(argv)
    environ = {"LOG_LEVEL": "ERROR", **os.environ}
    if arguments.query is not None:
        environ["CANARY_QUERY"] = arguments.query
    try:
        settings = from_environment(CrawlerSettings, environ)
        with telemetry(settings, "canary"):
            verdict = run_main(look_once(settings))
    except BadSetting as error:
        sys.stderr.write(f"bad setting: {error}\n")
        return EX_CONFIG
    except StartFailed as error:
        verdict = Verdict(result=str(Reason.BROWSER_FAILED), line=f"{Reason.BROWSER_FAILED}: {error}")
    told = msgspec.json.encode(verdict).decode() if arguments.json else verdict.line
    sys.stdout.write(" ".join(told.split()) + "\n")
    return verdict.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
