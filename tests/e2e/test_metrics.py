"""What the crawler's metrics tell a collector."""

from __future__ import annotations

from libs.client.client import Client
from tests.e2e.conftest import Stack
from tests.metric_collector import running_collector
from tests.wait import wait_until


async def test_the_canary_runs_by_itself_and_ordinary_answers_tell_of_a_changed_shape(stack_of: Stack) -> None:
    query = "glaze pins:120 seed:metrics fault:renamed_field at:first"
    async with running_collector() as collector:
        environ = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "CANARY_INTERVAL_S": "0.5",
        }
        stack = await stack_of(environ=environ)
        videos = [video async for video in Client(stack.ws_url).search(query, limit=5)]
        assert len(videos) == 5
        told = collector.values
        await wait_until(lambda: told.get(("crawler", "pinstream.canary.ok", "")) == 1, "the canary was well")
        await wait_until(
            lambda: told.get(("crawler", "pinstream.crawler.unknown_answers", "fields")) == 1, "the page was counted"
        )
        await wait_until(lambda: told.get(("crawler", "pinstream.canary.runs", "ok"), 0) > 1, "it runs again")
