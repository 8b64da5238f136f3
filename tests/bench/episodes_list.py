"""The list of episodes with every filter, at a million rows and (--slow) at ten: how long somebody waits."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import asyncpg  # type: ignore[import-untyped]
import episode_rows
import numpy as np
from figure import Column, Figure, Row, Sample
from options import Options
from processes import BenchError
from sqlalchemy import Select
from sqlalchemy.ext.asyncio import AsyncSession
from upload_servers import command, lefleet

from lefleet_server import cluster, explain
from lefleet_server.config import Settings
from lefleet_server.dashboard import queries
from lefleet_server.dashboard.filters import Filters
from lefleet_server.db import Database
from lefleet_server.episodes import service, usage
from lefleet_server.episodes.models import Episode
from lefleet_server.episodes.service import EpisodeFilter

NAME = "episodes_list"
ROBOTS = 30
"""Few robots make it hard: each has a third of a million episodes at ten million."""
COLUMNS = (
    Column("p50", "p50 ms", 1),
    Column("p99", "p99 ms", 1),
    Column("max", "max ms", 1),
    Column("pages", "pages, most", 0),
)
AGES = (7, 60, 180, 300)
"""Days back at which pages begin, beside the newest."""


def steps(options: Options) -> int:
    return sum(2 * options.rounds + 28 + size // episode_rows.CHUNK for size in sizes(options))


def sizes(options: Options) -> list[int]:
    if options.quick:
        return [20_000]
    return [1_000_000, 10_000_000] if options.slow else [1_000_000]


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    rows: list[Row] = []
    plans: list[str] = []
    for size in sizes(options):
        with TemporaryDirectory(dir=options.folder) as scratch:
            folder = Path(scratch)
            folder.chmod(0o755)  # PostgreSQL runs as a user of its own when we are root
            with lefleet(folder / "lefleet", 0) as server:
                config = folder / "lefleet" / "server.yml"
                postgres = folder / "lefleet" / "postgres"
                gigabytes = asyncio.run(_fill(postgres, size, tell))
                found, told = _turns(options, server.port, config, postgres, f"{size / 1e6:g} M", tell)
        rows += found
        plans += [f"{size:,} rows ({gigabytes:.1f} GB with its indexes): {each}" for each in told]
    times = 20 if options.quick else 100
    return Figure(
        NAME,
        f"A page of 50 episodes by the API over HTTP, and what the dashboard asks; {times} different questions a turn "
        f"and row, {ROBOTS} robots, {episode_rows.POLICIES} policies, one year, median of {options.rounds}",
        COLUMNS,
        tuple(rows),
        notes=(
            "Each question has its own robot, policy and place: the newest page, or one that begins 7 to 300 days ago. "
            "The server and PostgreSQL are as `make demo` runs them (64 MB of shared buffers), on this machine's page "
            "cache. Pages: of 8 kB, touched by a statement, in memory or not; the same on a busy machine. Plans "
            "by EXPLAIN of the same statements, most frequent first:",
            *plans,
        ),
    )


async def _fill(postgres: Path, size: int, tell: Callable[[str], None]) -> float:
    connection = await asyncpg.connect(**cluster.read(postgres).connection_arguments())
    try:
        await episode_rows.fill(connection, size, ROBOTS, tell)
        return float(await connection.fetchval("SELECT pg_total_relation_size('episodes') / 1e9"))
    finally:
        await connection.close()


class Draw:
    """The same questions for every turn."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a sample, no secret

    def robot(self) -> str:
        return f"robot-{self._random.randint(1, ROBOTS)}"

    def policy(self) -> str:
        return f"lab/policy-{self._random.randrange(episode_rows.POLICIES)}"

    def task(self) -> str:
        return self._random.choice(episode_rows.TASKS)

    def release(self) -> dict[str, Any]:
        policy = self._random.randrange(episode_rows.POLICIES)
        release = episode_rows.release(policy, self._random.randrange(3))
        return {"policy": f"lab/policy-{policy}", "release": release}

    def until(self) -> datetime | None:
        days = self._random.choice((0, *AGES))
        return datetime.now(UTC) - timedelta(days=days) if days else None


CASES: dict[str, Callable[[Draw], dict[str, Any]]] = {
    "all": lambda _: {},
    "robot": lambda d: {"robot": d.robot()},
    "policy": lambda d: {"policy": d.policy()},
    "policy, release": lambda d: d.release(),
    "task": lambda d: {"task": d.task()},
    "task of long ago": lambda _: {"task": episode_rows.OLD_TASK},
    "outcome failure": lambda _: {"outcome": "failure"},
    "outcome unknown": lambda _: {"outcome": "unknown"},
    "interrupted": lambda _: {"interrupted": True},
    "quarantined": lambda _: {"quarantined": True},
    "labelled": lambda _: {"labelled": True},
    "not labelled": lambda _: {"labelled": False},
    "clean": lambda _: {"quality": "clean"},
    "flagged": lambda _: {"quality": "flagged"},
    "pending": lambda _: {"quality": "pending"},
    "policy, clean": lambda d: {"policy": d.policy(), "quality": "clean"},
    "robot, policy": lambda d: {"robot": d.robot(), "policy": d.policy()},
    "robot, failure": lambda d: {"robot": d.robot(), "outcome": "failure"},
    "robot, policy, release": lambda d: d.release() | {"robot": d.robot()},
    "policy, release, unknown": lambda d: d.release() | {"outcome": "unknown"},
    "robot, task": lambda d: {"robot": d.robot(), "task": d.task()},
    "robot, policy, unknown": lambda d: {"robot": d.robot(), "policy": d.policy(), "outcome": "unknown"},
    "policy, unknown": lambda d: {"policy": d.policy(), "outcome": "unknown"},
    "policy, interrupted": lambda d: {"policy": d.policy(), "interrupted": True},
    "robot, policy, failure, interrupted": lambda d: {
        "robot": d.robot(), "policy": d.policy(), "outcome": "failure", "interrupted": True,
    },
    "robot, policy, unknown, labelled": lambda d: {
        "robot": d.robot(), "policy": d.policy(), "outcome": "unknown", "labelled": True,
    },
}  # fmt: skip


def _turns(
    options: Options, port: int, config: Path, postgres: Path, size: str, tell: Callable[[str], None]
) -> tuple[list[Row], list[str]]:
    times = 20 if options.quick else 100
    found: dict[str, list[Sample]] = {}
    cookie = log_in(port, config)
    for number in range(options.rounds):
        tell(f"{size}: the API, turn {number + 1}")
        for name, case in CASES.items():
            draw = Draw(number)
            questions = [case(draw) | {"until": draw.until()} for _ in range(times)]
            found.setdefault(f"{size}, {name}", []).append(_over_http(port, cookie, questions))
        tell(f"{size}: the dashboard, turn {number + 1}")
        for name, sample in asyncio.run(_dashboard(postgres, times, number)).items():
            found.setdefault(f"{size}, dashboard: {name}", []).append(sample)
    told, pages = asyncio.run(_plans(postgres))
    for name, sample in pages.items():
        found[f"{size}, {name}"].append(sample)
    return [Row(name, tuple(rounds)) for name, rounds in found.items()], told


def log_in(port: int, config: Path) -> str:
    """A person's cookie."""
    command(config, "users", "add", "bench")
    link = json.loads(command(config, "login-link", "--user", "bench", "--json"))["url"]
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"code": parse_qs(urlsplit(link).query)["code"][0]})
    connection.request("POST", "/api/v1/login", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    if answer.status >= 300:
        raise BenchError(f"logging in: {answer.status} {answer.read().decode()}")
    cookie = (answer.getheader("Set-Cookie") or "").split(";")[0]
    connection.close()
    return cookie


def _over_http(port: int, cookie: str, questions: list[dict[str, Any]]) -> Sample:
    """One client, one connection, one question after another, each answer read to its end."""
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    waited_s = []
    for question in questions:
        words = {name: _word(value) for name, value in question.items() if value is not None}
        began_s = time.perf_counter()
        connection.request("GET", f"/api/v1/episodes?{urlencode(words)}", headers={"Cookie": cookie})
        answer = connection.getresponse()
        body = answer.read()
        waited_s.append(time.perf_counter() - began_s)
        if answer.status != 200:
            raise BenchError(f"{question}: {answer.status} {body.decode()}")
    connection.close()
    return _sample(waited_s)


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime) else str(value)


def _sample(waited_s: list[float]) -> Sample:
    waited_ms = 1e3 * np.array(waited_s)
    p50, p99 = np.percentile(waited_ms, [50, 99])
    return {"p50": float(p50), "p99": float(p99), "max": float(waited_ms.max())}


async def _dashboard(postgres: Path, times: int, seed: int) -> dict[str, Sample]:
    db, draw = _database(postgres), Draw(seed)
    async with db.session() as session:
        anywhere = [await _somewhere(session, draw) for _ in range(times)]

    async def timed(ask: Callable[[AsyncSession, Episode], Awaitable[object]]) -> Sample:
        waited_s = []
        for episode in anywhere:
            began_s = time.perf_counter()
            async with db.session() as session:
                await ask(session, episode)
            waited_s.append(time.perf_counter() - began_s)
        return _sample(waited_s)

    def around(filters: Filters) -> Callable[[AsyncSession, Episode], Awaitable[object]]:
        return lambda session, episode: queries.neighbours(session, filters, episode)

    day = datetime.now(UTC) - timedelta(days=1)
    try:
        return {
            "older and newer episode of a robot and outcome": await timed(
                around(Filters(robot=draw.robot(), outcome="failure"))
            ),
            "next one that nobody labelled": await timed(around(Filters(labelled=False))),
            "how many match (counted to 1,000, then estimated)": await timed(
                lambda session, _: queries.size(session, Filters(robot=draw.robot(), outcome="unknown"))
            ),
            "robots, policies, releases and tasks of the filters": await timed(
                lambda session, episode: queries.choices(session, episode.policy_repo)
            ),
            "what each robot has stored": await timed(lambda session, _: usage.of_robots(session)),
            "totals of a day": await timed(lambda session, _: queries.day(session, day)),
        }
    finally:
        await db.close()


async def _somewhere(session: AsyncSession, draw: Draw) -> Episode:
    page = await service.list_episodes(session, EpisodeFilter(robot=draw.robot(), until=draw.until()), 1)
    return page.items[0]


async def _plans(postgres: Path) -> tuple[list[str], dict[str, Sample]]:
    """By case: what PostgreSQL does, and the most pages that one of twenty questions touched."""
    db = _database(postgres)
    told, pages = [], {}
    try:
        async with db.session() as session:
            for name, case in CASES.items():
                draw, seen, most = Draw(0), Counter[str](), 0
                for _ in range(20):
                    which = EpisodeFilter(**case(draw) | {"until": draw.until()})
                    plan = await explain.plan(session, _page(which), "ANALYZE, BUFFERS")
                    seen[_words(plan)] += 1
                    most = max(most, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])
                told.append(f"{name}: {'; '.join(f'{plan} ({count} of 20)' for plan, count in seen.most_common(3))}")
                pages[name] = {"pages": float(most)}
    finally:
        await db.close()
    return told, pages


def _page(which: EpisodeFilter) -> Select[Any]:
    return service.matching(which).order_by(Episode.started_at.desc(), Episode.id.desc()).limit(51)


def _words(plan: dict[str, Any]) -> str:
    return ", ".join(dict.fromkeys(_nodes(plan)))


def _nodes(plan: dict[str, Any]) -> Iterator[str]:
    for inner in plan.get("Plans", []):
        yield from _nodes(inner)
    if plan["Node Type"] != "Limit":
        backward = " backward" if plan.get("Scan Direction") == "Backward" else ""
        of = f" {plan['Index Name']}" if "Index Name" in plan else ""
        yield f"{plan['Node Type']}{backward}{of}"


def _database(postgres: Path) -> Database:
    return Database(Settings(state_dir=postgres, postgres_dir=postgres))
