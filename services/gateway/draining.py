"""How the ways over HTTP learn that this gateway is about to stop."""

from __future__ import annotations

import asyncio


class Draining:
    """First no new searches are taken (`refusing`); after the notice, answers that last end (`over`)."""

    def __init__(self) -> None:
        self.refusing = False
        self.over = asyncio.Event()

    async def run(self, notice_s: float) -> None:
        """From SIGTERM on."""
        self.refusing = True
        await asyncio.sleep(notice_s)
        self.over.set()
