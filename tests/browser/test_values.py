"""What the pages compute: addresses, numbers, and one load for many viewers."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from lefleet_server import units
from lefleet_server.dashboard.filters import Cursor, Filters
from lefleet_server.shared import Shared

AT = datetime(2026, 11, 23, 8, 5, 3, 123456, tzinfo=UTC)


@pytest.mark.parametrize(
    "filters",
    [
        Filters(),
        Filters(robot="robot-1", policy="a/b c&d", outcome="failure", interrupted=True),
        Filters(interrupted=False, last="24h"),
        Filters(since=AT.replace(microsecond=0), until=AT.replace(microsecond=0)),
        Filters(outcome="success", before=Cursor(AT, "0a")),
        Filters(after=Cursor(AT, "0b")),
    ],
)
def test_an_address_brings_the_same_filters_back(filters):
    from urllib.parse import parse_qsl, urlsplit

    assert Filters.parse(dict(parse_qsl(urlsplit(filters.address("/episodes")).query))) == filters


def test_a_cursor_in_another_zone_is_the_same_place():
    from zoneinfo import ZoneInfo

    assert str(Cursor(AT.astimezone(ZoneInfo("Asia/Tokyo")), "0a")) == str(Cursor(AT, "0a"))


def test_other_filters_begin_on_the_first_page():
    assert Filters(before=Cursor(AT, "0a")).changed(robot="robot-1") == Filters(robot="robot-1")


def test_a_kept_span_counts_back_from_now():
    assert Filters(last="7d").begins(AT) == AT - timedelta(days=7)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (units.size(None), "—"),
        (units.size(999), "999 B"),
        (units.size(84_000_000), "84.0 MB"),
        (units.size(212_400_000_000), "212 GB"),
        (units.size(3.2e12), "3.2 TB"),
        (units.number(None), "—"),
        (units.number(12345.67), "12\u2009345.7"),
        (units.percent(0, 0), "—"),
        (units.percent(2, 3), "67"),
        (units.duration(8.449), "8.4 s"),
        (units.duration(59.97), "1:00 min"),
        (units.duration(125), "2:05 min"),
        (units.duration(3725), "1:02:05 h"),
        (units.repo_name("lefleet/act-so101/"), "act-so101"),
    ],
)
def test_numbers_are_written_for_people(said, read):
    assert said == read


async def test_viewers_of_the_same_moment_share_one_load():
    now, loads = 0.0, []

    async def load(key: str) -> str:
        loads.append(key)
        await asyncio.sleep(0)
        return f"{key} at {now}"

    shared = Shared(load, 1.0, clock=lambda: now)
    assert set(await asyncio.gather(*(shared.get("fleet") for _ in range(5)))) == {"fleet at 0.0"}
    assert loads == ["fleet"]
    now = 1.5
    assert await shared.get("fleet") == "fleet at 1.5"


async def test_what_is_being_loaded_when_it_is_known_to_be_old_is_kept_for_nobody():
    loads: asyncio.Queue[asyncio.Future[str]] = asyncio.Queue()

    async def load(_: None) -> str:
        answer = asyncio.get_running_loop().create_future()
        loads.put_nowait(answer)
        return await answer

    shared = Shared(load, 60)
    before = asyncio.create_task(shared.get(None))
    old = await loads.get()
    shared.forget()
    after = asyncio.create_task(shared.get(None))
    old.set_result("old")
    assert await before == "old"
    (await loads.get()).set_result("new")
    assert (await after, await shared.get(None)) == ("new", "new")


async def test_a_failed_load_is_tried_again():
    answers = iter([RuntimeError("the database is away"), "here"])

    async def load(_: None) -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    shared = Shared(load, 1.0)
    with pytest.raises(RuntimeError):
        await shared.get(None)
    assert await shared.get(None) == "here"
