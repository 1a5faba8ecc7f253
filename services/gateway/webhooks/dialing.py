"""Connections to receivers: to an address that was looked up now, found fit, and is the one connected to.

So a name whose answer changes between the check and the connection gains nothing: there is one look-up, and all of its
addresses have to be fit.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from contextlib import suppress
from threading import Thread

import httpcore2

from libs.common.errors import PinstreamError
from services.gateway.webhooks.addresses import Reach, reach
from services.gateway.webhooks.target import Receivers, Target

LOOKUPS = 32  # at once; each has a thread, for as long as its name server takes
RESOLVE_S = 5.0
CONNECT_S = 5.0  # of one address, where there are more


class Refused(PinstreamError):
    """The host has no public address."""


class Lookups:
    """Looks names up in threads of its own: a name server that is slow must not hold up anything else."""

    def __init__(self) -> None:
        self._room = asyncio.Semaphore(LOOKUPS)

    async def addresses(self, host: str, port: int) -> list[str]:
        """The addresses of `host`. Raises OSError, or TimeoutError after RESOLVE_S."""
        async with asyncio.timeout(RESOLVE_S):
            await self._room.acquire()
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[list[str]] = loop.create_future()

            def told(found: list[str], error: OSError | None) -> None:
                self._room.release()
                if answer.done():
                    return
                if error is None:
                    answer.set_result(found)
                else:
                    answer.set_exception(error)

            def ask() -> None:
                found: list[str] = []
                failure: OSError | None = None
                try:
                    found = [str(one[4][0]) for one in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
                except (OSError, UnicodeError) as error:
                    failure = OSError(str(error))
                with suppress(RuntimeError):  # the loop is closed: nobody waits for it
                    loop.call_soon_threadsafe(told, found, failure)

            Thread(target=ask, name=f"look up {host}", daemon=True).start()
            return await answer


class Dialer(httpcore2.AsyncNetworkBackend):
    """What the HTTP client connects by."""

    def __init__(self, receivers: Receivers) -> None:
        self.receivers = receivers
        self._lookups = Lookups()
        self._network = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the client's own signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """One address after the other. Raises Refused, or as the client's own does."""
        try:
            found = await self._lookups.addresses(host, port)
        except OSError as error:
            raise Refused from error  # the same word as of a private one: names of the inside are not to be found out
        addresses = list(dict.fromkeys(found))
        if not self.fit(Target("https", host, port, b"/"), addresses):
            raise Refused
        within = CONNECT_S if len(addresses) > 1 else timeout
        for address in addresses[:-1]:
            with suppress(httpcore2.ConnectError, httpcore2.ConnectTimeout):
                return await self._network.connect_tcp(address, port, within, local_address, socket_options)
        return await self._network.connect_tcp(addresses[-1], port, within, local_address, socket_options)

    def fit(self, target: Target, addresses: list[str]) -> bool:
        """Whether all of them may be connected to, and there are some."""
        allowed = {Reach.PUBLIC, Reach.PRIVATE} if self.receivers.private(target) else {Reach.PUBLIC}
        return bool(addresses) and all(
            reach(ipaddress.ip_address(address.partition("%")[0])) in allowed for address in addresses
        )
