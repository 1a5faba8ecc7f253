"""The gateway: `python -m services.gateway`. Clients' way in and the results' way out."""

from __future__ import annotations

import asyncio
import sys

import structlog

from libs.common import subjects
from libs.common.announce import Endpoint, Fact, announced
from libs.common.bus import connect
from libs.common.health import health_server, listen
from libs.common.lifecycle import run_service
from libs.common.session_log import session_log
from libs.common.settings import load
from libs.common.streams import await_streams
from services.gateway.access_settings import check_exposure
from services.gateway.app import gateway_app
from services.gateway.certificate import certificate_of
from services.gateway.firebase.endpoint import FirebaseEndpoint
from services.gateway.garbage import settle
from services.gateway.measuring import measured
from services.gateway.queues import Queues
from services.gateway.replicas import watched_replicas
from services.gateway.rest import Rest
from services.gateway.security import security
from services.gateway.server import client_server
from services.gateway.sessions import Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.status import Status
from services.gateway.storage import storage
from services.gateway.webhooks.postmen import posting
from services.gateway.websocket import WebSocketEndpoint

HEALTH_PORT = 8084


async def serve(settings: GatewaySettings, stop: asyncio.Event) -> None:
    """Until `stop`."""
    check_exposure(settings)
    certificate = certificate_of(settings)
    sock = listen(settings.gateway_host, settings.gateway_port)
    async with connect(settings, "gateway") as bus:
        await await_streams(bus, subjects.GATEWAY)
        async with (
            session_log(bus) as log,
            storage(log, settings.storage_check_s) as stored,
            security(settings, log) as secure,
            watched_replicas(bus) as replicas,
            posting(log, settings, stop) as webhooks,
        ):
            sessions = Sessions(
                log,
                settings.session_deadline_s,
                limits=secure.limits,
                webhooks=webhooks.queue,
                secrets=webhooks.secrets,
            )
            status = Status(settings, replicas, Queues(bus), stored, secure.limits.census)
            endpoint, rest = WebSocketEndpoint(sessions, stored, settings), Rest(sessions, stored, settings, status)
            firebase = FirebaseEndpoint(sessions, stored, settings, secure.access)
            checks = {
                "running": lambda: not stop.is_set(),
                "tail": lambda: log.tail.alive and secure.access.keyring.tail.alive,
                "storage": lambda: stored.storing,
            }
            app = gateway_app(endpoint, rest, checks, firebase, secure)
            clients = client_server(
                app,
                sock,
                settings.drain_timeout_s,
                certificate=certificate,
                proxies=settings.trusted_proxies,
                waiting=secure.waiting,
            )
            endpoints = (
                Endpoint("sessions", subjects.ALL_SEARCHES, sessions.tally),
                Endpoint("records", subjects.ALL_RECORDS, log.tail.tally),
            )
            facts: dict[str, Fact] = {
                "connections": lambda: secure.crowd.here,
                "sessions_under_way": secure.limits.census.count,
                "loop_lag_s": lambda: round(secure.limits.lag.median_s, 3),
            }
            async with (
                measured(bus, secure.limits.census, settings),
                health_server(settings, HEALTH_PORT, checks),
                clients,
                announced(bus, subjects.GATEWAY, settings, stop, checks, *endpoints, facts=facts) as announcement,
            ):
                announcement.gone, replicas.own = replicas.gone, announcement.id
                settle()
                host, port = sock.getsockname()[:2]
                scheme = "ws" if certificate is None else "wss"
                structlog.get_logger().info("listening", url=f"{scheme}://{host}:{port}/ws")
                await stop.wait()
                await asyncio.gather(endpoint.drain(), rest.drain(), firebase.drain(), webhooks.drain())


if __name__ == "__main__":
    settings = load(GatewaySettings, "python -m services.gateway", __doc__ or "")
    sys.exit(run_service("gateway", settings, serve))
