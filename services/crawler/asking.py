"""Asking a resource of the site from inside a page of its origin."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count

import msgspec
from playwright.async_api import Error

from libs.common import metrics
from libs.common.messages import Reason
from libs.common.site_metrics import asked as asked_of
from services.crawler import pinterest
from services.crawler.envelope import Envelope
from services.crawler.failure import (
    GRACE_S,
    MOST_BYTES,
    TIMED_OUT_S,
    Refused,
    answering,
    from_playwright,
    timed_out,
    too_long,
    unreachable,
)
from services.crawler.pacing import Pacer
from services.crawler.tab import Tab

Ask = Callable[[pinterest.Asked], Awaitable[Envelope]]  # for things other than pins

_FETCH = """async ({path, form, headers, timeout_ms, most_bytes, number}) => {
  const stop = new AbortController();
  const stops = (globalThis.__stops ??= new Map());
  stops.set(number, stop);
  const end = performance.now() + timeout_ms;
  const timer = setTimeout(() => stop.abort(), timeout_ms);
  const options = {headers, signal: stop.signal, credentials: "same-origin", cache: "no-store"};
  if (form !== null) {
    const token = document.cookie.match(/(?:^|; )csrftoken=([^;]*)/)?.[1] ?? "";
    const more = {"Content-Type": "application/x-www-form-urlencoded", "X-CSRFToken": token};
    Object.assign(options, {method: "POST", body: form, headers: {...headers, ...more}});
  }
  try {
    const answer = await fetch(path, options);
    const reader = answer.body?.getReader(), decoder = new TextDecoder();
    let body = "", bytes = 0;
    for (let part; reader && !(part = await reader.read()).done; ) {
      if (performance.now() > end) stop.abort();  // what goes on without a pause lets no timer have its turn
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
    stops.delete(number);
  }
}"""


_STOP = "(number) => globalThis.__stops?.get(number)?.abort()"
_STOP_S = 0.5
_numbers = count()


async def ask(tab: Tab, asked: pinterest.Asked, pacer: Pacer, *, of_pins: bool = True) -> Envelope:
    """What a resource, of pins or of something else, answers to the page in `tab`. Raises Refused or BrowserFailed."""
    answer = await answer_of(tab, asked, pacer)
    try:
        envelope = pinterest.envelope_in(answer, of_pins=of_pins)
    except Refused as refusal:
        if refusal.reason is Reason.UPSTREAM_CHANGED and not refusal.missing:
            metrics.unknown_answers.add(1, {"what": "refused"})
        raise
    if envelope.lost:
        metrics.unknown_answers.add(1, {"what": "cursor"})
    await pacer.answered()
    return envelope


async def answer_of(tab: Tab, asked: pinterest.Asked, pacer: Pacer) -> pinterest.Answer:
    """The answer of a resource as it came, whatever it is. Raises Refused or BrowserFailed where none did."""
    length = len(asked.path)
    answer = await _answer(tab, asked, pacer, as_form=length >= tab.too_long)
    if answer.status in pinterest.TOO_LONG and length < tab.too_long:
        tab.too_long = length
        answer = await _answer(tab, asked, pacer, as_form=True)
    return answer


async def _answer(tab: Tab, asked: pinterest.Asked, pacer: Pacer, *, as_form: bool) -> pinterest.Answer:
    await tab.land()
    await pacer.turn()
    path, _, words = asked.path.partition("?")
    what = "A request to the site"
    tab.last_failure = None
    number = next(_numbers)
    argument = {
        "path": path if as_form else asked.path,
        "form": words if as_form else None,
        "headers": asked.headers,
        "timeout_ms": int(TIMED_OUT_S * 1000),
        "most_bytes": MOST_BYTES,
        "number": number,
    }
    try:
        with asked_of("feed") as request:
            async with answering(TIMED_OUT_S + GRACE_S, "the page"):
                got = await tab.page.evaluate(_FETCH, argument)
            answer = msgspec.convert(got, pinterest.Answer)
            request.status = _status(answer)
    except Error as error:
        failure = from_playwright(error, what)
        tab.left()
        raise failure from error
    except asyncio.CancelledError:
        with suppress(Error, TimeoutError):  # the page is gone, and the request with it
            async with asyncio.timeout(_STOP_S):
                await tab.page.evaluate(_STOP, number)
        raise
    if answer.too_long:
        raise too_long()
    if answer.timed_out:
        raise timed_out(what)
    if answer.error is not None:
        raise unreachable((tab.last_failure or answer.error).removeprefix("net::"))
    return answer


def _status(answer: pinterest.Answer) -> int | str:
    if answer.too_long:
        return "too_long"
    if answer.timed_out:
        return "timed_out"
    return "failed" if answer.error is not None else answer.status
