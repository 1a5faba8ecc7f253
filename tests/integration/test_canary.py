"""The canary, with a real Chromium, on the stand-in site."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest

from services.crawler.browser import Browser
from services.crawler.canary import Verdict, canary_running, run
from tests.fake_pinterest.running import RunningSite, running_site
from tests.integration.crawled import Crawl, assert_all_found, settings
from tests.metric_collector import running_collector
from tests.wait import wait_for


@pytest.fixture(scope="module")
def site() -> Iterator[RunningSite]:
    with running_site() as site:
        yield site


async def command(site_url: str, *arguments: str, **environ: str) -> tuple[int, str, str]:
    """The exit code and both outputs of `pinstream canary`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "libs.client.cli", "canary", *arguments),
        env={**os.environ, "SITE_URL": site_url, "REQUESTS_PER_SECOND": "50", **environ},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def looked(site: RunningSite, query: str) -> Verdict:
    async with Browser(settings(site, warm_contexts=0)) as browser:
        verdict = await run(browser, query)
        assert not browser.open_tabs
    return verdict


async def searched(site: RunningSite, word: str) -> int:
    """How many pages of searches with this word the site was asked for."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        recent: list[dict[str, Any]] = (await client.get(f"{site.origin}/_stand_in/recent")).json()
    return sum("BaseSearchResource" in seen["target"] and word in seen["target"] for seen in recent)


async def test_a_site_as_it_was_gives_one_line_and_its_metrics_reach_a_collector(site: RunningSite) -> None:
    started = time.time()
    async with running_collector() as collector:
        code, out, err = await command(site.origin, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert (code, err) == (0, "")
    assert out.startswith("ok: ") and out.count("\n") == 1
    told = {name: value for (service, name, _), value in collector.values.items() if service == "canary"}
    told = {name: value for name, value in told.items() if name.startswith("pinstream.canary.")}
    assert told.pop("pinstream.canary.run_at") >= started
    assert told == {
        "pinstream.canary.ok": 1,
        "pinstream.canary.vanished": 0,
        "pinstream.canary.new": 0,
        "pinstream.canary.runs": 1,
    }
    assert collector.units["pinstream.canary.vanished"] == "{field}"


async def test_a_renamed_field_is_named_in_json_too_and_counted(site: RunningSite) -> None:
    query = "glaze fault:renamed_field times:always"
    async with running_collector() as collector:
        code, out, _ = await command(site.origin, "--json", query, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    verdict = json.loads(out)
    assert (code, verdict["result"], out.count("\n")) == (1, "changed", 1)
    assert verdict["judgement"]["vanished"] == ["pin.videos"]
    assert verdict["judgement"]["new"] == ["pin.carousel", "pin.embedded", "pin.media_videos", "pin.story_data"]
    assert collector.values["canary", "pinstream.canary.ok", ""] == 0
    assert collector.values["canary", "pinstream.canary.vanished", ""] == 1
    assert collector.values["canary", "pinstream.canary.new", ""] == 4


async def test_a_changed_envelope_is_named(site: RunningSite) -> None:
    verdict = await looked(site, "glaze fault:changed_envelope times:always at:first")
    assert (verdict.result, verdict.exit_code) == ("changed", 1)
    assert "vanished: resource_response;" in verdict.line
    assert "new: meta, payload" in verdict.line


async def test_pins_without_anything_that_plays_are_a_change(site: RunningSite) -> None:
    verdict = await looked(site, "glaze gated:always")
    assert (verdict.result, verdict.exit_code) == ("changed", 1)
    assert verdict.judgement is not None
    assert "pin.videos" in verdict.judgement.vanished


@pytest.mark.parametrize(("fault", "result"), [("forbidden", "blocked"), ("login_wall", "login_required")])
async def test_a_refusal_is_not_taken_for_a_change(site: RunningSite, fault: str, result: str) -> None:
    verdict = await looked(site, f"glaze fault:{fault} times:always at:first")
    assert (verdict.result, verdict.exit_code, verdict.judgement) == (result, 69, None)
    assert verdict.line.startswith(f"{result}: The site ")
    assert verdict.line.endswith(".")


async def test_a_fault_that_passes_is_waited_out_and_a_search_with_too_little_is_not_judged(site: RunningSite) -> None:
    assert (await looked(site, "glaze fault:truncated at:first")).result == "ok"
    few = await looked(site, "glaze pins:5")
    assert (few.result, few.exit_code) == ("too_few", 69)


async def test_it_runs_beside_searches_on_idle_tabs_only(site: RunningSite) -> None:
    query = "glaze seed:idle"
    given = settings(site, warm_contexts=0, sessions=5, canary_interval_s=0.01, canary_query=query)

    async def asked() -> bool:
        return await searched(site, "idle") > 1

    async with Browser(given) as browser, AsyncExitStack() as others:
        for _ in range(3):
            await others.enter_async_context(browser.share())
        await others.enter_async_context(canary_running(browser))
        assert_all_found(await Crawl().run(browser, "glaze pins:120 seed:busy"), "glaze pins:120 seed:busy")
        asked_while_busy = await searched(site, "idle")
    async with Browser(given) as browser, canary_running(browser):
        await wait_for(asked, "it ran when the search was over")
    assert asked_while_busy == 0
    assert not browser.open_tabs
