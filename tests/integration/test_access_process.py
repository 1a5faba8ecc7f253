"""The gateway as a process: its certificate, its logs, its start, the command that makes keys, and an outage."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest
import trustme
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from libs.client.broker import Broker, free_port
from libs.common import keys
from libs.common.bus import connect as broker_connection
from libs.common.probe import probe
from libs.common.session_log import session_log
from libs.common.settings import Settings
from libs.common.streams import StreamSettings, set_up
from tests.integration.gateway_process import ROOT, GatewayProcess, ask, begun, give, receive, receive_event
from tests.tcp_proxy import TcpProxy
from tests.wait import wait_until


def issue(authority: trustme.CA, folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1, in files that are replaced each as a whole."""
    issued = authority.issue_cert("127.0.0.1")
    cert, key = folder / "cert.pem", folder / "key.pem"
    for blob, file in ((issued.private_key_pem, key), (issued.cert_chain_pems[0], cert)):
        blob.write_to_path(str(file) + ".new")
        Path(str(file) + ".new").replace(file)
    return cert, key


async def test_a_new_certificate_is_in_use_without_a_restart(nats_url: str, tmp_path: Path) -> None:
    old, new = trustme.CA(), trustme.CA()
    cert, key = issue(old, tmp_path)

    def trusting(authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    health = free_port()
    settings = {"tls_cert_file": cert, "tls_key_file": key, "health_port": health}
    async with GatewayProcess(nats_url, tmp_path, **settings) as gateway:
        assert await asyncio.to_thread(probe, health) == ""  # as the image's health check asks
        url = f"wss://{gateway.address}/ws"
        async with connect(url, ssl=trusting(old)) as standing:
            async with httpx2.AsyncClient(verify=trusting(old), trust_env=False) as client:
                answer = await client.get(f"https://{gateway.address}/")
                assert answer.headers["strict-transport-security"].startswith("max-age=")
            key.write_text("no key")  # in the middle of being replaced
            await wait_until(lambda: "cannot be used" in gateway.said, "it is said that this is no certificate")
            issue(new, tmp_path)
            await wait_until(lambda: "a new certificate is in use" in gateway.said, "the new one is read")
            async with connect(url, ssl=trusting(new)) as client_of_new:
                await ask(client_of_new, "ping")
                assert (await receive_event(client_of_new, "pong"))["event"] == "pong"
            with pytest.raises(ssl.SSLError):
                await connect(url, ssl=trusting(old))
            await ask(standing, "ping")
            assert (await receive_event(standing, "pong"))["event"] == "pong"


@pytest.mark.parametrize(
    ("settings", "code", "named"),
    [
        ({"GATEWAY_HOST": "0.0.0.0", "ANONYMOUS": "yes"}, 69, "needs TLS_CERT_FILE"),
        ({"TLS_CERT_FILE": __file__, "TLS_KEY_FILE": __file__}, 69, "no certificate"),
        ({"ALLOWED_ORIGINS": "*"}, 78, "ALLOWED_ORIGINS"),
    ],
)
def test_what_is_not_safe_does_not_start(nats_url: str, settings: dict[str, str], code: int, named: str) -> None:
    environ = {**os.environ, "NATS_URL": nats_url, "GATEWAY_PORT": str(free_port()), **settings}
    command = [sys.executable, "-m", "services.gateway"]
    ended = subprocess.run(command, env=environ, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == code
    assert named in ended.stderr


async def test_the_command_makes_lists_and_revokes_keys(nats_url: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    cert, key = issue(authority, tmp_path)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    trusting = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))

    async def pinstream(*arguments: str, **more: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "libs.client.cli", *arguments]
        known = {"NATS_URL": nats_url, "COLUMNS": "200", "SSL_CERT_FILE": str(tmp_path / "ca.pem")}
        environ = {**os.environ, **known, **more}
        process = await asyncio.create_subprocess_exec(
            *command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    code, out, _ = await pinstream("keys", "create", "nightly", "--owner", "team", "--days", "30")
    text = out.strip()
    found = keys.KEY.fullmatch(text)
    assert (code, found is not None) == (0, True)
    assert found is not None
    headers = {"Authorization": f"Bearer {text}"}
    async with (
        GatewayProcess(nats_url, tmp_path, anonymous="no", tls_cert_file=cert, tls_key_file=key) as gateway,
        connect(f"wss://{gateway.address}/ws", additional_headers=headers, ssl=trusting) as client,
    ):
        await ask(client, "ping")
        assert (await receive_event(client, "pong"))["event"] == "pong"
        _, listed, _ = await pinstream("keys", "list", "--json")
        facts = next(one for one in map(json.loads, listed.splitlines()) if one["id"] == found["id"])
        assert (facts["name"], facts["owner"], facts["state"]) == ("nightly", "team", "valid")
        assert found["secret"] not in listed
        asked = {"PINSTREAM_URL": f"wss://{gateway.address}/ws", "PINSTREAM_API_KEY": text}
        async with httpx2.AsyncClient(verify=trusting, trust_env=False) as rest:
            told = (await rest.get(f"https://{gateway.address}/v1/webhook-secret", headers=headers)).json()
        assert await pinstream("webhook-secret", **asked) == (0, f"{told['webhook_secret']}\n", "")
        assert (await pinstream("keys", "revoke", found["id"]))[0] == 0
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert client.close_code == 4501
        code, out, err = await pinstream("webhook-secret", **asked)
        assert (code, out, "a key is needed" in err) == (2, "", True)
    named = "ci [/prod] [b]x[/b]"
    await pinstream("keys", "create", named)
    code, listed, err = await pinstream("keys", "list")
    assert (code, err, named in listed) == (0, "", True)
    code, _, err = await pinstream("keys", "revoke", "0" * 16)
    assert (code, "no key" in err) == (1, True)


async def test_keys_are_known_and_a_resume_is_borne_while_the_broker_is_away(broker: Broker, tmp_path: Path) -> None:
    async with (
        TcpProxy(("127.0.0.1", broker.port)) as network,
        broker_connection(Settings(nats_url=broker.url), "test") as bus,
    ):
        await set_up(bus, StreamSettings())
        key = (await keys.create(bus, "test")).text
        headers = {"Authorization": f"Bearer {key}"}
        async with session_log(bus) as log, GatewayProcess(network.url, tmp_path, anonymous="no") as gateway:
            async with connect(gateway.url, additional_headers=headers) as client:
                session = await begun(client)
            await network.cut(hole=True)
            async with connect(gateway.url, additional_headers=headers) as client:
                await ask(client, "resume_extraction", session_id=session)
                await ask(client, "ping")  # answered at once: the resume waits by itself
                await receive_event(client, "pong", timeout_s=10)
                await network.mend()
                sequence = await give(log, session, 1)
                frame = await receive(client)
                while frame["event"] == "progress":
                    frame = await receive(client)
                assert (frame["event"], frame["sequence"]) == ("video", sequence)
