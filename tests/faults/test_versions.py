"""Services of a later minor version beside services of this one."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from libs.client.client import Client
from libs.client.local import LocalOptions, LocalStack
from libs.common import subjects
from libs.common.bus import connect
from libs.common.settings import Settings
from tests.e2e.answer import assert_right
from tests.fake_pinterest import RunningSite, expected_results
from tests.patient import PATIENT

HERE = Path(__file__).parent


@pytest.mark.parametrize("later", [("gateway", "transformer"), ("crawler", "dedup")], ids=" and ".join)
async def test_messages_with_more_fields_than_are_known_change_nothing(
    site: RunningSite, later: tuple[str, ...]
) -> None:
    query = f"vase pins:60 seed:later-{later[0]}"
    options = LocalOptions(
        site_url=site.origin,
        media_hosts=urlsplit(site.origin).netloc,
        environ=PATIENT,
        environ_of={service: {"PYTHONPATH": f"{HERE / 'later'}:{HERE.parents[1]}"} for service in later},
    )
    async with LocalStack(options) as stack:
        search = Client(stack.ws_url).search(query, limit=1000)
        assert_right([video async for video in search], expected_results(query))
        assert search.session_id is not None
        async with connect(Settings(nats_url=stack.nats_url), "test") as bus:
            records = await bus.read(subjects.RESULTS, subjects.records_of(search.session_id), 1, 1000)
            letters = await bus.read(subjects.DEAD_LETTERS, subjects.ALL_DEAD_LETTERS, 1, 10)
        assert letters == []
        grown = {subjects.record_key(one.subject).kind for one in records if b'"of_a_later_version"' in one.body}
        written = {"gateway": {"request"}, "transformer": set(), "crawler": {"progress", "crawled"}, "dedup": {"video"}}
        assert set().union(*(written[service] for service in later)) <= grown
