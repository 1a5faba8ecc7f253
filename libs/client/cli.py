"""The `pinstream` command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from libs.client.dead_letters import app as dead_letters
from libs.client.keys import app as keys
from libs.client.output import Format
from libs.common.messages import Filters, Orientation

DEFAULT_URL = "ws://127.0.0.1:8080/ws"
DEFAULT_SITE = "https://www.pinterest.com"

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


app.add_typer(dead_letters, name="dead-letters")
app.add_typer(keys, name="keys")


@app.callback()
def _pinstream() -> None:
    """Direct links to the Pinterest videos on a topic, as they are found."""


@app.command()
def search(
    topic_or_url: Annotated[
        str, typer.Argument(help="what to look for, or the address of a search, board, user, pin or short link")
    ],
    limit: Annotated[int, typer.Option(help="how many distinct videos")] = 50,
    url: Annotated[
        str, typer.Option(help="the gateway's WebSocket, or those of several: a,b", envvar="PINSTREAM_URL")
    ] = DEFAULT_URL,
    format_: Annotated[
        Format | None, typer.Option("--format", help="default: table on a terminal, else jsonl", show_default=False)
    ] = None,
    min_duration: Annotated[float | None, typer.Option(help="seconds", show_default=False)] = None,
    max_duration: Annotated[float | None, typer.Option(help="seconds", show_default=False)] = None,
    min_height: Annotated[int | None, typer.Option(help="pixels", show_default=False)] = None,
    orientation: Annotated[Orientation | None, typer.Option(show_default=False)] = None,
    with_captions: Annotated[bool, typer.Option("--with-captions", help="only videos that have some")] = False,
    exclude_promoted: Annotated[bool, typer.Option("--exclude-promoted", help="no promoted pins")] = False,
    created_after: Annotated[
        str | None, typer.Option(help="a date such as 2026-01-31, or an ISO 8601 time", show_default=False)
    ] = None,
    new_only: Annotated[
        str | None,
        typer.Option(metavar="SCOPE", help="only what no search of that scope has given", show_default=False),
    ] = None,
    callback_url: Annotated[
        str | None, typer.Option(help="also post what is found to this address", show_default=False)
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="who asks; better given by the variable: arguments can be seen by others",
            envvar="PINSTREAM_API_KEY",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Search at a running gateway for a topic, or read an address, and show each video as it arrives."""
    from libs.client.search import run_search

    filters = Filters(
        min_duration_s=min_duration,
        max_duration_s=max_duration,
        min_height=min_height,
        orientation=orientation,
        with_captions=with_captions,
        exclude_promoted=exclude_promoted,
        created_after=created_after,
    )
    raise typer.Exit(
        run_search(
            topic_or_url,
            limit,
            url,
            format_,
            filters=filters,
            new_only=new_only,
            callback_url=callback_url,
            api_key=api_key,
        )
    )


@app.command()
def up(
    site: Annotated[str, typer.Option(help="origin of the site", envvar="SITE_URL")] = DEFAULT_SITE,
    host: Annotated[str, typer.Option(help="address that the gateway listens on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="port of the gateway", min=1, max=65535)] = 8080,
    crawlers: Annotated[int, typer.Option(min=1, max=16, help="replicas of the crawler")] = 1,
    transformers: Annotated[int, typer.Option(min=1, max=16, help="replicas of the transformer")] = 1,
    dedups: Annotated[int, typer.Option(min=1, max=16, help="replicas of dedup")] = 1,
    store: Annotated[Path | None, typer.Option(help="keep the streams in this directory", show_default=False)] = None,
) -> None:
    """Run everything on this machine until Ctrl-C."""
    from libs.client.local import LocalOptions
    from libs.client.up import run_up, say

    options = LocalOptions(
        site_url=site,
        gateway_host=host,
        gateway_port=port,
        crawlers=crawlers,
        transformers=transformers,
        dedups=dedups,
        store=store,
        say=say,
    )
    raise typer.Exit(run_up(options, site))


@app.command()
def status(
    url: Annotated[
        str, typer.Option(help="the gateway's WebSocket, or those of several: a,b", envvar="PINSTREAM_URL")
    ] = DEFAULT_URL,
    watch: Annotated[bool, typer.Option("--watch", help="again each second, until Ctrl-C")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line instead of a table")] = False,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="who asks; better given by the variable: arguments can be seen by others",
            envvar="PINSTREAM_API_KEY",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show every replica of every service, its load and last error, and what waits between them.

    Exit code: 0 each service has a replica that can take work, 1 one has none, 69 no gateway answers.
    """
    from libs.client.status import run_status

    raise typer.Exit(run_status(url, watch=watch, as_json=as_json, api_key=api_key))


@app.command()
def webhook_secret(
    url: Annotated[
        str, typer.Option(help="the gateway's WebSocket, or those of several: a,b", envvar="PINSTREAM_URL")
    ] = DEFAULT_URL,
    as_json: Annotated[bool, typer.Option("--json", help="a JSON object")] = False,
    api_key: Annotated[
        str | None,
        typer.Option(
            help="whose it is; better given by the variable: arguments can be seen by others",
            envvar="PINSTREAM_API_KEY",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Show what the webhooks of your sessions are signed with, the newest where it is being changed.

    Exit code: 0 shown, 2 no such key or none given, 69 no gateway answers.
    """
    from libs.client.webhook_secret import run_webhook_secret

    raise typer.Exit(run_webhook_secret(url, as_json=as_json, api_key=api_key))


@app.command()
def doctor(
    site: Annotated[str | None, typer.Option(help="origin of the site", show_default=False)] = None,
) -> None:
    """Say what is missing on this machine, and how to get it."""
    from libs.client.doctor import run_doctor

    raise typer.Exit(run_doctor(site))


@app.command()
def canary(
    query: Annotated[
        str | None, typer.Argument(help="what to look for; default: CANARY_QUERY", show_default=False)
    ] = None,
    site: Annotated[str | None, typer.Option(help="origin of the site", show_default=False)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object instead of a sentence")] = False,
) -> None:
    """Say in one line whether the site's answers still have the shape that this program knows.

    Exit code: 0 they have, 1 they have changed, 69 the site was not reached or refused.
    """
    from libs.client.canary import run_canary

    raise typer.Exit(run_canary(query, site, as_json))


@app.command()
def backup(folder: Annotated[Path, typer.Argument(help="where to; empty, or made")]) -> None:
    """Save all that the broker (at NATS_URL) keeps: sessions, keys, work under way."""
    from libs.client.backups import run_backup

    raise typer.Exit(run_backup(folder))


@app.command()
def restore(
    folder: Annotated[Path, typer.Argument(help="what `backup` made", exists=True, file_okay=False)],
    replace: Annotated[bool, typer.Option("--replace", help="delete what the broker keeps now")] = False,
) -> None:
    """Give a broker what was saved; the services must be stopped.

    STREAM_REPLICAS and the like apply as they do to the set-up job.
    """
    from libs.client.backups import run_restore

    raise typer.Exit(run_restore(folder, replace=replace))


def main() -> None:
    """The entry point."""
    app()


if __name__ == "__main__":
    main()
