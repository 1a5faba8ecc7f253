"""Clusters of three as deploy/nats has them: cluster.conf and, with certificates, cluster-tls.conf."""

from __future__ import annotations

from pathlib import Path

from libs.client.broker import Broker, free_port
from tests.authority import Authority
from tests.brokers import Cluster
from tests.guarded import ANY_MONITORING, guard, with_certificates


class GuardedCluster(Cluster):
    """Servers that know each other by a password; the keys are in `folder`/keys."""

    def __init__(self, folder: Path) -> None:
        routes = [f"127.0.0.1:{free_port()}" for _ in range(3)]
        self.brokers = []
        for n, listen in enumerate(routes, 1):
            store = folder / f"n{n}"
            guard(store, folder / "keys", tuple(routes))
            environ = {"NATS_SERVER_NAME": f"n{n}", "NATS_CLUSTER_LISTEN": listen}
            config = f'include "cluster.conf"\n{ANY_MONITORING}'
            self.brokers.append(Broker(store, log=folder / f"n{n}.log", config=config, environ=environ))


class TlsCluster(Cluster):
    """Servers each with a certificate of its own, for the one address where the others reach it, and for localhost.

    That address is 127.0.1.n, and they listen on all, as the servers of three machines would.
    """

    def __init__(self, folder: Path, authority: Authority) -> None:
        self.ports = [free_port() for _ in range(3)]
        self.routes = tuple(f"127.0.1.{n}:{port}" for n, port in enumerate(self.ports, 1))
        self.brokers = [self._server(folder, authority, n) for n in (1, 2, 3)]

    def _server(self, folder: Path, authority: Authority, n: int) -> Broker:
        authority.issue("tls", f"127.0.1.{n}", "localhost", folder=folder / f"tls{n}")
        return tls_server(folder, folder / f"tls{n}", self.routes, n, self.ports[n - 1])

    @property
    def url(self) -> str:
        return ",".join(f"tls://localhost:{broker.port}" for broker in self.brokers)


def tls_server(folder: Path, certificates: Path, routes: tuple[str, ...], n: int, port: int) -> Broker:
    """Server `n`, which reaches the others at `routes` and listens for them on `port`."""
    store = folder / f"n{n}"
    guard(store, folder / "keys", routes)
    with_certificates(store, certificates)
    environ = {
        "NATS_SERVER_NAME": f"n{n}",
        "NATS_CLUSTER_LISTEN": f"0.0.0.0:{port}",
        "NATS_CLUSTER_ADVERTISE": f"127.0.1.{n}:{port}",
        "NATS_TLS_VERIFY": "true",
    }
    config = f'include "cluster-tls.conf"\n{ANY_MONITORING}'
    return Broker(store, log=folder / f"n{n}.log", config=config, environ=environ)
