"""`lefleet views`, and the filters and orders of robots: as the dashboard's fleet page has them."""

from urllib.parse import parse_qsl

import pytest

from lefleet_server.accounts.models import Role
from lefleet_server.cli.fleet import ORDERS, Criteria, chosen


def told(robot_id: str, *, health: str = "good", repo: str = "", commit: str = "", online=True, **said) -> dict:
    """A robot as the API tells it."""
    site, line = said.pop("site", ""), said.pop("line", "No task")
    policy = {"repo": repo, "commit": commit, "digest": "", "type": "act"} if repo else None
    return {
        "id": robot_id, "site": site, "state": "running" if online else "offline", "online": online, "health": health,
        "issues": [], "line": line, "last_seen_at": said.pop("seen", None), "arm": {"motors": said.pop("motors", {})},
        "heartbeat": said | {"policy": policy},
    }  # fmt: skip


def motors(*celsius: float | None) -> dict:
    return {str(number): {"temperature_celsius": each} for number, each in enumerate(celsius)}


LATE = {"hz": 29, "lateness_ms_p99": 12}
FLEET = [
    told("robot-10", repo="lab/act-cube", commit="c0ffee1234", site="north", loop={"hz": 30, "lateness_ms_p99": 2}),
    told("robot-9", health="bad", line="Sort the bolts", disk={"free_bytes": 10, "total_bytes": 100}),
    told("robot-2", repo="lab/act-cube", commit="beef", motors=motors(40, None), loop=LATE),
    told("robot-1", health="off", online=False, loop={"hz": 31, "lateness_ms_p99": 1}, motors=motors(None)),
    told("robot-3", health="warn", seen="2026-11-01T12:00:00Z", spool={"bytes": 5, "budget_bytes": 10}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [1, 2, 3, 9, 10]),
        ("health=bad", [9]),
        ("policy=lab%2Fact-cube", [2, 10]),
        ("release=act-cube%40c0ffee1", [10]),
        ("site=north&health=bad", []),
        ("q=BOLTS+robot", [9]),
        ("q=no+policy", [1, 3, 9]),
        ("sort=-name", [10, 9, 3, 2, 1]),
        ("sort=health", [9, 3, 2, 10, 1]),
        ("sort=-late", [2, 10, 1, 3, 9]),
        ("sort=hz", [2, 10, 1, 3, 9]),
        ("sort=celsius", [2, 1, 3, 9, 10]),
        ("sort=disk", [9, 1, 2, 3, 10]),
        ("sort=spool", [3, 1, 2, 9, 10]),
        ("sort=-seen", [3, 1, 2, 9, 10]),
        ("sort=state", [1, 2, 3, 9, 10]),
        ("sort=-policy", [1, 3, 9, 10, 2]),
        ("sort=colour&view=table&later=1", [1, 2, 3, 9, 10]),
    ],
)
def test_a_view_chooses_and_orders_as_the_fleet_page_does(query, expected):
    assert [each["id"] for each in chosen(FLEET, Criteria.parse(query))] == [f"robot-{number}" for number in expected]


def test_every_order_takes_a_robot_that_never_said_anything():
    silent = told("robot-1", online=False) | {"heartbeat": None}
    for order in ORDERS:
        assert chosen([silent], Criteria(sort=order)) == [silent]


def test_a_view_is_written_as_a_browser_writes_it():
    criteria = Criteria(q="a b~*", policy="lab/act", sort="-late")
    assert criteria.query == "q=a+b%7E*&policy=lab%2Fact&sort=-late"
    assert Criteria.parse(criteria.query) == criteria and Criteria().query == ""


async def test_views_are_kept_used_and_deleted_and_are_ones_own(robot, enrol, with_token):
    other = await enrol("robot-2", site="north")
    await robot.heartbeat()
    await other.heartbeat()
    ada, vic = await with_token(Role.VIEWER), await with_token(Role.VIEWER)
    empty = await ada("views", "save", "All")
    assert empty.status == 2 and "--health" in empty.err
    made = (await ada.ok("views", "save", "Up  north", "--site", "north", "--sort", "-late", "--json")).item
    assert (made["name"], dict(parse_qsl(made["query"]))) == ("Up north", {"site": "north", "sort": "-late"})
    assert "Up north" in (await ada.ok("views", "list")).out
    shown = await ada.ok("robots", "list", "--view", "Up north", "--json")
    assert [item["id"] for item in shown.items] == ["robot-2"]
    narrower = await ada.ok("robots", "list", "--view", "Up north", "--health", "bad", "--json")
    assert narrower.items == []
    assert (await vic.ok("views", "list", "--json")).items == []
    for words in (("robots", "list", "--view", "Up north"), ("views", "delete", "Up north", "--yes")):
        refused = await vic(*words)
        assert refused.status == 1 and "'Up north'" in refused.err and "lefleet views list" in refused.err
    assert (await ada("views", "delete", "Up north")).status == 2, "it asks"
    assert (await ada.ok("views", "delete", "Up north", "--yes", "--json")).item["deleted"] is True
    assert (await ada.ok("views", "list", "--json")).items == []
    await other.http.aclose()
