"""The robots' metrics on their way to Prometheus: checked when they come, served per robot, found by discovery.

A scrape of a silent robot fails (503), so that `up == 0` means offline.
"""

import sys
from collections.abc import Set

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.problems import Invalid, Unavailable
from lefleet_server.robots.models import Robot, RobotStatus
from lefleet_server.robots.schemas import MAX_METRICS_LINE_CHARS
from lefleet_server.robots.service import get_robot
from lefleet_server.threads import in_thread

ROBOT_METRICS_PATH = "/api/v1/metrics/robot"


def check(metrics: str) -> None:
    """Raises Invalid unless this is Prometheus' text format: one bad line would hide the robot's whole snapshot."""
    for number, line in enumerate(metrics.split("\n"), 1):
        if len(line) > MAX_METRICS_LINE_CHARS:
            told = f"line {number} has {len(line)} characters; shorten it to {MAX_METRICS_LINE_CHARS}"
            raise Invalid(f"metrics: {told}", fields=[("metrics", told)])
    try:
        names = {family.name for family in text_string_to_metric_families(metrics)}
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError) as error:
        raise Invalid("metrics: not in Prometheus' text format", fields=[("metrics", str(error)[:200])]) from error
    foreign = sorted(name for name in names if not name.startswith(("lefleet_", "python_", "process_")))
    if foreign:
        raise Invalid("metrics: not this robot's own", fields=[("metrics", f"{foreign[0]}: begin with lefleet_")])


class Checked:
    """The same check, which remembers lines: from one heartbeat to the next little more than the numbers change.

    The parser raises for single lines alone, and each sample's name counts by itself, so a text whose lines are all
    known, but for the numbers at their ends, is one that the parser takes.
    """

    def __init__(self, most_lines: int = 20_000, most_bytes: int = 8 << 20) -> None:
        """`most_bytes`: of memory, for the lines alone."""
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self._bytes = 0
        self._forget()

    async def check(self, metrics: str) -> None:
        """Raises Invalid as the function does."""
        if self.knows(metrics):
            return
        await in_thread(check, metrics)
        lines = metrics.split("\n")
        comments = {line for line in lines if line.startswith("#")}
        samples = {line.rpartition(" ")[0] for line in lines if line and not line.startswith("#")}
        if not self._remember(comments, samples):
            self._forget()
            self._remember(comments, samples)

    def _remember(self, comments: Set[str], samples: Set[str]) -> bool:
        """False where there is no room for them."""
        comments, samples = comments - self._comments, samples - self._samples
        bytes_ = self._bytes + sum(map(sys.getsizeof, [*comments, *samples]))
        if len(self._comments) + len(self._samples) + len(comments) + len(samples) > self._most_lines:
            return False
        if bytes_ > self._most_bytes:
            return False
        self._comments |= comments
        self._samples |= samples
        self._bytes = bytes_
        return True

    def _forget(self) -> None:
        self._comments: set[str] = {""}
        self._samples: set[str] = set()
        """Names and labels."""
        self._bytes = 0

    def knows(self, metrics: str) -> bool:
        """Whether every line was taken before, but for the number at its end."""
        comments, samples = self._comments, self._samples
        numbers: set[str] = set()
        for line in metrics.split("\n"):
            if line not in comments:
                sample, _, number = line.rpartition(" ")
                if sample not in samples:
                    return False
                numbers.add(number)
        try:
            list(map(float, numbers))
        except ValueError:
            return False
        # float() takes more than the format has: other scripts' digits, underscores, spaces around.
        return not "".join(numbers).translate(_NUMBERS)


_NUMBERS = str.maketrans("", "", "0123456789.eE+-NaInf")
"""Takes away what numbers are made of."""


async def render(session: AsyncSession, robot_id: str, offline_after_s: float, now_wall_s: float) -> str:
    """The robot's last metrics and the age of its heartbeat; Unavailable once that is three intervals."""
    view = await get_robot(session, robot_id, offline_after_s)
    if view.status is None or not view.online:
        since = view.status.received_at.isoformat() if view.status else "its enrolment"
        raise Unavailable(f"robot {robot_id} is silent since {since}")
    metrics = (await session.scalars(select(RobotStatus.metrics).where(RobotStatus.robot_id == robot_id))).one()
    age_s = max(0.0, now_wall_s - view.status.received_at.timestamp())
    return (
        "# HELP lefleet_robot_heartbeat_age_seconds Seconds since the server heard from the robot.\n"
        "# TYPE lefleet_robot_heartbeat_age_seconds gauge\n"
        f"lefleet_robot_heartbeat_age_seconds {age_s:.3f}\n{metrics}"
    )


async def targets(session: AsyncSession, server: str, scheme: str) -> list[dict[str, object]]:
    """Prometheus' HTTP service discovery: this server once per robot, with the robot as parameter and label.

    Retired robots are left out, or each would be an alert for ever.
    """
    query = select(Robot.id, Robot.site).where(Robot.token_hash.is_not(None)).order_by(Robot.id)
    rows = (await session.execute(query)).all()
    return [
        {
            "targets": [server],
            "labels": {
                "__scheme__": scheme,
                "__metrics_path__": ROBOT_METRICS_PATH,
                "__param_robot": robot_id,
                "instance": robot_id,
                "robot_id": robot_id,
                "site": site,
            },
        }
        for robot_id, site in rows
    ]
