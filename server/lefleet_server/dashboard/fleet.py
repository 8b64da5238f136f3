"""The fleet: every robot at a glance, kept up to date while it is looked at."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from nicegui import ui
from nicegui.events import GenericEventArguments
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.dashboard import queries
from lefleet_server.dashboard.frame import frame, head
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.parts import Chip, Text, box, empty
from lefleet_server.dashboard.queries import Day
from lefleet_server.dashboard.robot_card import RobotCard, RobotState, read
from lefleet_server.dashboard.sections import page_for
from lefleet_server.dashboard.stop import StopAll, Stopper
from lefleet_server.dashboard.units import DASH, percent
from lefleet_server.dashboard.verdict import Judge
from lefleet_server.robots import service as robots
from lefleet_server.services import Services
from lefleet_server.shared import Shared

_EVERY_S = 1.0
_ENROL = """\
# on the server: prints a one-time code
lefleet-server enrol-code robot-1 --config FILE
# on the robot
lefleet-agent enrol --code CODE --config FILE"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    robots: Sequence[RobotState]

    @property
    def online(self) -> int:
        return sum(robot.online for robot in self.robots)

    @property
    def waiting(self) -> int:
        return sum(robot.waiting or 0 for robot in self.robots)


class Source:
    """Reads the fleet for all viewers at once."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._fleet: Shared[None, Snapshot] = Shared(self._load_fleet, 0.8 * _EVERY_S)
        self._day: Shared[datetime, Day] = Shared(self._load_day, 2.0)

    async def fleet(self) -> Snapshot:
        return await self._fleet.get(None)

    def changed(self) -> None:
        """What a viewer just did is to be seen at once."""
        self._fleet.forget()

    async def day(self, since: datetime) -> Day:
        return await self._day.get(since)

    async def _load_fleet(self, _: None) -> Snapshot:
        async with self._services.db.session() as session:
            views = await robots.list_robots(session, self._services.settings.offline_after_s)
        return Snapshot([read(view) for view in views])

    async def _load_day(self, since: datetime) -> Day:
        async with self._services.db.session() as session:
            return await queries.day(session, since)


class Totals:
    """The line of four numbers over the robots."""

    def __init__(self) -> None:
        with box("lf-card lf-stats"):
            self._online, self._of, self._online_hint = self._stat("Robots online")
            self._episodes, _, self._episodes_hint = self._stat("Episodes today")
            self._rate, self._rate_unit, self._rate_hint = self._stat("Success rate today")
            self._waiting, _, self._waiting_hint = self._stat("Waiting to upload")

    def _stat(self, name: str) -> tuple[Text, Text, Text]:
        with box("lf-stat"):
            Text(name, "lf-stat-name")
            with box("lf-stat-value"):
                value = Text(DASH, tag="span")
                unit = Text("", tag="small")
            return value, unit, Text("", "lf-stat-hint")

    def show_fleet(self, fleet: Snapshot) -> None:
        running = sum(robot.state == "running" for robot in fleet.robots)
        self._online.show(str(fleet.online))
        self._of.show(f" / {len(fleet.robots)}")
        self._online_hint.show(f"{running} running a policy")
        self._waiting.show(str(fleet.waiting))
        self._waiting_hint.show("episodes still on robots" if fleet.waiting else "everything is here")

    def show_day(self, day: Day) -> None:
        judged = day.successes + day.failures
        self._episodes.show(str(day.episodes))
        self._episodes_hint.show("since midnight")
        self._rate.show(percent(day.successes, judged))
        self._rate_unit.show(" %" if judged else "")
        self._rate_hint.show(f"{day.successes} of {judged} judged" if judged else "none judged yet")


class Fleet:
    """One viewer's fleet page."""

    def __init__(self, source: Source, services: Services, request: Request) -> None:
        self._source = source
        self._stopper = Stopper(services, request, user_on(request), self._changed)
        self._judge = Judge(services, request, user_on(request), self._changed)
        self._since: datetime | None = None
        self._cards: dict[str, RobotCard] = {}
        with head("Fleet", "Every robot, as it is now"):
            self._live = Chip("Live", "live")
            self._stop_all = StopAll(self._stopper)
        self._totals = Totals()
        self._grid = box("lf-robots")
        self._nothing = self._build_empty(round(services.settings.enrol_code_ttl_s / 60))
        box(tag="lf-day").on("day", self._day_began, ["detail"])

    def _build_empty(self, minutes: int) -> ui.element:
        text = f"Make a one-time code on the server and give it to the robot within {minutes} minutes."
        with box("lf-card") as card, empty("arm", "No robot has enrolled yet", text):
            Text(_ENROL, "lf-code", tag="code")
        return card

    async def refresh(self) -> None:
        fleet = await self._source.fleet()
        if {robot.id for robot in fleet.robots} != set(self._cards):
            self._rebuild(fleet.robots)
        for robot in fleet.robots:
            self._cards[robot.id].show(robot)
        self._stop_all.show({robot.id: robot.stop for robot in fleet.robots if robot.state != "retired"})
        self._totals.show_fleet(fleet)
        if self._since is not None:
            self._totals.show_day(await self._source.day(self._since))

    def _rebuild(self, states: Sequence[RobotState]) -> None:
        self._grid.clear()
        self._nothing.set_visibility(not states)
        self._grid.set_visibility(bool(states))
        with self._grid:
            self._cards = {robot.id: RobotCard(robot, self._stopper, self._judge) for robot in states}

    async def _changed(self) -> None:
        self._source.changed()
        await self.refresh()

    async def _day_began(self, event: GenericEventArguments) -> None:
        """The viewer's midnight, told by the browser: the server does not know the zone."""
        self._since = datetime.fromtimestamp(event.args["detail"] / 1000, UTC)
        await self.refresh()


def register(services: Services) -> None:
    source = Source(services)

    @page_for("/", "Fleet", Role.VIEWER)
    async def page(request: Request) -> None:
        with frame(request, "Fleet"):
            fleet = Fleet(source, services, request)
            await fleet.refresh()
            ui.timer(_EVERY_S, fleet.refresh, immediate=False)
