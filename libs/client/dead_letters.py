"""`pinstream dead-letters`: what could not be handled, listed, shown, handled again, or dropped."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from libs.client.command import at_broker, moment, sorry
from libs.common.bus import Bus
from libs.common.dead_letters import Letter, NotReplayable, drop, letter, letters, replay
from libs.common.exit_codes import EX_FAILED, EX_USAGE

app = typer.Typer(no_args_is_help=True, help="Messages that could not be handled (at NATS_URL).")

Numbers = Annotated[list[int] | None, typer.Argument(help="numbers, as `list` shows them", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="every letter that the other options leave")]
Stage = Annotated[str | None, typer.Option(help="only of this stage, such as transformer", show_default=False)]
Session = Annotated[str | None, typer.Option(help="only of this session", show_default=False)]


class ListFormat(StrEnum):
    """How letters are listed."""

    TABLE = "table"
    JSONL = "jsonl"


@app.command("list")
def list_(
    stage: Stage = None,
    session: Session = None,
    format_: Annotated[
        ListFormat | None, typer.Option("--format", help="default: table on a terminal, else jsonl", show_default=False)
    ] = None,
) -> None:
    """Show every letter in a line, the oldest first."""

    async def work(bus: Bus) -> int:
        found = [one async for one in letters(bus) if _wanted(one, stage, session)]
        if (format_ or (ListFormat.TABLE if sys.stdout.isatty() else ListFormat.JSONL)) is ListFormat.TABLE:
            _table(found)
        else:
            for one in found:
                print(json.dumps(_facts(one)))
        return 0

    at_broker("dead-letters", work)


@app.command()
def show(
    number: Annotated[int, typer.Argument(help="as `list` shows it")],
    body: Annotated[bool, typer.Option("--body", help="write the body alone, byte for byte")] = False,
) -> None:
    """Show one letter whole: its headers, its reason, its body."""

    async def work(bus: Bus) -> int:
        one = await letter(bus, number)
        if one is None:
            return sorry(f"there is no letter {number}", EX_FAILED)
        if body:
            sys.stdout.buffer.write(one.body)
            return 0
        for name, value in _facts(one).items():
            print(f"{name:<10} {value}")
        for name, value in one.headers.items():
            print(f"header     {name}: {value}")
        print("body       " + one.body.decode("utf-8", "backslashreplace"))
        return 0

    at_broker("dead-letters", work)


@app.command("replay")
def replay_(numbers: Numbers = None, all_: All = False, stage: Stage = None, session: Session = None) -> None:
    """Have letters handled again, one at a time, where they can harm nobody."""
    _each(numbers, all_, stage, session, _replayed)


@app.command("drop")
def drop_(numbers: Numbers = None, all_: All = False, stage: Stage = None, session: Session = None) -> None:
    """Remove letters for good."""
    _each(numbers, all_, stage, session, _dropped)


async def _replayed(bus: Bus, one: Letter) -> str:
    await replay(bus, one)
    return f"letter {one.number} is handled again: {one.subject}"


async def _dropped(bus: Bus, one: Letter) -> str:
    await drop(bus, one.number)
    return f"letter {one.number} is gone: {one.subject}"


def _each(
    numbers: list[int] | None,
    all_: bool,
    stage: str | None,
    session: str | None,
    work: Callable[[Bus, Letter], Awaitable[str]],
) -> None:
    if bool(numbers) == all_:
        raise typer.Exit(sorry("name letters by number, or say --all", EX_USAGE))

    async def on_each(bus: Bus) -> int:
        code = 0
        chosen = [one async for one in letters(bus) if _wanted(one, stage, session)]
        for number in set(numbers or ()) - {one.number for one in chosen}:
            code = sorry(f"there is no letter {number}", EX_FAILED)
        for one in chosen:
            if all_ or one.number in (numbers or ()):
                try:
                    print(await work(bus, one))
                except NotReplayable as error:
                    code = sorry(str(error), EX_FAILED)
        return code

    at_broker("dead-letters", on_each)


def _wanted(one: Letter, stage: str | None, session: str | None) -> bool:
    return stage in (None, one.stage) and session in (None, one.session)


def _facts(one: Letter) -> dict[str, str | int]:
    return {
        "number": one.number,
        "stage": one.stage,
        "subject": one.subject,
        "buried_at": moment(one.buried_at),
        "size": one.size,
        "reason": one.reason,
    }


def _table(found: list[Letter]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("number", "stage", "subject", "buried_at", "size", "reason"):
        table.add_column(column, overflow="fold")
    for one in found:
        table.add_row(*(Text(str(fact)) for fact in _facts(one).values()))
    Console().print(table if found else "no dead letters")
