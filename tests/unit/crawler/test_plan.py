from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from libs.common.messages import Reason
from libs.common.source import BoardSource, RelatedSource, SearchSource, SectionSource, Source, UserSource
from services.crawler.envelope import Envelope
from services.crawler.failure import CrawlFailed, Refused
from services.crawler.listing import Listing
from services.crawler.pinterest import Asked
from services.crawler.plan import Plan, plan_of

BOARD = {"id": "900", "pin_count": 4, "section_count": 2}
SECTIONS = [{"id": "901", "slug": "first"}, {"id": 902, "slug": "z%C3%BCnden"}]
GLAZES = BoardSource("mia", "glazes")
MISSING = Refused(Reason.UPSTREAM_CHANGED, "HTTP 404", status=404)
BLOCKED = Refused(Reason.BLOCKED, "HTTP 403")


class Site:
    """Answers by the resource's name: data, a refusal, or what a function makes of the options."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[str] = []

    async def ask(self, asked: Asked) -> Envelope:
        parts = urlsplit(asked.path)
        name = parts.path.split("/")[2]
        self.asked.append(name)
        answer = self.answers[name]
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer(json.loads(parse_qs(parts.query)["data"][0])["options"])
        if isinstance(answer, Refused):
            raise answer
        return answer if isinstance(answer, Envelope) else Envelope(data=answer)


async def steps(plan: Plan, site: Site, pins: dict[str, set[str]], *, by_page: bool = False) -> list[str]:
    """The paths that the plan names, each read at once; `pins` are those of a path."""
    paths = []
    while (step := await plan.next(site.ask, by_page=by_page)) is not None:
        assert isinstance(step, Listing)
        paths.append(step.path)
        plan.read(pins.get(step.path, set()))
    return paths


BOARD_PATH, FIRST, SECOND = "/mia/glazes/", "/mia/glazes/first/", "/mia/glazes/z%C3%BCnden/"


@pytest.mark.parametrize(
    ("board", "pins", "expected"),
    [
        (BOARD, {BOARD_PATH: {"1"}, FIRST: {"2"}, SECOND: {"3"}}, [BOARD_PATH, FIRST, SECOND]),
        (BOARD, {BOARD_PATH: {"1", "2", "3", "4"}, FIRST: {"2"}}, [BOARD_PATH, FIRST]),
        (BOARD, {BOARD_PATH: {"1", "2", "3", "4"}, FIRST: {"5"}}, [BOARD_PATH, FIRST, SECOND]),
        (BOARD, {BOARD_PATH: {"1", "2"}, FIRST: {"2"}}, [BOARD_PATH, FIRST, SECOND]),
        ({**BOARD, "section_count": 0}, {BOARD_PATH: {"1", "2", "3", "4"}}, [BOARD_PATH]),
        ({**BOARD, "section_count": 0}, {BOARD_PATH: {"1"}}, [BOARD_PATH, FIRST, SECOND]),
        ({"id": "900"}, {BOARD_PATH: {"1"}}, [BOARD_PATH, FIRST, SECOND]),
    ],
)
async def test_the_sections_of_a_board_are_read_where_its_list_may_lack_their_pins(
    board: dict[str, Any], pins: dict[str, set[str]], expected: list[str]
) -> None:
    site = Site(BoardResource=board, BoardSectionsResource=SECTIONS)
    assert await steps(plan_of(GLAZES), site, pins) == expected


async def test_a_board_without_a_list_of_sections_is_read_all_the_same() -> None:
    site = Site(BoardResource={"id": "900"}, BoardSectionsResource=MISSING)
    assert await steps(plan_of(GLAZES), site, {}) == [BOARD_PATH]


async def test_sections_that_cannot_be_listed_are_not_passed_over_in_silence() -> None:
    for refusal, reason in ((BLOCKED, Reason.BLOCKED), (MISSING, Reason.UPSTREAM_CHANGED)):
        for answers in ({"BoardResource": refusal}, {"BoardResource": BOARD, "BoardSectionsResource": refusal}):
            with pytest.raises(Refused) as refused:
                await steps(plan_of(GLAZES), Site(**answers), {BOARD_PATH: {"1"}}, by_page=True)
            assert (refused.value.reason, refused.value.missing) == (reason, False)


async def test_a_look_up_that_is_refused_is_not_asked_again_where_the_page_is_read() -> None:
    plan, site = plan_of(GLAZES), Site(BoardResource=BLOCKED)
    with pytest.raises(Refused):
        await plan.next(site.ask, by_page=False)
    step = await plan.next(site.ask, by_page=True)
    assert isinstance(step, Listing)
    assert step.path == BOARD_PATH
    assert site.asked == ["BoardResource"]


async def test_sections_come_in_pages_and_a_cursor_that_comes_again_ends_them() -> None:
    def page(options: dict[str, Any]) -> Envelope:
        [cursor] = options["bookmarks"] or [""]
        return Envelope(data=[{"id": f"9{len(cursor)}", "slug": f"s{len(cursor)}"}], bookmark=cursor[:2] + "c")

    site = Site(BoardResource=BOARD, BoardSectionsResource=page)
    assert await steps(plan_of(GLAZES), site, {}) == [BOARD_PATH, *(f"/mia/glazes/s{n}/" for n in range(4))]


@pytest.mark.parametrize("privacy", ["secret", "private"])
async def test_a_private_board_is_not_found(privacy: str) -> None:
    with pytest.raises(CrawlFailed, match="private") as failed:
        await plan_of(GLAZES).next(Site(BoardResource={**BOARD, "privacy": privacy}).ask, by_page=False)
    assert failed.value.reason is Reason.NOT_FOUND


async def test_a_board_without_an_id_means_that_the_site_has_changed() -> None:
    answers: list[Any] = [{}, [], None, {"id": None}]
    for data in answers:
        with pytest.raises(Refused) as refused:
            await plan_of(GLAZES).next(Site(BoardResource=data).ask, by_page=False)
        assert refused.value.reason is Reason.UPSTREAM_CHANGED


async def test_a_section_is_looked_up_by_its_name_and_its_page_needs_none() -> None:
    site = Site(BoardResource=BOARD, BoardSectionsResource=SECTIONS)
    step = await plan_of(SectionSource("mia", "glazes", "Zünden")).next(site.ask, by_page=False)
    assert isinstance(step, Listing)
    assert step.options["section_id"] == "902"
    with pytest.raises(Refused) as refused:
        await plan_of(SectionSource("mia", "glazes", "third")).next(site.ask, by_page=False)
    assert refused.value.missing
    assert await plan_of(SectionSource("mia", "glazes", "third")).next(Site().ask, by_page=True) is not None


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (UserSource("mia"), ["/mia/_created/", "/mia/_saved/"]),
        (UserSource("mia", saved=False), ["/mia/_created/"]),
        (UserSource("mia", created=False), ["/mia/_saved/"]),
        (RelatedSource("12"), ["/pin/12/"]),
        (SearchSource("a & b"), ["/search/videos/?q=a%20%26%20b&rs=typed"]),
    ],
)
async def test_what_needs_no_look_up_is_not_looked_up(source: Source, expected: list[str]) -> None:
    site = Site()
    assert await steps(plan_of(source), site, {path: {"1"} for path in expected}) == expected
    assert site.asked == []


async def test_a_user_without_a_pin_is_asked_for_once() -> None:
    for answer in ({"id": "7"}, BLOCKED, None):
        site = Site(UserResource=answer)
        assert len(await steps(plan_of(UserSource("mia")), site, {})) == 2
        assert site.asked == ["UserResource"]
    for missing in (MISSING, {"is_private_profile": True}):
        with pytest.raises(CrawlFailed) as failed:
            await steps(plan_of(UserSource("mia")), Site(UserResource=missing), {})
        assert failed.value.reason is Reason.NOT_FOUND
