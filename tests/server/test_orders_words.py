"""What the robot's page says about what was ordered of the robot."""

from datetime import UTC, datetime, timedelta

import pytest

from lefleet_server.dashboard import orders_words as words
from lefleet_server.dashboard.orders_words import Said
from lefleet_server.robots.reboots import RebootState
from lefleet_server.robots.state import RobotState
from lefleet_server.robots.stops import Stop, StopState
from lefleet_server.robots.wish_schemas import RebootOut, RestOut, TaskOut

AT = datetime(2026, 11, 26, tzinfo=UTC)
ORDERS = {"rest": 1, "task": 1, "rests": True}
WORKS = {"state": "running", "task": "stack", "orders": ORDERS}
RESTS = WORKS | {"state": "drained"}


def robot(said=WORKS, online=True, rest=None, task=None, reboot=None) -> RobotState:
    return RobotState(
        id="robot-1", site="", state=said.get("state", "offline") if online else "offline", online=online, seen_at=AT,
        cameras=(), stop=Stop(StopState.FREE), said=said, rest=rest, task_order=task, reboot=reboot,
    )  # fmt: skip


def rest(wanted: bool, heard: bool, reason: str = "") -> RestOut:
    return RestOut(wanted=wanted, heard=heard, reason=reason, said_by="user:ada", said_at=AT)


def task(text: str | None, heard: bool) -> TaskOut:
    return TaskOut(text=text, heard=heard, said_by="user:ada", said_at=AT)


@pytest.mark.parametrize(
    ("state", "chip", "line"),
    [
        (robot(), "", None),
        (robot(rest=rest(True, False)), "Will rest", Said("", "By ada, ", AT, " · not heard yet")),
        (robot(rest=rest(True, True, "why")), "Will rest", Said("why", "By ada, ", AT, " · after this episode")),
        (robot(RESTS, rest=rest(True, True)), "Resting", Said("", "By ada, ", AT)),
        (robot(RESTS, online=False, rest=rest(True, True)), "Resting", Said("", "By ada, ", AT)),
        (robot(RESTS, rest=rest(True, False)), "Will rest", Said("", "By ada, ", AT, " · not heard yet")),
        (robot(RESTS, rest=rest(False, False)), "Will go on", Said("", "Ended by ada, ", AT, " · not heard yet")),
        (robot(RESTS, rest=rest(False, True)), "Resting", Said("Asked for at the robot, to be ended there.")),
        (robot(RESTS), "Resting", Said("Asked for at the robot, to be ended there.")),
        (robot(rest=rest(False, False)), "", None),
        (robot(rest=rest(False, True)), "", None),
        (robot({}, online=False, rest=rest(True, False)), "Will rest", Said("", "By ada, ", AT, " · not heard yet")),
    ],
)  # fmt: skip
def test_how_far_a_robot_has_got_with_its_rest_is_said(state, chip, line):
    assert (words.chip(state)[0], words.rest(state)) == (chip, line)


@pytest.mark.parametrize(
    ("state", "now", "following"),
    [
        (robot(), Said("stack"), None),
        (robot({}), Said("It told none."), None),
        (robot(task=task("sort", False)), Said("stack"), Said("sort", "By ada, ", AT, " · not heard yet")),
        (robot(task=task("sort", True)), Said("stack"), Said("sort", "By ada, ", AT, " · from its next episode on")),
        (robot(task=task("stack", True)), Said("stack", "By ada, ", AT), None),
        (
            robot(task=task(None, False)),
            Said("stack"),
            Said("What its settings say", "By ada, ", AT, " · not heard yet"),
        ),
        (robot(task=task(None, True)), Said("stack"), None),
    ],
)
def test_the_task_and_the_next_one_are_said(state, now, following):
    assert (words.task(state), words.next_task(state)) == (now, following)


@pytest.mark.parametrize(
    ("state", "begins"),
    [
        (robot(), ""),
        (robot({}, online=False), "It was never heard of"),
        (robot(online=False), "It is offline"),
        (robot(WORKS | {"orders": None}), "Its agent tells nothing of orders"),
    ],
)
def test_what_keeps_a_robot_from_obeying_is_said(state, begins):
    said = words.hindrance(state)
    assert said.startswith(begins) and bool(said) is bool(begins)


@pytest.mark.parametrize(
    ("state", "earlier", "line"),
    [
        (RebootState.ASKED, timedelta(0), Said("why", "By ada, ", AT, " · not heard yet")),
        (RebootState.HEARD, timedelta(0), Said("why", "By ada, ", AT, " · after this episode")),
        (RebootState.VOID, timedelta(0), Said("why", "By ada, ", AT, " · not heard in time: it is void")),
        (RebootState.DONE, timedelta(0), None),
        (
            RebootState.HEARD,
            timedelta(minutes=11),
            Said(
                "why",
                "By ada, ",
                AT - timedelta(minutes=11),
                " · heard, and nothing happened: `journalctl -u lefleet-reboot` there says why",
            ),
        ),
    ],
)
def test_how_far_a_reboot_has_got_is_said(state, earlier, line):
    heard = state in {RebootState.HEARD, RebootState.DONE}
    order = RebootOut(state=state, heard=heard, reason="why", said_by="user:ada", said_at=AT - earlier)
    assert words.reboot(robot(reboot=order)) == line
