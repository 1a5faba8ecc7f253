"""Short links: followed in the browser to the address that they lead to."""

from __future__ import annotations

from libs.common.messages import Reason
from libs.common.source import SHORT_HOST, NotASource, ShortLink, Source, is_pinterest, source_at
from services.crawler.failure import CrawlFailed, Refused
from services.crawler.pinterest import LOGIN_PAGE, is_login, refusal_by
from services.crawler.tab import Tab

NO_SHORT_LINK = "There is no such short link."


async def follow(tab: Tab, code: str, site: str) -> Source:
    """The source that a short link leads to. Raises Refused, BrowserFailed or CrawlFailed."""
    address = f"https://{SHORT_HOST}/{code}" if is_pinterest(site) else f"{site}/url_shortener/{code}/redirect/"
    end = await tab.follow(address)
    try:
        source = source_at(end.address, site)
    except NotASource as error:
        if is_login(end.address):
            raise Refused(Reason.LOGIN_REQUIRED, LOGIN_PAGE) from error
        shown = end.address.partition("?")[0][:200]
        message = f"The short link leads to {shown}, which cannot be read: {error}."
        raise CrawlFailed(Reason.NOT_FOUND, message) from error
    if not isinstance(source, ShortLink):
        return source
    if end.failure is not None:
        raise end.failure
    if end.status is not None and (refusal := refusal_by(end.status, end.retry_after, None)):
        if refusal.missing:
            raise CrawlFailed(Reason.NOT_FOUND, NO_SHORT_LINK)
        raise refusal
    raise Refused(Reason.UPSTREAM_CHANGED, "The short link leads nowhere in a way that is known here.")
