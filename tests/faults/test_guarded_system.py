"""The whole system on a broker that lets each service do its own work only."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from libs.client.client import Client
from libs.common import subjects
from libs.common.bus import connect
from libs.common.messages import Reason
from libs.common.settings import Settings
from tests.fake_pinterest import RunningSite
from tests.faults.system import System
from tests.faults.watch import Watch
from tests.guarded import USERS, guarded_broker, key

NEWER_ANSWERS = "feature_flags { js_ack_fc_v2: true }\n"  # as servers of 2.16 and later have them by themselves


async def test_no_more_is_needed_where_the_broker_has_newer_subjects_for_answers(
    site: RunningSite, tmp_path: Path
) -> None:
    broker = guarded_broker(tmp_path, more=NEWER_ANSWERS)  # tests/e2e are run with the older ones
    broker.start()
    known = {user: {"nats_nkey_file": key(tmp_path, user)} for user in USERS}
    try:
        with capture_logs() as logs:
            async with (
                System(site.origin, broker.url, settings=known) as system,
                connect(Settings(nats_url=broker.url, nats_nkey_file=key(tmp_path, "operator")), "test") as bus,
            ):
                watch = Watch(system.ws_url, "bowls pins:60 seed:guarded")
                endless = Watch(system.ws_url, "jugs pins:4000 seed:guarded latency:50")
                await endless.has(5)
                await Client(system.ws_url).cancel(endless.session)
                await endless.task
                assert endless.search.completed is not None
                assert endless.search.completed.reason is Reason.CANCELLED
                await watch.exact()
                await bus.api(f"CONSUMER.DELETE.{subjects.RAW}.{subjects.TRANSFORMER}")  # which its service makes again
                await Watch(system.ws_url, "plates pins:30 seed:guarded").exact()
    finally:
        broker.stop()
    assert any(line["event"] == "crawled" for line in logs)
    assert [line for line in logs if "permission" in line["event"]] == []
