"""A CDN that speaks HTTP/2 alone, over TLS: every path is a video of 4 kB. Counts connections and what is under way."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import h2.config
import h2.connection
import h2.events

from tests.fake_pinterest.tls import make_certificates, server_context
from tests.integration.transformer_cdn import FILE


class Http2Cdn:
    """`most` is the largest number of requests that were under way at once; answers wait for `go`."""

    def __init__(self) -> None:
        self.port = 0
        self.ca_file = ""
        self.protocols: list[str | None] = []
        self.requests = self.under_way = self.most = 0
        self.go = asyncio.Event()
        self.serving: set[asyncio.Task[None] | None] = set()

    @property
    def origin(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serving.add(asyncio.current_task())
        tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
        self.protocols.append(tls.selected_alpn_protocol())
        connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        connection.initiate_connection()
        writer.write(connection.data_to_send())
        answers: set[asyncio.Task[None]] = set()
        try:
            while data := await reader.read(65536):
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.RequestReceived):
                        method = dict(event.headers)[b":method"]
                        answers.add(asyncio.create_task(self._answer(connection, writer, event.stream_id, method)))
                writer.write(connection.data_to_send())
        finally:
            for answer in answers:
                answer.cancel()
            await asyncio.gather(*answers, return_exceptions=True)
            writer.close()

    async def _answer(
        self, connection: h2.connection.H2Connection, writer: asyncio.StreamWriter, stream: int | None, method: bytes
    ) -> None:
        assert stream is not None
        self.requests += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.go.wait()
        self.under_way -= 1
        headers = [(":status", "200"), ("content-type", "video/mp4"), ("content-length", str(len(FILE)))]
        connection.send_headers(stream, headers, end_stream=method == b"HEAD")
        if method != b"HEAD":
            connection.send_data(stream, FILE, end_stream=True)
        writer.write(connection.data_to_send())


@asynccontextmanager
async def running_http2_cdn(folder: Path) -> AsyncIterator[Http2Cdn]:
    cdn = Http2Cdn()
    ca_file, chain_file = make_certificates(folder)
    context = server_context(chain_file)
    context.set_alpn_protocols(["h2"])
    server = await asyncio.start_server(cdn.serve, "127.0.0.1", 0, ssl=context)
    cdn.port, cdn.ca_file = server.sockets[0].getsockname()[1], str(ca_file)
    try:
        yield cdn
    finally:
        server.close()
        await server.wait_closed()
        await asyncio.gather(*(task for task in cdn.serving if task), return_exceptions=True)
