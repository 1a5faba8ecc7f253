"""What is found out once, and kept for a while."""

from __future__ import annotations

import asyncio

import pytest

from services.transformer.remembered import Remembered
from tests.wait import wait_until

LONG_S = 60.0


class Finder:
    """Finds the number of times that it was asked, once it may."""

    def __init__(self) -> None:
        self.asked = self.cancelled = 0
        self.may = asyncio.Event()

    async def __call__(self) -> int:
        self.asked += 1
        asked = self.asked
        try:
            await self.may.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return asked


@pytest.fixture
async def find() -> Finder:
    return Finder()


async def test_all_who_want_it_at_once_wait_for_one_and_later_ones_are_told_at_once(find: Finder) -> None:
    remembered = Remembered[str, int](10, LONG_S)
    waiting = [asyncio.create_task(remembered.get("a", find)) for _ in range(3)]
    await wait_until(lambda: find.asked, "it is being found")
    assert "a" in remembered
    find.may.set()
    assert await asyncio.gather(*waiting) == [1, 1, 1]
    assert await remembered.get("a", find) == 1
    assert find.asked == 1


async def test_what_is_raised_is_raised_to_all_and_not_kept(find: Finder) -> None:
    async def fail() -> int:
        await find.may.wait()
        raise ValueError("no")

    remembered = Remembered[str, int](10, LONG_S)
    waiting = [asyncio.create_task(remembered.get("a", fail)) for _ in range(2)]
    find.may.set()
    assert [type(error) for error in await asyncio.gather(*waiting, return_exceptions=True)] == [ValueError] * 2
    assert "a" not in remembered
    assert await remembered.get("a", find) == 1


async def test_the_least_used_go_first(find: Finder) -> None:
    find.may.set()
    remembered = Remembered[str, int](2, LONG_S)
    for key in ("a", "b", "a", "c"):
        await remembered.get(key, find)
    assert ["a" in remembered, "b" in remembered, "c" in remembered, len(remembered)] == [True, False, True, 2]


async def test_after_its_time_it_is_found_anew(find: Finder) -> None:
    find.may.set()
    remembered = Remembered[str, int](10, 0.0)
    assert [await remembered.get("a", find), await remembered.get("a", find)] == [1, 2]


async def test_one_that_leaves_costs_the_others_nothing_and_the_last_ends_the_search(find: Finder) -> None:
    remembered = Remembered[str, int](10, LONG_S)
    one, other = (asyncio.create_task(remembered.get("a", find)) for _ in range(2))
    await wait_until(lambda: find.asked, "it is being found")
    one.cancel()
    await asyncio.wait({one})
    assert find.cancelled == 0
    other.cancel()
    await wait_until(lambda: find.cancelled, "nobody waits, so it is given up")
    assert "a" not in remembered
    find.may.set()
    assert await remembered.get("a", find) == 2


async def test_what_is_forgotten_while_it_is_found_is_told_to_those_who_waited_only(find: Finder) -> None:
    remembered = Remembered[str, int](10, LONG_S)
    before = asyncio.create_task(remembered.get("a", find))
    await wait_until(lambda: find.asked == 1, "it is being found")
    remembered.forget("a")
    after = asyncio.create_task(remembered.get("a", find))
    await wait_until(lambda: find.asked == 2, "it is being found anew")
    find.may.set()
    assert await before == 1
    assert await after == 2
    assert await remembered.get("a", find) == 2


async def test_closing_ends_what_is_under_way(find: Finder) -> None:
    remembered = Remembered[str, int](10, LONG_S)
    waiting = asyncio.create_task(remembered.get("a", find))
    await wait_until(lambda: find.asked, "it is being found")
    await remembered.close()
    await asyncio.wait({waiting})
    assert waiting.cancelled() and find.cancelled == 1
