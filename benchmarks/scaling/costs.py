"""What each step takes, as it was measured: the inputs of the simulation, from `results/scaling-*.json` alone."""

from __future__ import annotations

import msgspec

from benchmarks.scaling.curve import curve, evidence, line

CALIBRATED_AT = 20  # sessions: what a session costs besides its items is taken from there
LISTED_ITEMS = 100  # of a search of the curve `crawler-browser`


class Costs(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds of processor, if not said otherwise."""

    crawl_session: float  # a search in the browser: its context, its page
    crawl_item: float  # in the browser, for each item
    emit: float  # an item of the stand-in's catalogue, without a browser
    resolve: float  # an item whose video nobody has asked about
    resolve_known: float  # one that is remembered
    requests: float  # to the CDN and the site for each item, a number
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


def costs() -> Costs:
    """As kept."""
    browser = evidence(curve("crawler-browser"), 1)["cpu ms crawler"]
    short = evidence(curve("sessions"), CALIBRATED_AT)
    items = short["items"] / CALIBRATED_AT
    # a search costs `a + b * items`: two lengths were measured
    item = max(0.1, (browser * LISTED_ITEMS - short["cpu ms crawler"] * items) / (LISTED_ITEMS - items))
    emit, fresh = evidence(curve("crawler"), 1), evidence(curve("transformer"), 1)
    known, settled = evidence(curve("transformer-known"), 1), evidence(curve("dedup"), 1)
    sent = evidence(curve("gateway"), 1)
    one, three = (evidence(curve("servers"), count)["cpu ms nats"] for count in (1, 3))
    broker_item = emit["cpu ms nats"] + known["cpu ms nats"] + settled["cpu ms nats"]

    def besides(service: str, an_item: float) -> float:
        return max(0.0, (short[f"cpu ms {service}"] - an_item) * items)

    keys = curve("keys")
    counts = line(keys, "throughput").at
    few, many = evidence(keys, counts[0]), evidence(keys, counts[-1])
    return Costs(
        crawl_session=max(0.0, browser * LISTED_ITEMS - item * LISTED_ITEMS),
        crawl_item=item,
        emit=emit["cpu ms crawler"],
        resolve=fresh["cpu ms transformer"],
        resolve_known=known["cpu ms transformer"],
        requests=fresh["requests"],
        settle=settled["cpu ms dedup"],
        frame=sent["cpu ms gateway"],
        hear=slope("cpu ms followers"),
        broker_item=broker_item,
        broker_hear=slope("cpu ms nats"),
        gateway_session=besides("gateway", sent["cpu ms gateway"] * short["videos"] / short["items"]),
        broker_session=besides("nats", broker_item),
        dedup_session=besides("dedup", settled["cpu ms dedup"]),
        copies=three / one,
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
