"""npm `firebase`, as it is made for browsers, in Chromium."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Page, async_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from libs.common import subjects
from libs.common.health import http_server, listen
from libs.common.session_log import SessionLog
from services.gateway.firebase.tree import key_of
from tests.clients.client_process import SEEN_S
from tests.clients.conftest import Origin
from tests.clients.environments import NODE, node
from tests.integration.firebase_gateway import begin
from tests.integration.gateway_process import finish, give, give_many
from tests.wait import wait_for

CHROMIUM = shutil.which("chromium")  # None: the one that Playwright installed
APP = "https://www.gstatic.com/firebasejs/12.19.0/firebase-app.js"  # as the SDK's files name each other
PAGE = f"""<!doctype html><title>listening</title>
<script type="importmap">
  {{"imports": {{"{APP}": "/sdk/firebase-app.js", "database": "/sdk/firebase-database.js"}}}}
</script>
<script type="module">
  import {{ initializeApp }} from "{APP}";
  import * as db from "database";
  db.forceWebSockets();
  const query = new URLSearchParams(location.search);
  const database = db.getDatabase(initializeApp({{ databaseURL: query.get("at") }}));
  window.added = [], window.removed = [], window.states = [];
  window.begin = async (value) => {{
    const pushed = await db.push(db.ref(database, "requests"), value);
    return (await db.get(db.child(pushed, "session_id"))).val();
  }};
  const session = db.ref(database, `sessions/${{query.get("session")}}`);
  db.onChildAdded(db.child(session, "videos"), (child) => added.push(child.key));
  db.onChildRemoved(db.child(session, "videos"), (child) => removed.push(child.key));
  db.onValue(db.child(session, "status/state"), (snapshot) => states.push(snapshot.val()));
</script>"""


@pytest.fixture
async def page(origin: Origin) -> AsyncIterator[Page]:
    """A page that may listen, at an origin of its own."""

    async def html(_request: Request) -> HTMLResponse:
        return HTMLResponse(PAGE)

    node()  # brings the SDK
    sdk = StaticFiles(directory=NODE / "node_modules" / "firebase")
    sock = listen("127.0.0.1", origin.pages_port)
    async with (
        http_server(Starlette(routes=[Route("/", html), Mount("/sdk", sdk)]), sock),
        async_playwright() as playwright,
    ):
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = await browser.new_page(base_url=f"http://127.0.0.1:{sock.getsockname()[1]}")
        yield page
        await browser.close()


async def test_a_page_has_each_child_once_across_a_restart(
    origin: Origin, page: Page, log: SessionLog, session: str
) -> None:
    await begin(log, session, limit=1000)
    sequences = await give_many(log, session, range(40), 2000)

    async def sees(count: int) -> None:
        async def enough() -> bool:
            return bool(await page.evaluate("window.added ? added.length : 0") >= count)

        await wait_for(enough, f"{count} children", SEEN_S)

    await page.goto(f"/?session={session}&at={origin.url}/?ns=pinstream")
    await page.wait_for_function("window.begin")
    await sees(40)
    sequences.append(await give(log, session, 100))
    await sees(41)
    await origin.replace()
    sequences += await give_many(log, session, range(200, 240), 2000)
    await sees(81)
    await finish(log, session, 81)
    await page.wait_for_function("states.at(-1) === 'completed'")
    assert await page.evaluate("added") == [key_of(sequence) for sequence in sequences]
    assert await page.evaluate("removed") == []
    begun = await page.evaluate("begin({search_query: 'cats', result_limit: 2})")
    assert await log.get(begun, subjects.REQUEST) is not None
