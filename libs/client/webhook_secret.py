"""`pinstream webhook-secret`: what one's webhooks are signed with, as a gateway tells whose key it is given."""

from __future__ import annotations

import asyncio
import json
import sys

from libs.client.errors import GatewayUnreachable, RequestRefused
from libs.client.gateways import addresses, ask, gateways
from libs.common.exit_codes import EX_UNAVAILABLE, EX_USAGE

PATH = "/v1/webhook-secret"


async def _secret(urls: str, api_key: str | None) -> str:
    async with gateways(api_key) as client:
        document = await ask(client, addresses(urls, PATH))
    return str(document["webhook_secret"])


def run_webhook_secret(urls: str, *, as_json: bool, api_key: str | None) -> int:
    """The command. Returns the exit code."""
    try:
        secret = asyncio.run(_secret(urls, api_key))
    except (ValueError, RequestRefused) as error:
        print(f"pinstream: {error}", file=sys.stderr)
        return EX_USAGE
    except GatewayUnreachable as error:
        print(f"pinstream: {error}", file=sys.stderr)
        return EX_UNAVAILABLE
    print(json.dumps({"webhook_secret": secret}) if as_json else secret)
    return 0
