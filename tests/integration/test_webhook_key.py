"""The key that gateways share for the secrets of webhooks is changed, and no receiver has to refuse a post for it."""

from __future__ import annotations

import asyncio
import os
import sys
import time

from standardwebhooks import Webhook, WebhookVerificationError

from libs.common.bus import Bus
from services.gateway.webhooks.signing import Secrets, secrets_of
from tests.integration.gateway_process import ROOT

BODY = b'{"type": "completed"}'


def verified(signing: Secrets, secret: str) -> bool:
    """Whether who has `secret` takes what a gateway signs for mia."""
    now = int(time.time())
    signature = signing.signature("mia", "", "id", now, BODY)
    headers = {"webhook-id": "id", "webhook-timestamp": str(now), "webhook-signature": signature}
    try:
        Webhook(secret).verify(BODY, headers)
    except WebhookVerificationError:
        return False
    return True


async def changed(nats_url: str, *options: str) -> str:
    """What the command says."""
    command = [sys.executable, "-m", "libs.client.cli", "keys", "webhooks", *options]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env={**os.environ, "NATS_URL": nats_url}, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode()


async def test_a_changed_key_signs_beside_the_old_one_until_that_is_dropped(nats_url: str, bus: Bus) -> None:
    before = await secrets_of(bus, ())
    old = before.shown("mia")
    assert "restart the gateways" in await changed(nats_url)
    meanwhile = await secrets_of(bus, ())
    new = meanwhile.shown("mia")
    assert new != old
    assert [verified(signing, secret) for signing in (before, meanwhile) for secret in (old, new)] == [
        True,
        False,  # of a gateway that was not restarted, which shows the old one too
        True,
        True,
    ]
    assert "old keys dropped: 1" in await changed(nats_url, "--drop-old")
    after = await secrets_of(bus, ())
    assert (after.shown("mia"), verified(after, old), verified(after, new)) == (new, False, True)


async def test_a_key_of_the_settings_goes_before_the_shared_one(bus: Bus) -> None:
    given = await secrets_of(bus, ("k" * 32,))
    assert given.shown("mia") == Secrets([b"k" * 32]).shown("mia") != (await secrets_of(bus, ())).shown("mia")
