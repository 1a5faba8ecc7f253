"""A process for suspects whose messages say what becomes of it."""

from __future__ import annotations

import asyncio
import os
import signal

from libs.common.delivery import Delivery
from libs.common.errors import BrokerUnavailable, MalformedMessage
from libs.common.suspects import serve_suspects


async def handler(delivery: Delivery) -> None:
    """Does what the body says."""
    match delivery.body.split(b" ")[0]:
        case b"kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case b"exit":
            os._exit(7)
        case b"hang":
            await asyncio.Event().wait()
        case b"long":
            await asyncio.sleep(float(delivery.body.split(b" ")[1]))
        case b"raise":
            raise RuntimeError("as it was told")
        case b"malformed":
            raise MalformedMessage("as it was told")
        case b"trouble":
            raise BrokerUnavailable("as it was told")


if __name__ == "__main__":
    asyncio.run(serve_suspects(handler))
