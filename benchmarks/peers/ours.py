"""The whole system as a user has it: a gateway, a WebSocket, and the real host names."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import aclosing
from typing import Any

from benchmarks.bench_footprint import processes
from benchmarks.peers.contenders import Task
from benchmarks.peers.finding import Finding, counted, forget, measured, since
from libs.client.client import Client
from libs.client.local import LocalOptions, LocalStack
from libs.common.frames import VideoFrame
from tests.fake_pinterest import RunningSite

QUIET_S, SETTLED_S = 1.0, 20.0  # no request of the site for so long: a warm context is ready


def options(site: RunningSite, environ: dict[str, str]) -> LocalOptions:
    """With its defaults, but for the way to the stand-in and limits that are of one address."""
    assert site.proxy and site.ca_file
    way = {"UPSTREAM_PROXY": site.proxy, "UPSTREAM_CA_FILE": site.ca_file}
    limits = {"SESSIONS_PER_ADDRESS": "1000", "REQUESTS_PER_MINUTE_PER_ADDRESS": "100000"}
    return LocalOptions(environ={**way, **limits, **environ})


async def search(stack: LocalStack, site: RunningSite, task: Task, *, began: float | None = None) -> Finding:
    """One search; `began`: from when its time counts, if not from now."""
    finding = Finding(load=os.getloadavg()[0])
    await forget(site)
    began = time.monotonic() if began is None else began
    asked: dict[str, Any] = {"url": task.url} if task.url else {"query": task.query}
    asking = Client(stack.ws_url).search(**asked, limit=5000)

    async def read() -> None:
        async with aclosing(asking.frames()) as frames:
            async for frame in frames:
                if isinstance(frame, VideoFrame):
                    others = [one.url for one in frame.video.alternatives]
                    finding.add([frame.video.url, *others], since(began))
                    if task.first_only and finding.videos:  # not at an embed, which is none of the CDN
                        return

    async with measured(finding, list(processes(stack).values())):
        try:
            async with asyncio.timeout(task.patience_s):
                await read()
        except TimeoutError:
            finding.ended = "patience"
    finding.total_s = since(began)
    if asking.completed is not None:
        reason = str(asking.completed.reason)
        finding.ended = "" if reason in ("exhausted", "limit") else reason
        finding.said = asking.completed.message or ""
    await counted(site, finding)
    return finding


async def from_standing(site: RunningSite, environ: dict[str, str], task: Task) -> Finding:
    """From the start of the broker and all services."""
    began = time.monotonic()
    async with LocalStack(options(site, environ)) as stack:
        return await search(stack, site, task, began=began)


async def settled(site: RunningSite) -> None:
    """Returns when the stand-in has not been asked for a while."""
    finding, quiet_since, until = Finding(), time.monotonic(), time.monotonic() + SETTLED_S
    last = -1
    while since(quiet_since) < QUIET_S and time.monotonic() < until:
        await asyncio.sleep(0.1)
        await counted(site, finding)
        now = finding.site_requests + finding.cdn_requests
        if now != last:
            last, quiet_since = now, time.monotonic()
