"""All that stands before the routes, from the outside in: origins, the door, the gate."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from starlette.middleware import Middleware

from libs.common.session_log import SessionLog
from services.gateway.access import Access, access
from services.gateway.crowd import Crowd, crowd
from services.gateway.door import Door
from services.gateway.gate import Gate
from services.gateway.limits import Limits, limits
from services.gateway.open_files import connections_that_fit
from services.gateway.origins import cross_origin
from services.gateway.places import Places, places
from services.gateway.settings import GatewaySettings
from services.gateway.waiting import Waiting

LATE = ("/.ws", "/.json", "/sessions", "/requests")  # Firebase's


class Security(NamedTuple):
    """Use `security`. `late` are beginnings of paths whose clients give their token after they have connected."""

    settings: GatewaySettings
    access: Access
    limits: Limits
    crowd: Crowd
    places: Places
    waiting: Waiting
    late: tuple[str, ...] = LATE

    @property
    def middleware(self) -> list[Middleware]:
        """For the application."""
        return [
            *cross_origin(self.settings),
            Middleware(Door, self.limits, self.crowd, self.places),
            Middleware(Gate, self.access, self.limits, self.late),
        ]


@asynccontextmanager
async def security(settings: GatewaySettings, session_log: SessionLog) -> AsyncIterator[Security]:
    """By `settings`, all kept up to date meanwhile."""
    bus, most = session_log.bus, connections_that_fit(settings.connections_most)
    async with (
        access(bus, settings) as allowed,
        limits(settings, session_log) as limited,
        crowd(bus, settings.connections_per_address, most) as present,
    ):
        named = await places(bus)
        waiting = Waiting(named.name, settings.connections_per_address, settings.trusted_proxies)
        yield Security(settings, allowed, limited, present, named, waiting)
