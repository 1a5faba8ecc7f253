"""The one connection of a post: to the address that was looked up and checked, by TLS for the name."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import trustme

from libs.common.health import listen
from services.gateway.settings import GatewaySettings
from services.gateway.webhooks.posting import Answer, Post, poster
from services.gateway.webhooks.signing import Secrets
from services.gateway.webhooks.target import Receivers, target_of
from tests.fake_pinterest.proxy import ConnectProxy
from tests.integration.receiver import OK, receiver, status

POST = Post("session-1", "video", b'{"type":"video"}')
NAME = "receiver.test"


class Names:
    """Stands in for the resolver: the answers to a name's look-ups, one after the other, the last one for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> None:
        self.answers, self.asked = list(answers), 0
        genuine = socket.getaddrinfo

        def look_up(host: Any, port: Any, *args: Any, **more: Any) -> Any:
            if host != NAME:
                return genuine(host, port, *args, **more)
            self.asked += 1
            given = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if given == ["hang"]:
                time.sleep(2)
            return [one for address in given for one in genuine(address, port, *args, **more)]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)


async def post(url: str, *private: str, **settings: Any) -> Answer:
    """What comes of one."""
    async with poster(GatewaySettings(**settings), Receivers(private)) as client:
        return await client.post(target_of(url), POST, {"webhook-id": POST.id_})


async def test_a_name_that_is_rebound_after_the_check_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver() as there:
        names = Names(monkeypatch, ["8.8.8.8", "127.0.0.1"], ["127.0.0.1"])
        url = f"http://{NAME}:{there.port}/"
        for _ in range(2):  # an address among public ones; then that alone
            assert (await post(url)).outcome == "refused"
        assert (names.asked, there.connections) == (2, 0)
        names.answers = [["127.0.0.1"], ["8.8.8.8"]]
        assert (await post(url, NAME)).outcome == "delivered"
        assert names.asked == 3, "what was looked up for the check is what was connected to"
        assert there.posts[0].headers["host"] == f"{NAME}:{there.port}"


async def test_a_name_of_this_machine_is_refused_like_one_that_there_is_not() -> None:
    async with receiver() as there:
        refused = await post(f"http://{socket.gethostname()}:{there.port}/")
        assert refused == await post("https://no-such-name.invalid/")
        assert (refused.outcome, there.connections) == ("refused", 0)
        for host in ("127.0.0.1", "[::ffff:127.0.0.1]", "localhost"):
            assert (await post(f"http://{host}:{there.port}/")).outcome == "refused"
        assert there.connections == 0


async def test_a_redirect_is_an_answer_and_not_an_address() -> None:
    async with receiver() as inside:
        for code in (301, 302, 303, 307, 308):
            async with receiver([status(code, f"Location: {inside.url}")]) as there:
                answer = await post(there.url, f"127.0.0.1:{there.port}")
                assert (answer.outcome, answer.status) == ("failed", code)
        assert inside.connections == 0


async def test_a_name_server_that_does_not_answer_holds_up_its_own_post_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver() as there:
        Names(monkeypatch, ["hang"])
        waiting = asyncio.create_task(post(f"https://{NAME}/", webhook_timeout_s=0.3))
        assert (await post(there.url, "127.0.0.1")).outcome == "delivered"
        assert (await waiting).error == "there was no answer within 0.3 s"


async def test_tls_is_for_the_name_and_by_authorities_that_are_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Names(monkeypatch, ["127.0.0.1"])
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME).configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    ca = str(tmp_path / "ca.pem")
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    async with receiver(tls=context) as there:
        url = f"https://{NAME}:{there.port}/"
        assert (await post(url, NAME, webhook_ca_file=ca)).outcome == "delivered"
        assert asked == [NAME]
        unknown = await post(url, NAME)
        assert unknown.outcome == "failed" and "CERTIFICATE_VERIFY_FAILED" in (unknown.error or "")
        other = await post(f"https://127.0.0.1:{there.port}/", "127.0.0.1", webhook_ca_file=ca)
        assert other.outcome == "failed" and "CERTIFICATE_VERIFY_FAILED" in (other.error or "")
        assert len(there.posts) == 1
        connects: Counter[str] = Counter()
        listener = listen("127.0.0.1", 0)
        proxy = f"http://127.0.0.1:{listener.getsockname()[1]}"
        async with ConnectProxy(listener, there.port, connects):
            through = await post("https://receiver.test/", webhook_ca_file=ca, webhook_proxy=proxy)
        assert (through.outcome, connects) == ("delivered", {NAME: 1}), "the proxy is told the name, and judges"


async def test_retry_after_is_read_in_both_its_ways_and_has_a_bound() -> None:
    for told, least, most in (
        ("7", 7, 7),
        ("999999999", 3600, 3600),
        ("soon", 0, 0),
        ("-1", 0, 0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
        ("Fri, 21 Oct 2095 07:28:00 GMT", 3600, 3600),
    ):
        async with receiver([status(429, f"Retry-After: {told}")]) as there:
            assert least <= (await post(there.url, "127.0.0.1")).wait_s <= most


async def test_connections_are_kept_between_posts() -> None:
    async with receiver([OK] * 3) as there, poster(GatewaySettings(), Receivers(("127.0.0.1",))) as client:
        for _ in range(3):
            assert (await client.post(target_of(there.url), POST, {})).outcome == "delivered"
        assert there.connections == 1


def test_secrets_are_their_owners_own() -> None:
    secrets, others = Secrets([b"a" * 32]), Secrets([b"b" * 32])
    shown = {
        one.shown(owner, session) for one in (secrets, others) for owner in ("", "x", "y") for session in ("s", "t")
    }
    assert len(shown) == 2 * (2 + 2), "who has a name has one for all sessions"
