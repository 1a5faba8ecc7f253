"""`python -m tests.fake_pinterest`: runs the stand-in until a signal; one line of JSON says where it is."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal

from .server import FakePinterest


async def run(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with FakePinterest(**vars(arguments)) as site:
        where = {"origin": site.origin, "tls_port": site.tls_port, "proxy": site.proxy, "ca_file": site.ca_file}
        print(json.dumps(where), flush=True)
        await stop.wait()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fake_pinterest", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8800, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--latency-ms", type=int, default=0, help="of an answer with data (default: %(default)s)")
    parser.add_argument("--cdn-latency-ms", type=int, default=0, help="of an answer of the CDN (default: %(default)s)")
    parser.add_argument("--tls", action="store_true", help="also serve the real host names, behind a CONNECT proxy")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(run(parse()))
