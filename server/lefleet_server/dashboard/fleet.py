"""The fleet: every robot at a glance, kept up to date while it is looked at.

The browser draws (static/fleet): it filters, orders and builds only what is in sight. This side sends what changed.
"""

from collections.abc import Mapping
from datetime import UTC, datetime

from nicegui import ui
from nicegui.events import GenericEventArguments
from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.dashboard.alerts_line import AlertsLine
from lefleet_server.dashboard.credential_panel import NewRobot
from lefleet_server.dashboard.dialogs import button
from lefleet_server.dashboard.fleet_feed import EVERY_S, FleetFeed, Snapshot
from lefleet_server.dashboard.fleet_orders import FleetOrders, What
from lefleet_server.dashboard.frame import frame, head
from lefleet_server.dashboard.fresh import Fresh
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.parts import Chip, Text, box, empty, icon
from lefleet_server.dashboard.queries import Day
from lefleet_server.dashboard.saved_views import SavedViews
from lefleet_server.dashboard.sections import page_for
from lefleet_server.dashboard.stop import StopAll, Stopper
from lefleet_server.dashboard.verdict import Judge
from lefleet_server.robots import Word
from lefleet_server.services import Services
from lefleet_server.units import DASH, percent
from lefleet_server.views import service as views
from lefleet_server.views.models import SavedView

PAGE = "fleet"


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
        self._online.show(str(fleet.online))
        self._of.show(f" / {len(fleet.robots)}")
        self._online_hint.show(f"{fleet.running} running a policy")
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

    def __init__(
        self,
        fresh: Fresh,
        feed: FleetFeed,
        services: Services,
        request: Request,
        fleet: Snapshot,
        kept: list[SavedView],
    ) -> None:
        self._fresh = fresh
        self._feed = feed
        self._stopper = Stopper(services, request, user_on(request), self._changed)
        self._judge = Judge(services, request, user_on(request), self._changed)
        self._since: datetime | None = None
        self._version = fleet.version
        new = NewRobot(services, request) if Role(user_on(request).role).covers(Role.ADMIN) else None
        with head("Fleet", "Every robot, as it is now"):
            Chip("Live", "live", "lf-live")
            if new is not None:
                with button("", new.open):
                    icon("add")
                    Text("Add a robot", tag="span")
            self._stop_all = StopAll(self._stopper)
        self._totals = Totals()
        self._alerts = AlertsLine()
        self._robots = box(tag="lf-fleet", fleet=fleet.whole)
        if self._stopper.allowed:
            self._robots.props["may-stop"] = True
            self._orders = FleetOrders(services, request, self._changed)
            self._robots.on("order", self._order, ["detail"])
        self._robots.on("stop", self._stop, ["detail"])
        self._robots.on("release", self._release, ["detail"])
        self._robots.on("verdict", self._verdict, ["detail"])
        self._nothing = self._build_empty(may_add=new is not None)
        SavedViews(services, request, PAGE, self._robots, kept)
        box(tag="lf-day").on("day", self._day_began, ["detail"])
        self._show(fleet)

    def _build_empty(self, may_add: bool) -> ui.element:
        text = "Press Add a robot: it makes a one-time code, and says what to type on the robot."
        with box("lf-card") as card:
            empty("arm", "No robot has enrolled yet", text if may_add else "Ask an administrator to add one.")
        return card

    async def refresh(self) -> None:
        fleet = await self._feed.fleet()
        if fleet.version != self._version:
            changes = self._feed.since(self._version)
            sent = f'"apply", [[{",".join(changes)}]]' if changes is not None else f'"load", [{fleet.whole}]'
            self._robots.client.run_javascript(f"runMethod({self._robots.id}, {sent})")
            self._version = fleet.version
        self._show(fleet)
        if self._since is not None:
            self._totals.show_day(await self._feed.day(self._since))

    def _show(self, fleet: Snapshot) -> None:
        self._nothing.set_visibility(not fleet.robots)
        self._robots.set_visibility(bool(fleet.robots))
        self._stop_all.show(fleet.stops)
        self._totals.show_fleet(fleet)
        self._alerts.show(fleet.firing)

    async def _changed(self) -> None:
        self._feed.changed()
        await self._fresh.now(self.refresh)

    async def _stop(self, event: GenericEventArguments) -> None:
        """Of one robot at once; of a selection, which may be out of sight, after a question that names them."""
        robots: list[str] = event.args["detail"]
        if len(robots) == 1:
            await self._stopper.stop(robots[0])
        else:
            await self._stopper.stop_many(robots)

    async def _release(self, event: GenericEventArguments) -> None:
        seen: Mapping[str, int] = event.args["detail"]
        await self._stopper.release(seen)

    async def _order(self, event: GenericEventArguments) -> None:
        what, robot_ids = event.args["detail"]
        await self._orders.ask(What(what), robot_ids)

    async def _verdict(self, event: GenericEventArguments) -> None:
        robot_id, episode_id, word = event.args["detail"]
        await self._judge.say(robot_id, episode_id, Word(word))

    async def _day_began(self, event: GenericEventArguments) -> None:
        """The viewer's midnight, told by the browser: the server does not know the zone."""
        self._since = datetime.fromtimestamp(event.args["detail"] / 1000, UTC)
        await self._fresh.now(self.refresh)


def register(services: Services, feed: FleetFeed) -> None:
    @page_for("/", "Fleet", Role.VIEWER)
    async def page(request: Request) -> None:
        fleet = await feed.fleet()
        async with services.db.session() as session:
            kept = list(await views.list_views(session, user_on(request).id, PAGE))
        with frame(request, "Fleet", "fleet/fleet.js") as fresh:
            shown = Fleet(fresh, feed, services, request, fleet, kept)
            fresh.every(EVERY_S, shown.refresh)
