"""Who may use the gateway, tried over real sockets and a real broker; two gateways share it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from libs.client.client import Client
from libs.client.errors import RequestRefused
from libs.common import keys, subjects
from libs.common.frames import SUBPROTOCOL, CloseCode
from libs.common.messages import CrawledRecord, Reason
from libs.common.session_log import SessionLog
from services.gateway import access, tickets, tokens
from services.gateway.callers import Caller, TokenRefused
from tests.integration.access import AUDIENCE, ISSUER, GuardedGateway, Issuer, ask, guarded
from tests.wait import wait_for, wait_until


@pytest.fixture
async def gateway(log: SessionLog) -> AsyncIterator[GuardedGateway]:
    async with guarded(log) as gateway:
        yield gateway


@pytest.fixture
async def other_gateway(log: SessionLog) -> AsyncIterator[GuardedGateway]:
    async with guarded(log) as gateway:
        yield gateway


async def made(gateway: GuardedGateway, **more: Any) -> keys.Made:
    """A key that the gateway knows."""
    made = await keys.create(gateway.access.keyring.bus, "test", **more)
    await wait_until(lambda: gateway.access.keyring.key(made.text) is not None, "the gateway knows the key")
    return made


async def refused_with(client: ClientConnection) -> int:
    async with asyncio.timeout(10):
        with suppress(ConnectionClosed):
            while True:
                await client.recv()
    assert client.close_code is not None
    return client.close_code


def offered(token: str) -> list[Subprotocol]:
    return [Subprotocol(SUBPROTOCOL), Subprotocol(f"pinstream.bearer.{token}")]


async def begun(client: ClientConnection) -> str:
    frame = await ask(client, "initiate_extraction", search_query="pots")
    assert frame["event"] == "accepted"
    return str(frame["session_id"])


async def test_nobody_comes_in_without_a_good_key(gateway: GuardedGateway) -> None:
    good = (await made(gateway)).text
    wrong = good[:-1] + ("A" if good[-1] != "A" else "B")
    for key in (None, wrong, "ps_0123456789abcdef_" + "x" * 43, "", "hello", "eyJhbGciOiJub25lIn0.e30."):
        async with gateway.client(key) as client:
            assert await refused_with(client) == 4501
        answer = await gateway.post("/v1/tickets", key)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    async with gateway.client(good) as client:
        assert (await ask(client, "ping"))["event"] == "pong"


async def test_the_page_and_the_probes_are_open(gateway: GuardedGateway) -> None:
    async with httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as client:
        for path in ("/", "/static/app.js", "/healthz", "/readyz"):
            assert (await client.get(path)).status_code == 200


async def test_a_key_never_stands_in_an_address(gateway: GuardedGateway) -> None:
    good = (await made(gateway)).text
    async with connect(f"{gateway.url}?ticket={good}") as client:
        assert await refused_with(client) == 4501
    async with connect(f"{gateway.url}?api_key={good}") as client:
        assert await refused_with(client) == 4501


async def test_a_browser_gives_its_key_as_a_subprotocol_and_hears_the_plain_one(gateway: GuardedGateway) -> None:
    good = (await made(gateway)).text
    async with connect(gateway.url, subprotocols=offered(good)) as client:
        assert client.subprotocol == SUBPROTOCOL
        assert (await ask(client, "ping"))["event"] == "pong"
    async with connect(gateway.url, subprotocols=offered("wrong")) as client:
        assert await refused_with(client) == 4501


async def test_only_a_digest_of_a_key_is_kept(gateway: GuardedGateway) -> None:
    made_ = await made(gateway)
    stored = await gateway.access.keyring.bus.last(subjects.ACCESS, subjects.access_key(made_.record.id))
    assert stored is not None
    assert made_.text.split("_", 2)[2] not in stored.body.decode()


async def test_a_revoked_key_is_cut_off_at_every_gateway_within_a_second(
    gateway: GuardedGateway, other_gateway: GuardedGateway
) -> None:
    revoked, kept = await made(gateway), await made(gateway)
    await wait_until(lambda: other_gateway.access.keyring.key(kept.text) is not None, "the other knows them too")
    async with (
        gateway.client(revoked.text) as one,
        other_gateway.client(revoked.text) as two,
        other_gateway.client(kept.text) as neighbour,
    ):
        await begun(one)
        await begun(two)
        at = time.monotonic()
        await keys.revoke(gateway.access.keyring.bus, revoked.record.id)
        assert [await refused_with(one), await refused_with(two)] == [4501, 4501]
        assert time.monotonic() - at < 1
        assert (await ask(neighbour, "ping"))["event"] == "pong"
    async with other_gateway.client(revoked.text) as again:
        assert await refused_with(again) == 4501
    assert (await gateway.post("/v1/tickets", revoked.text)).status_code == 401


async def test_a_gateway_that_starts_later_knows_what_was_revoked(gateway: GuardedGateway, log: SessionLog) -> None:
    revoked, kept = await made(gateway), await made(gateway)
    await keys.revoke(log.bus, revoked.record.id)
    async with guarded(log) as late:
        assert late.access.keyring.key(revoked.text) is None
        assert late.access.keyring.key(kept.text) is not None


async def test_a_key_that_expires_is_cut_off(gateway: GuardedGateway) -> None:
    short = await made(gateway, lasts_s=1.0)
    async with gateway.client(short.text) as client:
        assert await refused_with(client) == 4501
    async with gateway.client(short.text) as client:
        assert await refused_with(client) == 4501


async def test_a_key_that_outlives_a_timer_is_cut_off_at_its_end_and_not_before(
    gateway: GuardedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "LONGEST_S", 0.1)
    short = await made(gateway, lasts_s=1.5)
    assert short.record.expires_at is not None
    async with gateway.client(short.text) as client:
        assert await refused_with(client) == 4501
        assert time.time() >= short.record.expires_at


@pytest.mark.parametrize("after", [0, 1, 10**12])
async def test_anothers_session_cannot_be_told_from_one_that_is_not_there(
    gateway: GuardedGateway, other_gateway: GuardedGateway, log: SessionLog, after: int
) -> None:
    mine, yours = await made(gateway), await made(gateway)
    await wait_until(lambda: other_gateway.access.keyring.key(yours.text) is not None, "the other knows it too")
    async with gateway.client(mine.text) as client, other_gateway.client(yours.text) as thief:
        running, over = await begun(client), await begun(client)
        await log.create(over, subjects.CRAWLED, CrawledRecord(reason=Reason.LIMIT, items=0))
        answers: dict[str, list[str]] = {}
        for session in ("0" * 32, running, over):
            tried = []
            for operation, parameters in (("resume_extraction", {"after": after}), ("cancel_extraction", {})):
                frame = await ask(thief, operation, session_id=session, **parameters)
                assert frame["event"] == "error"
                tried.append(json.dumps(frame, sort_keys=True).replace(session, "<session>"))
            answers[session] = tried
        assert answers[running] == answers[over] == answers["0" * 32]
        assert (await log.state(running)).cancelled is False
        frame = await ask(client, "cancel_extraction", session_id=running)
        while frame["event"] != "completed" or frame["session_id"] != running:
            assert frame["event"] != "error"
            frame = json.loads(await client.recv())


async def test_keys_of_one_owner_share_their_sessions(gateway: GuardedGateway) -> None:
    old, new = await made(gateway, owner="team"), await made(gateway, owner="team")
    async with gateway.client(old.text) as client, gateway.client(new.text) as rotated:
        session = await begun(client)
        frame = await ask(rotated, "resume_extraction", session_id=session, after=0)
        assert frame["event"] == "progress"


async def test_a_ticket_is_posted_for(gateway: GuardedGateway) -> None:
    key = await made(gateway)
    async with httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as client:
        answer = await client.get("/v1/tickets", headers={"X-API-Key": key.text})
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
        assert answer.json()["code"] == "method_not_allowed"
        large = b"x" * 3 * 1024 * 1024
        answer = await client.post("/v1/sessions", content=large, headers={"X-API-Key": key.text})
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (413, "too_large", "body")


async def test_a_ticket_lets_one_connection_in_over_all_gateways(
    gateway: GuardedGateway, other_gateway: GuardedGateway
) -> None:
    key = await made(gateway)
    answer = await gateway.post("/v1/tickets", key.text)
    assert (answer.status_code, answer.json()["expires_in_s"]) == (201, 30)
    assert answer.headers["cache-control"] == "no-store"
    ticket = answer.json()["ticket"]

    async def come_in(one: GuardedGateway) -> bool:
        async with connect(f"{one.url}?ticket={ticket}") as client:
            try:
                return bool((await ask(client, "ping"))["event"] == "pong")
            except ConnectionClosed:
                return False

    tried = await asyncio.gather(*(come_in(one) for one in (gateway, other_gateway) * 8))
    assert sum(tried) == 1


async def status_of(gateway: GuardedGateway, path: str, ticket: str) -> int:
    """Of the answer to a GET, which is not read."""
    async with (
        httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as client,
        client.stream("GET", path, params={"ticket": ticket}) as answer,
    ):
        return answer.status_code


async def test_a_ticket_that_opened_the_events_of_a_session_opens_those_again_and_nothing_else(
    gateway: GuardedGateway, other_gateway: GuardedGateway
) -> None:
    key = await made(gateway)
    await wait_until(lambda: other_gateway.access.keyring.key(key.text) is not None, "both know the key")
    async with gateway.client(key.text) as client:
        one, other = await begun(client), await begun(client)
    ticket, spent = [(await gateway.post("/v1/tickets", key.text)).json()["ticket"] for _ in range(2)]
    events = f"/v1/sessions/{one}/events"
    tried = await asyncio.gather(*(status_of(gate, events, ticket) for gate in (gateway, other_gateway) * 4))
    assert tried == [200] * 8
    assert await status_of(gateway, f"/v1/sessions/{one}/videos", spent) == 200
    assert await status_of(other_gateway, events, spent) == 401
    for path in (one, f"{one}/videos", f"{other}/events"):
        assert await status_of(other_gateway, f"/v1/sessions/{path}", ticket) == 401, path
    assert (await gateway.post(f"{events}?ticket={ticket}")).status_code == 401
    async with connect(f"{gateway.url}?ticket={ticket}") as client:
        assert await refused_with(client) == 4501
    assert await status_of(gateway, events, ticket) == 200
    await keys.revoke(gateway.access.keyring.bus, key.record.id)
    await wait_until(lambda: not gateway.access.keyring.valid(key.record.id), "it is revoked")
    assert await status_of(gateway, events, ticket) == 401


async def test_a_ticket_that_nobody_used_in_time_is_good_no_more(
    gateway: GuardedGateway, session: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await made(gateway)
    used, late = [(await gateway.post("/v1/tickets", key.text)).json()["ticket"] for _ in range(2)]
    events = f"/v1/sessions/{session}/events"
    assert await status_of(gateway, events, used) == 404
    monkeypatch.setattr(tickets, "TICKET_S", -1.0)  # so that all are older
    assert await status_of(gateway, events, late) == 401
    assert await status_of(gateway, events, used) == 404  # it is let in


async def test_a_ticket_opens_nothing_once_the_token_that_it_was_had_with_has_expired(
    log: SessionLog, session: str
) -> None:
    async with guarded(log) as gateway:
        text = await gateway.access.tickets.issue(Caller(owner="ann", until=time.time() + 1.0))
        assert (await gateway.access.tickets.redeem(text, session)).owner == "ann"

        async def refused() -> bool:
            try:
                await gateway.access.tickets.redeem(text, session)
            except TokenRefused:
                return True
            return False

        await wait_for(refused, "it has expired", timeout_s=10)


async def test_who_came_with_a_ticket_is_its_owner_and_goes_with_the_key(gateway: GuardedGateway) -> None:
    key = await made(gateway)
    ticket = (await gateway.post("/v1/tickets", key.text)).json()["ticket"]
    spare = (await gateway.post("/v1/tickets", key.text)).json()["ticket"]
    async with gateway.client(key.text) as owner, connect(gateway.url, subprotocols=offered(ticket)) as guest:
        session = await begun(owner)
        assert (await ask(guest, "resume_extraction", session_id=session))["event"] == "progress"
        await keys.revoke(gateway.access.keyring.bus, key.record.id)
        assert await refused_with(guest) == 4501
    async with connect(f"{gateway.url}?ticket={spare}") as late:
        assert await refused_with(late) == 4501


async def test_a_ticket_buys_no_other(gateway: GuardedGateway) -> None:
    key = await made(gateway)
    ticket = (await gateway.post("/v1/tickets", key.text)).json()["ticket"]
    answer = await gateway.post(f"/v1/tickets?ticket={ticket}")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert answer.headers["content-type"] == "application/problem+json"


def claims(**more: Any) -> dict[str, Any]:
    return {"sub": "mia", "iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 60, **more}


async def test_a_jwt_is_checked_in_every_part(log: SessionLog, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    stranger = ECKey.generate_key("P-256", {"kid": "one"})
    public = OctKey.import_key(json.dumps(issuer.key.as_dict(private=False)))
    async with guarded(log, **issuer.settings(jwt_leeway_s=0)) as gateway:
        caller = await gateway.access.caller_of_token(issuer.token(claims()))
        assert caller.owner == f"jwt:{ISSUER}:mia"
        bad = {
            "expired": issuer.token(claims(exp=int(time.time()) - 5)),
            "without an end": issuer.token({k: v for k, v in claims().items() if k != "exp"}),
            "of another issuer": issuer.token(claims(iss="https://evil.example")),
            "for another": issuer.token(claims(aud="shop")),
            "for nobody": issuer.token({k: v for k, v in claims().items() if k != "aud"}),
            "of nobody": issuer.token({k: v for k, v in claims().items() if k != "sub"}),
            "not yet": issuer.token(claims(nbf=int(time.time()) + 50)),
            "signed by another": issuer.token(claims(), key=stranger),
            "signed with the public key": issuer.token(claims(), {"alg": "HS256"}, public),
            "of an unknown key": issuer.token(claims(), {"kid": "two"}),
            "unsigned": "eyJhbGciOiJub25lIn0.eyJzdWIiOiJtaWEifQ.",
            "cut": issuer.token(claims())[:-4],
            "an end of another kind": issuer.token(claims(exp="tomorrow")),
            "an end beyond all time": issuer.token(claims(exp=10**400)),
        }
        for what, token in bad.items():
            with pytest.raises(TokenRefused):
                await gateway.access.caller_of_token(token)
                pytest.fail(f"a token {what} was taken")


async def test_a_connection_ends_with_its_jwt(log: SessionLog, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    token = issuer.token(claims(exp=int(time.time()) + 2))
    async with guarded(log, **issuer.settings(jwt_leeway_s=0)) as gateway, gateway.client(token) as client:
        assert (await ask(client, "ping"))["event"] == "pong"
        assert await refused_with(client) == 4501


async def test_a_new_key_of_the_issuer_is_found(log: SessionLog, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    async with guarded(log, **issuer.settings(jwks_refresh_s=0.05)) as gateway:
        second = ECKey.generate_key("P-256", {"kid": "two"})
        issuer.publish(issuer.key, second)
        token = issuer.token(claims(), {"kid": "two"}, second)

        async def taken() -> bool:
            with suppress(TokenRefused):
                return (await gateway.access.caller_of_token(token)).owner != ""
            return False

        end = time.monotonic() + 10
        while not await taken():
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        issuer.file.write_text("{")  # what was known last holds
        assert await taken()


async def test_a_token_that_names_no_key_is_taken_by_whichever_has_signed_it(log: SessionLog, tmp_path: Path) -> None:
    issuer = Issuer(tmp_path)
    another = ECKey.generate_key("P-256", {"kid": "two"})
    issuer.publish(RSAKey.generate_key(2048, {"kid": "three"}), another, issuer.key)
    async with guarded(log, **issuer.settings()) as gateway:
        nameless = issuer.token(claims(), {"kid": None})
        assert (await gateway.access.caller_of_token(nameless)).owner == f"jwt:{ISSUER}:mia"
        stranger = ECKey.generate_key("P-256", {"kid": "one"})
        with pytest.raises(TokenRefused):
            await gateway.access.caller_of_token(issuer.token(claims(), {"kid": None}, stranger))


async def test_a_token_waits_for_keys_that_could_not_be_had_at_the_start(
    log: SessionLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "UNKNOWN_KEY_S", 0.05)
    issuer = Issuer(tmp_path)
    issuer.file.write_text("{")
    token = issuer.token(claims())
    async with guarded(log, **issuer.settings()) as gateway:

        async def asked() -> httpx2.Response:
            async with httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as client:
                return await client.post("/v1/tickets", headers={"Authorization": f"Bearer {token}"})

        answer = await asked()
        assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        async with gateway.client(token) as client:
            assert await refused_with(client) == CloseCode.UNAVAILABLE
        issuer.publish(issuer.key)
        end = time.monotonic() + 10
        while (await asked()).status_code != 201:
            assert time.monotonic() < end
        async with gateway.client(token) as client:
            assert (await ask(client, "ping"))["event"] == "pong"


async def test_the_client_library_gives_its_key_and_is_told_when_it_is_not_good(gateway: GuardedGateway) -> None:
    key = (await made(gateway)).text
    async with Client(gateway.url, api_key=key).search("pots") as search:
        async for _ in search.frames():
            break
        assert search.session_id is not None
    with pytest.raises(RequestRefused, match="key") as refused:
        async for _ in Client(gateway.url).search("pots"):
            pass
    assert refused.value.code == "closed_4501"


async def test_behind_a_proxy_on_this_machine_only_what_is_here_needs_no_key(log: SessionLog) -> None:
    async with guarded(log, anonymous="loopback", trusted_proxies=("127.0.0.1",)) as gateway:
        assert (await gateway.post("/v1/tickets", X_Forwarded_For="203.0.113.9")).status_code == 401
        assert (await gateway.post("/v1/tickets", X_Forwarded_For="unknown")).status_code == 401
        assert (await gateway.post("/v1/tickets", Host="evil.example")).status_code == 401
        async with gateway.client(headers={"X-Forwarded-For": "203.0.113.9"}) as client:
            assert await refused_with(client) == 4501
        answer = await gateway.post("/v1/tickets")
        assert answer.status_code == 201
        async with connect(f"{gateway.url}?ticket={answer.json()['ticket']}") as client:
            assert (await ask(client, "ping"))["event"] == "pong"


async def test_a_key_that_is_wrong_is_refused_where_none_is_needed(log: SessionLog) -> None:
    async with guarded(log, anonymous="loopback") as gateway:
        async with gateway.client() as client:
            assert (await ask(client, "ping"))["event"] == "pong"
        async with gateway.client("ps_wrong") as client:
            assert await refused_with(client) == 4501


async def test_rest_refuses_by_a_problem_document(gateway: GuardedGateway) -> None:
    answer = await gateway.post("/v1/sessions")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:pinstream:unauthorized"


async def test_the_documents_say_how_to_come_in_and_whether_a_key_is_needed(log: SessionLog) -> None:
    for anonymous, needed in (("no", True), ("loopback", False)):
        async with (
            guarded(log, anonymous=anonymous) as gateway,
            httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as client,
        ):
            openapi = (await client.get("/openapi.json")).json()
            asyncapi = (await client.get("/asyncapi.json")).json()
        assert openapi["components"]["securitySchemes"].keys() == {"bearer", "api_key", "ticket"}
        ways: list[dict[str, list[str]]] = [{"bearer": []}, {"api_key": []}, {"ticket": []}]
        assert openapi["security"] == (ways if needed else [*ways, {}])
        assert asyncapi["components"]["securitySchemes"].keys() == {"bearer", "api_key", "ticket", "subprotocol"}
        del asyncapi["operations"]["webhooks"]  # which the gateway sends, signed
        assert all(bool(one.get("security")) is needed for one in asyncapi["operations"].values())


async def test_who_has_no_name_has_a_list_on_their_own_machine_alone(log: SessionLog) -> None:
    proxied: dict[str, Any] = {"anonymous": "yes", "trusted_proxies": ("127.0.0.1",)}  # which strangers reach
    async with guarded(log, anonymous="loopback") as laptop, guarded(log, **proxied) as public:
        for gateway, status in ((laptop, 200), (public, 403)):
            async with httpx2.AsyncClient(base_url=f"http://{gateway.address}", trust_env=False) as client:
                begun = (await client.post("/v1/sessions", json={"search_query": "pots"})).json()["session_id"]
                answer = await client.get("/v1/sessions?limit=100")
                assert answer.status_code == status
                if gateway is laptop:
                    mine = next(one for one in answer.json()["sessions"] if one["session_id"] == begun)
                    assert (mine["state"], mine["search_query"]) == ("queued", "pots")
                else:
                    strangers = begun
        async with httpx2.AsyncClient(base_url=f"http://{laptop.address}", trust_env=False) as client:
            listed = (await client.get("/v1/sessions?limit=100")).json()["sessions"]
            assert strangers not in [one["session_id"] for one in listed]


async def test_a_ticket_of_a_gateway_that_needs_no_key_opens_none_that_does(
    gateway: GuardedGateway, log: SessionLog
) -> None:
    async with guarded(log, anonymous="loopback") as laptop:
        ticket = (await laptop.post("/v1/tickets")).json()["ticket"]
        async with connect(f"{gateway.url}?ticket={ticket}") as client:
            assert await refused_with(client) == 4501
