"""The health of the whole, of real processes: by the micro protocol's own client, REST, the command and the page."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from libs.client.client import Client
from libs.client.local import LocalOptions, LocalStack
from libs.client.status import in_loop
from libs.common import subjects
from libs.common.bus import connect
from libs.common.keys import create
from libs.common.messages import CrawledRecord, ProgressRecord, Reason, RequestRecord, SearchRequest
from libs.common.session_log import session_log
from libs.common.settings import Settings
from tests.clients.environments import NODE, node
from tests.fake_pinterest import RunningSite
from tests.integration.gateway_process import GatewayProcess
from tests.patient import PATIENT
from tests.wait import wait_for

pytestmark = pytest.mark.asyncio(loop_scope="module")  # one system for all; what a test ends of it stays ended

SHOWN_WITHIN_S = 5.0  # a dead replica
SERVICES = {"gateway": 2, "crawler": 1, "transformer": 2, "dedup": 1}
CHROMIUM = shutil.which("chromium")  # None: the one that Playwright installed
AXE = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
CUT = """[...document.querySelectorAll(".board, .board th .value")]
    .filter((part) => part.scrollWidth > part.clientWidth || (part.matches(".value") && part.clientHeight > 30))
    .map((part) => part.textContent)"""  # tables that go on past their frame, names of more than a line
SCREENSHOTS = os.environ.get("SCREENSHOTS")  # a folder to leave some in

expect.set_options(timeout=20_000)  # ms; the machine may be running other tests beside these

shared = pytest_asyncio.fixture(scope="module", loop_scope="module")


@shared
async def stack(site: RunningSite) -> AsyncIterator[LocalStack]:
    options = LocalOptions(
        site_url=site.origin,
        media_hosts=urlsplit(site.origin).netloc,
        environ=PATIENT,
        restart=False,
        gateways=2,
        transformers=2,
    )
    async with LocalStack(options) as stack:
        yield stack


@shared
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        await browser.close()


@shared
async def http() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(trust_env=False, timeout=10) as client:
        yield client


def places(stack: LocalStack) -> list[str]:
    """Where the gateways tell of the whole."""
    return [url.replace("ws://", "http://").removesuffix("/ws") + "/v1/status" for url in stack.ws_urls]


async def told(http: httpx2.AsyncClient, place: str) -> dict[str, Any]:
    answer = await http.get(place)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def states(document: dict[str, Any]) -> dict[str, str]:
    """Of each replica, by its name."""
    return {one["replica"]: one["state"] for service in document["services"] for one in service["replicas"]}


async def becomes(http: httpx2.AsyncClient, place: str, wanted: dict[str, str], timeout_s: float = 20) -> None:
    """Returns when these replicas are in these states."""
    last: dict[str, str] = {}

    async def is_so() -> bool:
        last.update(states(await told(http, place)))
        return wanted.items() <= last.items()

    await wait_for(is_so, f"{wanted} at {place}; they were {last}", timeout_s)


async def command(capsys: pytest.CaptureFixture[str], *arguments: str, api_key: str | None = None) -> tuple[int, str]:
    """The exit code and the output of `pinstream status` at these addresses, without the start of a process."""
    code = await in_loop(",".join(arguments), watch=False, as_json=False, api_key=api_key)
    said = capsys.readouterr()
    return code, said.out + said.err


@asynccontextmanager
async def opened(browser: Browser, url: str, *, complaints_expected: bool = False, **more: Any) -> AsyncIterator[Page]:
    """The page; at the end it must not have complained, be it of a fault or of its security policy."""
    context = await browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **more})
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    await page.goto(url)
    yield page
    await context.close()
    assert complaints_expected or not complaints, complaints


async def accessible(page: Page) -> None:
    """By axe-core, without a violation."""
    await page.evaluate(AXE)
    found = await page.evaluate("axe.run()")
    assert len(found["passes"]) > 15, "axe looked at nothing"
    broken = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]]
    assert not broken, broken


async def photographed(page: Page, name: str) -> None:
    if SCREENSHOTS:
        await page.screenshot(path=Path(SCREENSHOTS) / f"status-{name}.png", full_page=True)


async def micro(stack: LocalStack, *arguments: str) -> dict[str, list[dict[str, Any]]]:
    """What npm `nats` finds by the micro protocol."""
    process = await asyncio.create_subprocess_exec(
        node(), str(NODE / "micro.mjs"), stack.nats_url, *arguments, stdout=PIPE
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    found: dict[str, list[dict[str, Any]]] = json.loads(out)
    return found


async def test_every_service_is_seen_by_the_protocols_own_client(stack: LocalStack) -> None:
    found: dict[str, list[dict[str, Any]]] = {}

    async def all_answer() -> bool:  # within the half second that the client waits for one more
        found.update(await micro(stack, "ping,info,stats"))
        return all(len(answers) == sum(SERVICES.values()) for answers in found.values())

    await wait_for(all_answer, "every replica answers")
    for answers in found.values():
        names = [answer["name"] for answer in answers]
        assert {name: names.count(name) for name in names} == {
            f"pinstream-{service}": count for service, count in SERVICES.items()
        }
        assert len({answer["id"] for answer in answers}) == sum(SERVICES.values())
    assert {frozenset(answer["id"] for answer in answers) for answers in found.values()} == {
        frozenset(answer["id"] for answer in found["ping"])
    }
    processes = {str(process.pid) for process in stack.services}
    assert {answer["metadata"]["pid"] for answer in found["stats"]} == processes
    handled = {endpoint["subject"] for answer in found["info"] for endpoint in answer["endpoints"]}
    assert {"search.requests.*", "media.raw.*.*", "media.direct.*.*", "$KV.results.>"} <= handled
    one = next(answer for answer in found["stats"] if answer["name"] == "pinstream-dedup")
    alone = await micro(stack, "stats", "pinstream-dedup", one["id"])
    assert [answer["id"] for answer in alone["stats"]] == [one["id"]]


async def test_what_a_search_costs_each_stage_is_shown_by_both_gateways(
    stack: LocalStack, http: httpx2.AsyncClient
) -> None:
    videos = [video async for video in Client(stack.ws_url).search("ceramic glaze", limit=8)]
    assert len(videos) == 8

    async def counted() -> bool:
        documents = [await told(http, place) for place in places(stack)]
        return all(
            _stage(document, "dedup", "dedup")["per_second"] and _stage(document, "crawler", "crawler")["latency_ms"]
            for document in documents
        )

    await wait_for(counted, "the work is counted")
    both = [await told(http, place) for place in places(stack)]
    for document in both:
        assert states(document) == {
            f"{service}-{number + 1}": "ready" for service, count in SERVICES.items() for number in range(count)
        }
        done = {
            endpoint["name"]: endpoint["done"] + 0
            for service in document["services"]
            for replica in service["replicas"]
            for endpoint in replica["endpoints"]
            if endpoint["done"]
        }
        assert done["dedup"] >= 8 and done["transformer"] >= 1 and done["crawler"] == 1 and done["pages"] >= 1
        assert _stage(document, "transformer", "transformer")["most"] == 2 * 200
        assert all(one["memory_bytes"] > 2e7 for service in document["services"] for one in service["replicas"])
        assert {one["consumer"] for one in document["queues"]} >= {"crawler", "transformer", "dedup"}
    assert {document["answered_by"] for document in both} == {"gateway-1", "gateway-2"}


def _stage(document: dict[str, Any], service: str, name: str) -> dict[str, Any]:
    found = next(one for one in document["services"] if one["service"] == service)
    stage: dict[str, Any] = next((one for one in found["stages"] if one["name"] == name), {})
    return {"per_second": None, "latency_ms": None, **stage}


async def test_the_command_shows_all_and_says_by_its_exit_code_that_all_is_well(stack: LocalStack) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "libs.client.cli", "status", "--watch", "--json"),
        stdout=PIPE,
        env={**os.environ, "PINSTREAM_URL": stack.ws_url},
    )
    assert process.stdout is not None
    first, second = json.loads(await process.stdout.readline()), json.loads(await process.stdout.readline())
    process.send_signal(signal.SIGINT)
    assert await process.wait() == 0
    assert len(states(first)) == sum(SERVICES.values())
    assert first["now"] < second["now"]


async def test_a_killed_replica_is_lost_within_five_seconds_wherever_one_looks(
    stack: LocalStack, browser: Browser, http: httpx2.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(browser, stack.page_url + "status") as page:
        row = page.get_by_role("row", name="transformer-2")
        await expect(row.get_by_role("cell").first).to_have_text("Ready")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Every replica is ready")
        stack.kill("transformer", 1)
        killed_at = time.monotonic()
        await asyncio.gather(
            *(becomes(http, place, {"transformer-2": "lost"}, SHOWN_WITHIN_S) for place in places(stack)),
            expect(row.get_by_role("cell").first).to_contain_text("Lost", timeout=SHOWN_WITHIN_S * 1000),
        )
        assert time.monotonic() - killed_at < SHOWN_WITHIN_S + 1, "the looking itself took long"
        await expect(page.get_by_role("heading", level=1)).to_have_text("Every service is up, not every replica")
        await expect(page.get_by_role("status")).to_contain_text("transformer-2 is lost.")
        await accessible(page)
        await photographed(page, "lost")
    code, said = await command(capsys, stack.ws_url)
    assert code == 0 and "lost for" in said and "dedup-1" in said


async def test_the_page_shows_figures_that_move_and_can_be_read_in_words(stack: LocalStack, browser: Browser) -> None:
    """In the dark, as narrow as a phone, by the keyboard."""
    phone: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "color_scheme": "dark"}
    async with (
        connect(Settings(nats_url=stack.nats_url), "test") as bus,
        session_log(bus) as log,
        opened(browser, stack.page_url + "status", **phone) as page,
    ):
        chart = page.get_by_role("figure").filter(has_text="Sessions")
        await expect(page.get_by_role("row", name="gateway-1")).to_be_visible()
        await expect(page.locator("#sessions")).to_have_text("Under way0")
        session = "f" * 32
        request = SearchRequest(session=session, query="q", result_limit=1, requested_at=time.time(), deadline_s=600)
        await log.create(session, subjects.REQUEST, RequestRecord(request=request))
        await expect(page.locator("#sessions")).to_contain_text("Queued1")
        await log.put(session, subjects.PROGRESS, ProgressRecord(state="waiting"))
        await expect(page.locator("#sessions")).to_contain_text("Waiting1")
        await log.create(session, subjects.CRAWLED, CrawledRecord(reason=Reason.EXHAUSTED, items=0))
        await expect(page.locator("#sessions")).to_have_text("Under way0")
        waiting = chart.get_by_role("row", name="Waiting for the site").get_by_role("cell")
        assert await waiting.all_text_contents() == ["0", "1"]
        await expect(chart.get_by_role("img")).to_have_attribute("aria-label", re.compile(r"^Sessions: Under way \d"))
        drawn = await chart.locator("canvas").evaluate(
            "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
        )
        assert drawn
        await expect(page.get_by_role("figure")).to_have_count(4)
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360
        assert await page.evaluate(CUT) == []
        await accessible(page)
        await photographed(page, "phone")
        reached = []
        for _ in range(5):
            await page.keyboard.press("Tab")
            reached.append(await page.evaluate("document.activeElement.textContent.trim()"))
        assert reached == ["Skip to the services", "pinstream", "Search", "Interfaces", "/v1/status"]
        await page.get_by_role("link", name="Skip to the services").press("Enter")
        assert await page.evaluate("document.activeElement.id") == "services"


async def test_where_a_key_is_needed_the_page_and_the_command_ask_for_one(
    stack: LocalStack,
    browser: Browser,
    http: httpx2.AsyncClient,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async with connect(Settings(nats_url=stack.nats_url), "test") as bus:
        key = (await create(bus, "operator")).text
    async with GatewayProcess(stack.nats_url, tmp_path, anonymous="no") as gateway:
        place = f"http://{gateway.address}/v1/status"
        assert (await http.get(place)).status_code == 401
        assert (await http.get(place, headers={"X-API-Key": key})).json()["reduced"] is False
        async with opened(browser, f"http://{gateway.address}/status", complaints_expected=True) as page:
            field = page.get_by_label("API key or token")
            await expect(field).to_be_focused()
            await accessible(page)
            await field.fill(f"ps_0123456789abcdef_{'a' * 43}")
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("alert")).to_have_text("This key was refused.")
            await field.fill(key)
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("row", name="dedup-1")).to_be_visible()
            assert key not in page.url
            await page.get_by_role("button", name="Forget it").click()
            await expect(field).to_be_visible()
        code, said = await command(capsys, gateway.url)
        assert code == 2 and "PINSTREAM_API_KEY" in said
        code, said = await command(capsys, gateway.url, api_key=key)
        assert code == 0 and "dedup-1" in said
        assert key not in gateway.said


async def test_a_service_without_a_replica_makes_the_command_fail(
    stack: LocalStack, http: httpx2.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    process = stack.processes("dedup")[0].process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    await process.wait()
    await becomes(http, places(stack)[0], {"dedup-1": "stopped"}, timeout_s=2)  # it said so itself
    code, said = await command(capsys, "ws://127.0.0.1:9/ws", stack.ws_url)  # the first gateway that answers tells
    assert code == 1 and "no replica can take work of: dedup" in said
    code, said = await command(capsys, "ws://127.0.0.1:9/ws")
    assert code == 69 and "no gateway" in said


async def test_a_gateway_that_begins_later_shows_the_same(stack: LocalStack, http: httpx2.AsyncClient) -> None:
    second = stack.processes("gateway")[1]
    assert second.process is not None
    second.process.kill()
    await second.process.wait()
    await second.start()
    await stack._until_ready(http, second)
    await becomes(http, places(stack)[1], {"transformer-2": "lost", "dedup-1": "stopped", "gateway-1": "ready"}, 5)


async def test_while_the_broker_is_away_it_is_told_what_was_known_last(
    stack: LocalStack, browser: Browser, http: httpx2.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(browser, stack.page_url + "status") as page:
        await expect(page.get_by_role("heading", level=1)).to_contain_text("No replica is ready: dedup")
        assert stack.broker is not None
        await asyncio.to_thread(stack.broker.stop)
        await expect(page.get_by_role("heading", level=1)).to_have_text("The gateway has lost the broker")
        await expect(page.locator("#as-of")).to_contain_text("What is below was so at")
        await expect(page.get_by_role("row", name="transformer-1")).to_contain_text("Ready")
    document = await told(http, places(stack)[0])
    assert document["stale"] and not document["broker"]["connected"] and document["broker"]["trouble"]
    assert states(document)["transformer-1"] == "ready" and document["queues"]
    code, said = await command(capsys, stack.ws_url)
    assert code == 1 and "what was known last" in said
