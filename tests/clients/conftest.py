"""Gateways that replace each other behind one address."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from libs.client.broker import free_port
from libs.common.session_log import SessionLog
from tests.integration.firebase_gateway import FirebaseGateway, firebase_gateway
from tests.integration.gateway_process import GatewayProcess
from tests.tcp_proxy import TcpProxy


class Origin:
    """An address at which there is one gateway after another."""

    def __init__(self, nats_url: str, folder: Path, running: AsyncExitStack) -> None:
        self.nats_url, self.folder = nats_url, folder
        self.running = running
        self.gateways: list[GatewayProcess] = []
        self.pages_port = free_port()  # of an origin whose pages may connect
        self.proxy = TcpProxy()

    @property
    def url(self) -> str:
        """Such as http://127.0.0.1:9000."""
        return f"http://127.0.0.1:{self.proxy.port}"

    async def start(self) -> None:
        """A new gateway, to which all connections go from now on; those that stand stay where they are."""
        allowed = f"http://127.0.0.1:{self.pages_port}"
        gateway = GatewayProcess(self.nats_url, self.folder, drain_notice_s=0, allowed_origins=allowed)
        self.gateways.append(await self.running.enter_async_context(gateway))
        await gateway.ready()
        self.proxy.targets[:] = [("127.0.0.1", gateway.port)]

    async def replace(self, *, gently: bool = False) -> None:
        """The gateway that is there dies, or is stopped, and another one takes its place."""
        await self.start()
        before = self.gateways[-2]
        if gently:
            before.terminate()
        else:
            before.kill()
        await before.ended()


class Spare:
    """The same with gateways in this process, which are quicker to start; the first is there."""

    def __init__(self, log: SessionLog, running: AsyncExitStack) -> None:
        self.log, self.running = log, running
        self.proxy = TcpProxy()
        self.gateways: list[FirebaseGateway] = []

    @property
    def url(self) -> str:
        """As above."""
        return f"http://127.0.0.1:{self.proxy.port}"

    async def start(self) -> None:
        """A new gateway."""
        self.gateways.append(await self.running.enter_async_context(firebase_gateway(self.log)))
        host, port = self.gateways[-1].address.split(":")
        self.proxy.targets[:] = [(host, int(port))]

    async def replace(self) -> None:
        """The gateway that is there stops, and another one takes its place."""
        await self.start()
        await self.gateways[-2].firebase.drain()


@pytest.fixture
async def spare(log: SessionLog) -> AsyncIterator[Spare]:
    async with AsyncExitStack() as running:
        spare = Spare(log, running)
        await running.enter_async_context(spare.proxy)
        await spare.start()
        yield spare


@pytest.fixture
async def origin(nats_url: str, tmp_path: Path) -> AsyncIterator[Origin]:
    async with AsyncExitStack() as running:
        origin = Origin(nats_url, tmp_path, running)
        await running.enter_async_context(origin.proxy)
        await origin.start()
        yield origin
