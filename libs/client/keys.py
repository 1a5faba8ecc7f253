"""`pinstream keys`: who may use the gateways; made, listed, revoked."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from libs.client.command import at_broker, moment, sorry
from libs.common import keys, webhook_key
from libs.common.bus import Bus
from libs.common.exit_codes import EX_FAILED, EX_USAGE
from libs.common.messages import AccessKey

DAY_S = 86400

app = typer.Typer(no_args_is_help=True, help="API keys of the gateways (at NATS_URL).")

AsJson = Annotated[bool, typer.Option("--json", help="JSON objects, one a line")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="what it is for, such as nightly-import")],
    owner: Annotated[
        str | None,
        typer.Option(help="keys of one owner see each other's sessions; default: the key alone", show_default=False),
    ] = None,
    days: Annotated[float | None, typer.Option(help="how long it lasts; default: for ever", show_default=False)] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key and show it, this once: no more than its digest is kept."""
    if owner is not None and not keys.OWNER.fullmatch(owner):
        raise typer.Exit(sorry("an owner is 1 to 64 letters, digits, _ . @ or -", EX_USAGE))
    if days is not None and days <= 0:
        raise typer.Exit(sorry("--days has to be more than 0", EX_USAGE))

    async def work(bus: Bus) -> int:
        made = await keys.create(bus, name, owner=owner, lasts_s=None if days is None else days * DAY_S)
        if as_json:
            print(json.dumps({"key": made.text, **_facts(made.record)}))
            return 0
        print(made.text)
        print(f"pinstream: key {made.record.id}; it is not shown again", file=sys.stderr)
        return 0

    at_broker("keys", work)


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """Show every key in a line, the oldest first, without what is secret."""

    async def work(bus: Bus) -> int:
        found = [key async for key in keys.keys(bus)]
        if as_json:
            for key in found:
                print(json.dumps(_facts(key)))
        else:
            _table(found)
        return 0

    at_broker("keys", work)


@app.command()
def revoke(ids: Annotated[list[str], typer.Argument(help="ids, as `list` shows them")]) -> None:
    """End keys for good; every gateway closes their connections within a second."""

    async def work(bus: Bus) -> int:
        code = 0
        for given in ids:
            parts = keys.KEY.fullmatch(given)  # a whole key, as it may have been found somewhere
            try:
                key = await keys.revoke(bus, parts["id"] if parts else given)
            except keys.NoSuchKey:
                code = sorry("there is no such key" if parts else f"there is no key {given[:80]}", EX_FAILED)
                continue
            print(f"key {key.id} ({key.name}) is revoked")
        return code

    at_broker("keys", work)


@app.command()
def webhooks(
    drop_old: Annotated[
        bool, typer.Option("--drop-old", help="let no key but the newest sign, once receivers have the new secrets")
    ] = False,
) -> None:
    """Change the key that the secrets of all webhooks are made from; the old one signs, too, until it is dropped.

    Gateways take it when they are restarted, one after the other. Where WEBHOOK_KEYS is set, that is the key.
    """

    async def work(bus: Bus) -> int:
        if drop_old:
            print(f"old keys dropped: {await webhook_key.drop_old(bus)}; restart the gateways")
        else:
            await webhook_key.change(bus)
            print("the key is changed; restart the gateways, give receivers their new secrets, then --drop-old")
        return 0

    at_broker("keys", work)


def _state(key: AccessKey) -> str:
    if key.revoked_at is not None:
        return "revoked"
    return "valid" if keys.valid(key, time.time()) else "expired"


def _facts(key: AccessKey) -> dict[str, str | None]:
    return {
        "id": key.id,
        "name": key.name,
        "owner": key.owner,
        "state": _state(key),
        "created_at": _moment(key.created_at),
        "expires_at": _moment(key.expires_at),
        "revoked_at": _moment(key.revoked_at),
    }


def _moment(at: float | None) -> str | None:
    return None if at is None else moment(at)


def _table(found: list[AccessKey]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("id", "name", "owner", "state", "created_at", "expires_at", "revoked_at"):
        table.add_column(column, overflow="fold")
    for key in found:
        table.add_row(*(Text(fact or "") for fact in _facts(key).values()))
    Console().print(table if found else "no keys")
