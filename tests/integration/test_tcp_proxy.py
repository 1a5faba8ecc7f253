"""The proxy that the network's faults are made with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest

from tests.tcp_proxy import TcpProxy
from tests.wait import wait_until


@pytest.fixture
async def echo() -> AsyncIterator[tuple[str, int]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(1000):
                writer.write(chunk)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()
        server.close()


async def test_what_is_sent_comes_back_and_the_end_too(echo: tuple[str, int]) -> None:
    async with TcpProxy(echo) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"x" * 300_000)
        assert await reader.readexactly(300_000) == b"x" * 300_000
        writer.close()
        await wait_until(lambda: proxy.connections == 0, "its end")


async def test_a_cut_resets_and_refuses_until_it_is_mended(echo: tuple[str, int]) -> None:
    async with TcpProxy(echo) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"a")
        assert await reader.read(1) == b"a"
        await proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        writer.close()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        await proxy.mend()
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"b")
        assert await reader.read(1) == b"b"
        writer.close()


async def test_through_a_hole_nothing_flows_until_it_is_mended(echo: tuple[str, int]) -> None:
    async with TcpProxy(echo) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        await proxy.cut(hole=True)
        late_reader, late_writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        for each in (writer, late_writer):
            each.write(b"a")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.gather(reader.read(1), late_reader.read(1)), 0.2)
        await proxy.mend()
        assert await reader.read(1) == b"a"
        assert await late_reader.read(1) == b"a"
        writer.close()
        late_writer.close()


async def test_a_slow_network_is_slow(echo: tuple[str, int]) -> None:
    async with TcpProxy(echo) as proxy:
        proxy.slow(latency_s=0.05, bytes_per_s=100_000)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        began = time.monotonic()
        writer.write(b"x" * 10_000)
        await reader.readexactly(10_000)
        assert time.monotonic() - began >= 0.3  # twice the latency and twice 10 kB at 100 kB/s
        writer.close()
