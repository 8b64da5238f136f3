"""One robot: how it is this second, what it did, and what people know about it."""

from starlette.requests import Request

from lefleet_server.accounts.models import Role
from lefleet_server.dashboard import credential_panel, robot_queries
from lefleet_server.dashboard.credential_panel import CredentialPanel
from lefleet_server.dashboard.errors import nothing_here
from lefleet_server.dashboard.fleet_feed import EVERY_S, FleetFeed
from lefleet_server.dashboard.frame import frame, is_dark
from lefleet_server.dashboard.fresh import Fresh
from lefleet_server.dashboard.guard import user_on
from lefleet_server.dashboard.hold_panel import HoldPanel, of_robot
from lefleet_server.dashboard.orders_panel import OrdersPanel
from lefleet_server.dashboard.parts import box
from lefleet_server.dashboard.robot_history import Calibrations, Episodes, Events, Notes
from lefleet_server.dashboard.robot_live import Cameras, Joints, Motors, Numbers, RobotHead
from lefleet_server.dashboard.robot_queries import History
from lefleet_server.dashboard.sections import page_for
from lefleet_server.dashboard.stop import Stopper
from lefleet_server.dashboard.verdict import Judge, VerdictRow
from lefleet_server.robots.state import RobotState
from lefleet_server.robots.watches import KEEP_S
from lefleet_server.services import Services
from lefleet_server.shared import Shared

_HISTORY_EVERY_S = 5.0


class RobotPage:
    """One viewer's page of one robot."""

    def __init__(
        self,
        fresh: Fresh,
        feed: FleetFeed,
        past: Shared[str, History],
        services: Services,
        request: Request,
        robot: RobotState,
        history: History,
    ) -> None:
        self._fresh = fresh
        self._feed = feed
        self._past = past
        self._services = services
        self._id = robot.id
        head = RobotHead(robot, Stopper(services, request, user_on(request), self._changed))
        judge = Judge(services, request, user_on(request), self._changed)
        with box("lf-robot-page"):
            with box("lf-robot-main"):
                verdict = VerdictRow(judge, robot.id)
                cameras, joints, motors = Cameras(robot.id), Joints(dark=is_dark(request)), Motors()
                self._episodes, self._events = Episodes(robot.id), Events()
            with box("lf-side"):
                numbers = Numbers()
                orders = OrdersPanel(services, request, robot.id, self._changed)
                self._hold = HoldPanel(services, request, of_robot(robot.id), lambda _: past.forget())
                self._notes = Notes(services, request, robot.id)
                self._calibrations = Calibrations()
                self.credential: CredentialPanel | None = None
                if Role(user_on(request).role).covers(Role.ADMIN):
                    self.credential = CredentialPanel(services, request, robot.id, self._changed)
        self._live = (head, cameras, joints, motors, numbers, orders)
        self._verdict, self._joints = verdict, joints
        self._show(robot)
        self._show_history(history)

    async def refresh(self) -> None:
        robot = (await self._feed.fleet()).robots.get(self._id)
        if robot is not None:
            self._show(robot)

    async def refresh_history(self) -> None:
        self._show_history(await self._past.get(self._id))

    async def watch(self) -> None:
        """While the page is open the robot is asked to tell every second."""
        await self._services.watches.watch(self._id)

    def _show(self, robot: RobotState) -> None:
        for each in self._live:
            each.show(robot)
        self._verdict.show(robot.episode_id, robot.verdict)

    def _show_history(self, history: History) -> None:
        self._joints.show_type(history.robot_type)
        self._episodes.show(history.episodes, history.rate)
        self._events.show(history.events)
        self._calibrations.show(history.calibrations)
        self._notes.show(history.notes)
        self._hold.show(history.holds)

    async def _changed(self) -> None:
        self._feed.changed()
        await self._fresh.now(self.refresh)


def register(services: Services, feed: FleetFeed) -> None:
    async def load(robot_id: str) -> History:
        async with services.db.session() as session:
            return await robot_queries.history(session, robot_id)

    past: Shared[str, History] = Shared(load, 0.8 * _HISTORY_EVERY_S)

    @page_for("/robots/{robot_id}", "Robot", Role.VIEWER)
    async def page(request: Request, robot_id: str) -> None:
        robot = (await feed.fleet()).robots.get(robot_id)
        if robot is None:
            with frame(request, "Fleet"):
                nothing_here("There is no such robot", f"No robot is called {robot_id}. The fleet page lists them all.")
            return
        history = await load(robot_id)  # not a shared one: whoever just wrote a note is to see it
        with frame(request, "Fleet") as fresh:
            shown = RobotPage(fresh, feed, past, services, request, robot, history)
            fresh.every(EVERY_S, shown.refresh)
            fresh.every(_HISTORY_EVERY_S, shown.refresh_history)
            fresh.every(KEEP_S / 3, shown.watch, immediate=True)
            if shown.credential is not None:
                await shown.credential.refresh()
                fresh.every(credential_panel.EVERY_S, shown.credential.refresh)
