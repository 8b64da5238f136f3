"""The robots' metrics on their way to Prometheus: kept as they come, looked through when they are asked for, found by
discovery.

A scrape of a silent robot fails (503), so that `up == 0` means offline. What Prometheus cannot read is left out and
counted: one bad line would hide the robot's whole snapshot.
"""

import sys
from collections.abc import Set

from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from lefleet_server.db import Database
from lefleet_server.problems import Unavailable
from lefleet_server.robots.models import Robot, RobotStatus
from lefleet_server.robots.schemas import MAX_METRICS_LINE_CHARS
from lefleet_server.robots.service import get_robot
from lefleet_server.threads import in_thread

ROBOT_METRICS_PATH = "/api/v1/metrics/robot"
UNREADABLE = "lefleet_robot_unreadable_lines"
_OWN = ("lefleet_", "python_", "process_")


def is_readable(line: str) -> bool:
    """Whether this is a line of Prometheus' text format, and about a robot."""
    if len(line) > MAX_METRICS_LINE_CHARS:
        return False
    try:
        return all(family.name.startswith(_OWN) for family in text_string_to_metric_families(line))
    except (ValueError, LookupError, AttributeError, TypeError, OverflowError):
        return False


class Lines:
    """Tells lines that can be read, and remembers them: from one scrape to the next little more than numbers change.

    The parser raises for single lines alone, and each sample's name counts by itself, so a text whose lines are all
    readable is one that the parser takes.
    """

    def __init__(self, most_lines: int = 20_000, most_bytes: int = 8 << 20) -> None:
        """`most_bytes`: of memory, for the lines alone."""
        self._most_lines = most_lines
        self._most_bytes = most_bytes
        self._bytes = 0
        self._forget()

    async def readable(self, metrics: str) -> tuple[str, int]:
        """The text without what Prometheus cannot read, and how many lines that were."""
        if self.knows(metrics):
            return metrics, 0
        lines = metrics.split("\n")
        new = {line for line in lines if not self.knows(line)}
        found = await in_thread(lambda: {line for line in new if is_readable(line)})
        comments = {line for line in found if line.startswith("#")}
        # One whose number is not after a space is read anew each time.
        samples = {sample for line in found - comments if (sample := line.rpartition(" ")[0])}
        if not self._remember(comments, samples):
            self._forget()
            self._remember(comments, samples)
        readable = [line for line in lines if line in found or line not in new]
        return "\n".join(readable), len(lines) - len(readable)

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


async def render(db: Database, lines: Lines, robot_id: str, offline_after_s: float, now_wall_s: float) -> str:
    """The robot's last metrics and the age of its heartbeat; Unavailable once that is three intervals."""
    async with db.session() as session:
        view = await get_robot(session, robot_id, offline_after_s)
        if view.status is None or not view.online:
            since = view.status.received_at.isoformat() if view.status else "its enrolment"
            raise Unavailable(f"robot {robot_id} is silent since {since}")
        metrics = (await session.scalars(select(RobotStatus.metrics).where(RobotStatus.robot_id == robot_id))).one()
    # Long lines take long to read, and keep no connection from others meanwhile.
    readable, left_out = await lines.readable(metrics)
    age_s = max(0.0, now_wall_s - view.status.received_at.timestamp())
    return (
        "# HELP lefleet_robot_heartbeat_age_seconds Seconds since the server heard from the robot.\n"
        "# TYPE lefleet_robot_heartbeat_age_seconds gauge\n"
        f"lefleet_robot_heartbeat_age_seconds {age_s:.3f}\n"
        f"# HELP {UNREADABLE} Lines of the robot's metrics that are left out: they are none.\n"
        f"# TYPE {UNREADABLE} gauge\n"
        f"{UNREADABLE} {left_out}\n{readable}"
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
