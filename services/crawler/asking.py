"""Asking a resource of the site from inside a page of its origin."""

from __future__ import annotations

import asyncio

import msgspec
from playwright.async_api import Error

from services.crawler import pinterest
from services.crawler.envelope import Envelope
from services.crawler.failure import (
    MOST_BYTES,
    TIMED_OUT_S,
    BrowserFailed,
    from_playwright,
    timed_out,
    too_long,
    unreachable,
)
from services.crawler.pacing import Pacer
from services.crawler.tab import Tab

_GRACE_S = 2.0  # for a renderer that does not come to its own timer
_FETCH = """async ({path, headers, timeout_ms, most_bytes}) => {
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), timeout_ms);
  try {
    const answer = await fetch(path, {headers, signal: stop.signal, credentials: "same-origin", cache: "no-store"});
    const reader = answer.body?.getReader(), decoder = new TextDecoder();
    let body = "", bytes = 0;
    for (let part; reader && !(part = await reader.read()).done; ) {
      bytes += part.value.length;
      if (bytes > most_bytes) {
        stop.abort();
        return {error: "too long", too_long: true};
      }
      body += decoder.decode(part.value, {stream: true});
    }
    body += decoder.decode();
    const [content_type, retry_after] = ["content-type", "retry-after"].map((name) => answer.headers.get(name));
    return {status: answer.status, content_type, retry_after, body};
  } catch (error) {
    return {error: String(error), timed_out: stop.signal.aborted};
  } finally {
    clearTimeout(timer);
  }
}"""


async def ask(tab: Tab, asked: pinterest.Asked, pacer: Pacer) -> Envelope:
    """What a resource answers to the page in `tab`. Raises Refused or BrowserFailed."""
    await tab.land()
    await pacer.turn()
    what = "A request to the site"
    tab.last_failure = None
    argument = {"path": asked.path, "headers": asked.headers, "timeout_ms": int(TIMED_OUT_S * 1000)}
    argument["most_bytes"] = MOST_BYTES
    try:
        async with asyncio.timeout(TIMED_OUT_S + _GRACE_S):
            got = await tab.page.evaluate(_FETCH, argument)
    except TimeoutError as error:
        raise BrowserFailed("the page does not answer") from error
    except Error as error:
        failure = from_playwright(error, what)
        tab.left()
        raise failure from error
    answer = msgspec.convert(got, pinterest.Answer)
    if answer.too_long:
        raise too_long()
    if answer.timed_out:
        raise timed_out(what)
    if answer.error is not None:
        raise unreachable((tab.last_failure or answer.error).removeprefix("net::"))
    return pinterest.envelope_in(answer)
