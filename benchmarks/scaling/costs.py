"""What each step takes, as it was measured: the inputs of the simulation, from `results/scaling-*.json` alone."""

from __future__ import annotations

from math import log2

import msgspec

from benchmarks.scaling.curve import curve, evidence, line

FEW, CALIBRATED_AT = 5, 50  # sessions: what a context and a session cost besides the items is taken from these two
CONTEXTS, CROWD = 5, 10  # FEED_CONTEXTS, and searches of one moment that share a context before another is made
APART = 4  # transformers: the most that were measured side by side
LISTED_ITEMS = 100  # of a search of the curve `crawler-browser`


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of processor, if not said otherwise."""

    crawl_context: float  # a browser context, which a few searches share
    crawl_session: float  # a search in the browser
    crawl_item: float  # in the browser, for each item
    emit: float  # an item of the stand-in's catalogue, without a browser
    resolve: float  # an item whose video nobody has asked about
    resolve_known: float  # one that is remembered
    requests: float  # to the CDN and the site for each item, a number
    requests_apart: float  # the same at `APART` transformers, of which each remembers for itself
    settle: float  # an item's outcome
    frame: float  # a record heard and sent by its gateway
    hear: float  # a record heard by a gateway or crawler that it does not concern
    broker_item: float  # of nats-server, an item from its emission to its outcome
    broker_hear: float  # of nats-server, a record to one follower
    gateway_session: float  # a session at its gateway: asked for, followed, over
    broker_session: float  # of nats-server, a session besides its items
    dedup_session: float  # likewise, of dedup
    copies: float  # how many times that much three servers take together for a record, as one does: a number
    claims_per_s: float  # that three servers take, on the two cores of one machine
    client: float  # of whoever measures, a frame
    site: float  # of the stand-in, a request
    key_ram: float  # bytes of nats-server's memory, a key
    key_disk: float  # bytes stored, a key
    items_per_video: float  # of searches as they are read: a number

    def requests_at(self, transformers: int) -> float:
        """For each item at so many of them; beyond those that were measured no more is supposed to be asked."""
        share = min(1.0, log2(transformers) / log2(APART))
        return self.requests + share * (self.requests_apart - self.requests)

    def resolve_at(self, transformers: int) -> float:
        """As `resolve`, where there are so many: it is the requests that cost."""
        return self.resolve * self.requests_at(transformers) / self.requests


def costs() -> Costs:
    """As kept.

    What an item costs in the flow is taken from all stages together, at one and at two of each, not from the stages
    alone: behind a queue that is full, a process takes many messages at a time, and each costs a third.
    """
    browser = evidence(curve("crawler-browser"), 1)["cpu ms crawler"]
    short = evidence(curve("sessions"), CALIBRATED_AT)
    items = short["items"] / CALIBRATED_AT
    # searches cost `contexts * c + n * (a + b * items)`: two numbers of them and two lengths were measured. A few have
    # one context, the warm one, which is made anew meanwhile.
    early = evidence(curve("sessions"), FEW)
    spent, spent_early = short["cpu ms crawler"] * short["items"], early["cpu ms crawler"] * early["items"]
    search = (spent - CONTEXTS * spent_early) / (CALIBRATED_AT - CONTEXTS * FEW)
    context = max(0.0, spent_early - FEW * search)
    item = max(0.1, (browser * LISTED_ITEMS - search) / (LISTED_ITEMS - items))
    one, two = (evidence(curve("whole"), replicas) for replicas in (1, 2))
    fresh, sent = evidence(curve("transformer"), 1), evidence(curve("gateway"), 1)
    single, three = (evidence(curve("servers"), count)["cpu ms nats"] for count in (1, 3))
    keys = curve("keys")
    counts = line(keys, "throughput").at
    few, many = evidence(keys, counts[0]), evidence(keys, counts[-1])

    def more(service: str, copies: int) -> float:
        return max(slope("cpu ms followers"), (two[f"cpu ms {service}"] - one[f"cpu ms {service}"]) / copies)

    hear = more("gateway", 1)
    broker_hear = max(slope("cpu ms nats"), (two["cpu ms nats"] - one["cpu ms nats"]) / 2)
    broker_item = one["cpu ms nats"] - 2 * broker_hear
    share = one["videos"] / one["items"]
    frame = hear + max(0.0, one["cpu ms gateway"] - hear) / share

    def besides(service: str, an_item: float) -> float:
        return max(0.0, (short[f"cpu ms {service}"] - an_item) * items)

    return Costs(
        crawl_context=context,
        crawl_session=max(0.0, search - item * items),
        crawl_item=item,
        emit=one["cpu ms crawler"] - hear,
        resolve=fresh["cpu ms transformer"],
        resolve_known=one["cpu ms transformer"],
        requests=fresh["requests"],
        requests_apart=evidence(curve("transformer"), APART)["requests"],
        settle=one["cpu ms dedup"],
        frame=frame,
        hear=hear,
        broker_item=max(0.05, broker_item),
        broker_hear=broker_hear,
        gateway_session=besides("gateway", one["cpu ms gateway"]),
        broker_session=besides("nats", one["cpu ms nats"]),
        dedup_session=besides("dedup", one["cpu ms dedup"]),
        copies=three / single,
        claims_per_s=line(curve("servers"), "throughput").median[1],
        client=sent["cpu ms load"] / 2,  # the other half writes the records
        site=fresh["cpu ms site"] / fresh["requests"],
        key_ram=(many["mb nats"] - few["mb nats"]) * 2**20 / (many["keys"] - few["keys"]),
        key_disk=many["disk mb"] * 2**20 / many["keys"],
        items_per_video=short["items"] / short["videos"],
    )


def slope(name: str) -> float:
    """Of a cost by the number of followers: what one more of them adds, by least squares."""
    found = curve("followers")
    at = line(found, "throughput").at
    costs = [evidence(found, x)[name] for x in at]
    middle, mean = sum(at) / len(at), sum(costs) / len(costs)
    over = sum((x - middle) ** 2 for x in at)
    return sum((x - middle) * (y - mean) for x, y in zip(at, costs, strict=True)) / over
