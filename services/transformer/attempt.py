"""One video's way through the stages: what has been asked, and what was answered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import structlog

from libs.common.messages import Variant
from services.transformer.address import Place, bare
from services.transformer.patience import Unanswered
from services.transformer.playlist import Ladder, read_ladder
from services.transformer.resolve import (
    Candidate,
    current,
    current_hevc,
    current_places,
    legacy,
    listed,
    listed_in_other_codecs,
    named_widths,
    older,
    streams,
)
from services.transformer.verify import Answer, Prober, Tally

SECOND_BATCH = 3  # guesses asked together when the likeliest, asked alone, is not there; then all the rest
FAULTS_BORNE = 4  # requests for one item that may stay unanswered, all their attempts used up, while others are not

log = structlog.get_logger(__name__)


class Attempt:
    """Everything tried for one video. `variants` grow when the site tells more."""

    def __init__(self, variants: Sequence[Variant], prober: Prober, allow_hevc: bool) -> None:
        self.tally = Tally()
        self.variants = list(variants)
        self.answers: dict[str, Answer] = {}
        self.unanswered: set[str] = set()
        self.ladders: dict[str, Ladder | None] = {}
        self.cut_short = False
        self.served = False  # whether the host, asked for another file, gave it just now
        self._host_failing = False
        self._prober = prober
        self._allow_hevc = allow_hevc
        self._by_range = False

    @property
    def silent(self) -> bool:
        """The CDN says nothing, or hardly anything: to go on asking would be in vain."""
        heard = self.answers or any(self.ladders.values())
        if heard:
            return len(self.unanswered) > FAULTS_BORNE
        return len(self.unanswered) > 1 or self.cut_short or self._host_failing

    @property
    def complete(self) -> bool:
        """Nothing was left open by a fault."""
        return not self.unanswered and not self.cut_short

    def widen(self, variants: Iterable[Variant]) -> None:
        self.variants += variants

    async def file(self) -> tuple[Candidate, Answer] | None:
        """The best file that the CDN has, by stages 0 to 4; None where it has none, or does not answer."""
        found = await self._stages()
        if found is None and await self._was_misled():
            self._by_range = True
            self.answers = {url: answer for url, answer in self.answers.items() if not answer.by_head}
            found = await self._stages()
        return found

    async def stream(self) -> tuple[Candidate, Ladder] | None:
        """The best HLS playlist that could be read."""
        for candidate in self._askable(streams(self.variants)):
            if self.silent:
                return None
            ladder = await self.ladder(candidate.url)
            if ladder is not None:
                return candidate, ladder
        return None

    async def ladder(self, url: str) -> Ladder | None:
        """The playlist at `url`, read once."""
        if url not in self.ladders and self._prober.may_ask(url):
            try:
                answer, text = await self._prober.playlist(url, self.tally)
            except Unanswered as error:
                self._note_silence(url, error)
                return None
            self.ladders[url] = read_ladder(text, answer.url) if answer.present else None
            if self.ladders[url] is None:
                self.answers[url] = Answer(url, False, answer.status)
        return self.ladders.get(url)

    def best_guess(self) -> Candidate | None:
        """What to hand on unverified: a listed file that was not denied, then HLS; None where all was denied.

        403 is a denial only where the host is known to serve us: the CDN sends it for what is missing, but also to a
        network that it refuses.
        """
        options = [item for item in listed(self.variants) if item.listed] + streams(self.variants)
        open_ = [item for item in self._askable(options, again=True) if not self._denied(item.url)]
        return min(open_, key=lambda item: item.url in self.answers, default=None)

    def _denied(self, url: str) -> bool:
        answer = self.answers.get(url)
        return answer is not None and not answer.present and (answer.status != 403 or self.served)

    async def _stages(self) -> tuple[Candidate, Answer] | None:
        others = listed_in_other_codecs(self.variants) if self._allow_hevc else []
        found = await self._first([*listed(self.variants), *legacy(self.variants)])
        spots = current_places(self.variants)
        if found is None and not self.silent and spots:
            found = await self._first(await self._guesses(spots, others))
        elif found is None:
            found = await self._first(others)
        return found

    async def _guesses(self, spots: list[Place], others: list[Candidate]) -> list[Candidate]:
        second: list[Candidate] = []
        hevc: list[Candidate] = []
        third: list[Candidate] = []
        named = named_widths(self.variants)
        for spot in spots:
            ladder = await self._ladder_of(spot)
            second += current(spot, ladder, named)
            hevc += current_hevc(spot, ladder, named) if self._allow_hevc else []
            third += older(spot, ladder)
        return [*second, *others, *hevc, *third]

    async def _ladder_of(self, spot: Place) -> Ladder | None:
        named = [item.url for item in streams(self.variants) if bare(item.url) == spot.master]
        for url in self._prober.allowed(named):
            ladder = await self.ladder(url)
            if ladder is not None or self.silent:
                return ladder
        return None

    async def _first(self, candidates: list[Candidate]) -> tuple[Candidate, Answer] | None:
        """The first of `candidates` that is there: the likeliest is asked alone, the rest in two batches."""
        left = self._askable(candidates)
        for batch in (left[:1], left[1 : 1 + SECOND_BATCH], left[1 + SECOND_BATCH :]):
            if self.silent:
                return None
            answers = await asyncio.gather(*(self._ask(item.url) for item in batch))
            for candidate, answer in zip(batch, answers, strict=True):
                if answer is not None and answer.present:
                    return candidate, answer
        return None

    async def _ask(self, url: str) -> Answer | None:
        try:
            answer = await self._prober.file(url, self.tally, by_range=self._by_range)
        except Unanswered as error:
            self._note_silence(url, error)
            return None
        self.unanswered.discard(url)
        self.answers[url] = answer
        return answer

    def _askable(self, candidates: Iterable[Candidate], again: bool = False) -> list[Candidate]:
        distinct: dict[str, Candidate] = {}
        for item in candidates:
            if self._prober.may_ask(item.url) and (again or item.url not in self.answers):
                distinct.setdefault(item.url, item)
        return list(distinct.values())

    async def _was_misled(self) -> bool:
        """Whether HEAD denied files that may be there: it is put to the proof on a playlist that GET can read.

        Where no playlist can be read there is no proof, and every file is asked for again by GET.
        """
        if self._by_range or self.silent or not any(answer.by_head for answer in self.answers.values()):
            return False
        await self.stream()
        read = [ladder.url for ladder in self.ladders.values() if ladder is not None]
        return await self._prober.head_lies(read[0], self.tally) if read else True

    def _note_silence(self, url: str, error: Unanswered) -> None:
        self.unanswered.add(url)
        self._host_failing = error.failing
        log.info("cdn_unanswered", url=url, reason=str(error))
