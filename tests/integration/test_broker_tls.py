"""TLS between a service and its broker, by settings and the committed server-tls.conf."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from libs.client.broker import Broker
from libs.common.broker_access import tls_context
from libs.common.bus import Bus, connect
from libs.common.errors import BadSetting, StartFailed
from libs.common.settings import Settings, from_environment
from tests.authority import Authority
from tests.guarded import guarded_broker, key, with_certificates
from tests.wait import wait_until

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "tls")


@pytest.fixture
def other(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "other")


def tls_broker(tmp_path: Path, *, verify: bool) -> Broker:
    broker = guarded_broker(tmp_path, file="server-tls.conf")
    with_certificates(broker.store, tmp_path / "tls")
    broker.environ = {"NATS_TLS_VERIFY": "true" if verify else "false"}
    return broker


@pytest.fixture
def broker(tmp_path: Path, authority: Authority) -> Iterator[Broker]:
    """One that shows a certificate."""
    broker = tls_broker(tmp_path, verify=False)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def mutual(tmp_path: Path, authority: Authority) -> Iterator[Broker]:
    """One that wants to see one, too."""
    broker = tls_broker(tmp_path, verify=True)
    broker.start()
    yield broker
    broker.stop()


def told(broker: Broker, **more: str) -> Settings:
    """The gateway's settings."""
    environ = {
        "NATS_URL": broker.url.replace("nats://", "tls://"),
        "NATS_NKEY_FILE": key(broker.store.parent, "gateway"),
        **{name.upper(): value for name, value in more.items()},
    }
    return from_environment(Settings, environ)


def is_encrypted(bus: Bus) -> bool:
    transport: Any = bus.client._transport
    return transport._io_writer.get_extra_info("ssl_object") is not None


async def test_a_service_checks_the_broker_by_the_authority_that_it_is_told(
    broker: Broker, authority: Authority, other: Authority
) -> None:
    async with connect(told(broker, nats_ca_file=authority.ca_file), "gateway") as bus:
        assert is_encrypted(bus)
    plain = Settings(
        nats_url=broker.url, nats_nkey_file=key(broker.store.parent, "gateway"), nats_ca_file=authority.ca_file
    )
    async with connect(plain, "gateway") as bus:  # the file alone demands it, whatever the address says
        assert is_encrypted(bus)
    with pytest.raises(
        StartFailed, match=r"certificate is not accepted \(.*\): NATS_CA_FILE is not the one that issued it"
    ):
        async with connect(told(broker, nats_ca_file=other.ca_file), "gateway"):
            pass
    with pytest.raises(StartFailed, match="NATS_CA_FILE is not set"):
        async with connect(told(broker), "gateway"):
            pass


async def test_a_service_shows_its_own_certificate_where_the_broker_asks_for_one(
    mutual: Broker, authority: Authority, other: Authority
) -> None:
    certificate, secret = authority.issue("gateway")
    mine = {"nats_ca_file": authority.ca_file, "nats_cert_file": certificate, "nats_key_file": secret}
    async with connect(told(mutual, **mine), "gateway") as bus:
        assert is_encrypted(bus)
    with pytest.raises(StartFailed, match="asks for a certificate: set NATS_CERT_FILE and NATS_KEY_FILE"):
        async with connect(told(mutual, nats_ca_file=authority.ca_file), "gateway"):
            pass
    certificate, secret = other.issue("gateway")
    with pytest.raises(StartFailed, match="does not accept the certificate of NATS_CERT_FILE"):
        strange = {"nats_cert_file": certificate, "nats_key_file": secret}
        async with connect(told(mutual, nats_ca_file=authority.ca_file, **strange), "gateway"):
            pass


async def test_a_broker_without_tls_is_not_talked_to_where_tls_is_demanded(
    tmp_path: Path, authority: Authority
) -> None:
    broker = guarded_broker(tmp_path)
    broker.start()
    try:
        with pytest.raises(StartFailed, match=r"offers no TLS: NATS_URL, NATS_CA_FILE or NATS_CERT_FILE demand it"):
            async with connect(told(broker, nats_ca_file=authority.ca_file), "gateway"):
                pass
    finally:
        broker.stop()


async def test_renewed_certificates_are_taken_up_without_a_restart(
    broker: Broker, authority: Authority, other: Authority
) -> None:
    trusted = authority.folder / "trusted.crt"
    trusted.write_bytes((authority.folder / "ca.crt").read_bytes())
    async with connect(told(broker, nats_ca_file=str(trusted)), "gateway") as bus:
        for name in ("tls.crt", "tls.key", "ca.crt"):  # a new authority, and a certificate of it
            (authority.folder / name).write_bytes((other.folder / name).read_bytes())
        trusted.write_bytes((other.folder / "ca.crt").read_bytes())
        await asyncio.to_thread(broker.stop)
        with capture_logs() as logs:
            broker.start()
            await wait_until(lambda: bus.reconnects == 1, "connected again")
        assert is_encrypted(bus)
    assert [line for line in logs if "certificate" in str(line)] == []


@pytest.mark.parametrize(("page", "server"), [("nats.md", "nats-0"), ("kubernetes.md", "nats")])
async def test_certificates_made_as_the_docs_say_are_accepted(page: str, server: str, tmp_path: Path) -> None:
    [recipe] = [block for block in (DOCS / page).read_text().split("```")[1::2] if "-x509 " in block]
    steps = "\n".join(line for line in recipe.splitlines() if not line.startswith("kubectl "))
    made = await asyncio.create_subprocess_exec("bash", "-euc", steps, cwd=tmp_path)
    assert await made.wait() == 0
    shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    shown.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    trusting = tls_context(Settings(nats_ca_file=str(tmp_path / "ca.crt")))

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", ssl=shown) as serving:
        port = serving.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname=server)
        assert await reader.read() == b"hello"
        writer.close()


async def test_a_broker_that_is_called_by_another_name_is_told_from_an_authority_that_is_another(
    broker: Broker, authority: Authority
) -> None:
    authority.issue("tls", "nats-0")
    await asyncio.to_thread(broker.stop)
    broker.start()
    with pytest.raises(StartFailed, match="NATS_URL has to name the server as its certificate does"):
        async with connect(told(broker, nats_ca_file=authority.ca_file), "gateway"):
            pass


@pytest.mark.parametrize("name", ["NATS_NKEY_FILE", "NATS_CA_FILE", "NATS_CERT_FILE", "NATS_KEY_FILE"])
def test_a_file_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(BadSetting, match=rf"^{name}: '/no/such' is not a file"):
        from_environment(Settings, {name: "/no/such"})


def test_settings_that_go_together(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("none")
    with pytest.raises(BadSetting, match="NATS_CERT_FILE and NATS_KEY_FILE: one without the other"):
        from_environment(Settings, {"NATS_CERT_FILE": str(file)})
    with pytest.raises(BadSetting, match="NATS_PASSWORD: it is of no use without NATS_USER"):
        from_environment(Settings, {"NATS_PASSWORD": "x"})


async def test_a_file_that_holds_no_certificate_is_named() -> None:
    file = __file__
    with pytest.raises(StartFailed, match=r"NATS_CA_FILE: .* holds no certificates"):
        async with connect(Settings(nats_ca_file=file), "gateway"):
            pass
    with pytest.raises(StartFailed, match=r"NATS_CERT_FILE, NATS_KEY_FILE: .* are no certificate and its key"):
        async with connect(Settings(nats_cert_file=file, nats_key_file=file), "gateway"):
            pass
