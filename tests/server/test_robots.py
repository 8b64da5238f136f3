"""Enrolment, heartbeats, pictures, and what people and Prometheus see of a robot."""

import asyncio
import re
import time
from collections import Counter
from datetime import timedelta

import httpx
import pytest
from sqlalchemy import event, func, insert, select, update

from lefleet_server.accounts.models import AuditEntry
from lefleet_server.db import utc_now
from lefleet_server.episodes import ingest
from lefleet_server.episodes.models import Episode, Upload
from lefleet_server.robots import MOST_CAMERAS, service
from lefleet_server.robots.models import Robot, RobotCamera, RobotStatus

ENROL = "/api/v1/robots/enrol"
JPEG = b"\xff\xd8\xff" + b"picture" + b"\xff\xd9"
HEARTBEAT = {
    "state": "running",
    "detail": "",
    "policy": {"repo": "lefleet/act", "commit": "c0ffee", "digest": "d0", "type": "act"},
    "loop": {
        "hz": 29.99,
        "lateness_ms_p50": 0.2,
        "lateness_ms_p99": 3.1,
        "lateness_ms_max": 7.0,
        "ticks": 900,
        "late": 1,
    },
    "spool": {"episodes": 2, "bytes": 40_000_000, "budget_bytes": 10**10},
    "disk": {"free_bytes": 10**11, "total_bytes": 10**12},
    "episode_id": "e" * 32,
    "task": "lift the block",
    "agent_version": "0.1.0",
    "cameras": ["front", "wrist"],
    "metrics": "# TYPE lefleet_spool_bytes gauge\nlefleet_spool_bytes 4e+07\n",
    "wall_ns": 1_780_000_000 * 10**9,
}


@pytest.fixture
def code(services):
    async def make(robot_id: str = "robot-9", ttl_s: int = 60) -> str:
        async with services.db.transaction() as session:
            return await service.create_enrolment_code(session, robot_id, "lab", ttl_s, "test")

    return make


def request(code: str, robot_id: str = "robot-9") -> dict[str, str]:
    return {"code": code, "robot_id": robot_id, "agent_version": "0.1.0", "hw": "Orin Nano"}


async def silence(services, robot_id: str) -> None:
    """Makes the robot's last heartbeat three intervals old."""
    past = utc_now() - timedelta(seconds=services.settings.offline_after_s)
    async with services.db.transaction() as session:
        await session.execute(update(RobotStatus).where(RobotStatus.robot_id == robot_id).values(received_at=past))


async def test_a_code_becomes_a_credential_once(anonymous, connect, code, services):
    secret = await code()
    answer = await anonymous.post(ENROL, json=request(secret))
    assert answer.status_code == 201
    token = answer.json()["token"]
    assert token.startswith("lfr_")
    async with connect(headers={"Authorization": f"Bearer {token}"}) as robot:
        assert (await robot.post("/api/v1/robot/heartbeat", json=HEARTBEAT)).status_code == 200
    assert (await anonymous.post(ENROL, json=request(secret))).status_code == 403
    async with services.db.session() as session:
        robot = await session.get(Robot, "robot-9")
        actions = (await session.scalars(select(AuditEntry.action))).all()
    assert (robot.site, robot.hw) == ("lab", "Orin Nano")
    assert token.encode() not in robot.token_hash
    assert actions.count("robot.enrolled") == 1


async def test_a_code_used_many_times_at_once_enrols_once(anonymous, code):
    secret = await code()
    answers = await asyncio.gather(*(anonymous.post(ENROL, json=request(secret)) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [403] * 7


async def test_a_code_of_another_robot_expired_or_invented_does_not_enrol(anonymous, code):
    for body in (
        request(await code("robot-8")),
        request(await code(ttl_s=-1)),
        request("aaaaaa-bbbbbb"),
    ):
        answer = await anonymous.post(ENROL, json=body)
        assert answer.status_code == 403
        assert answer.json()["errors"][0]["field"] == "code"


async def test_enrolling_again_rotates_the_credential(enrol):
    old = await enrol("robot-9")
    new = await enrol("robot-9")
    assert (await old.heartbeat()).status_code == 401
    assert (await new.heartbeat()).status_code == 200
    await old.http.aclose()
    await new.http.aclose()


@pytest.mark.parametrize("robot_id", ["", "Robot", "-r", "r" * 64, "a/b", "ä", "a\x00", "a\n"])
async def test_a_robot_id_outside_the_grammar_is_named(anonymous, robot_id):
    answer = await anonymous.post(ENROL, json=request("code", robot_id))
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["robot_id"]


async def test_a_heartbeat_is_what_people_see(robot, operator):
    before = (await operator.get("/api/v1/robots/robot-1")).json()
    assert (before["state"], before["online"], before["heartbeat"]) == ("offline", False, None)
    answer = await robot.http.post("/api/v1/robot/heartbeat", json=HEARTBEAT)
    assert answer.json()["interval_s"] == 5
    again = await robot.http.post("/api/v1/robot/heartbeat", json=HEARTBEAT)
    assert answer.json()["instance"] == again.json()["instance"] != "", "the same as long as the server runs"
    (seen,) = (await operator.get("/api/v1/robots")).json()["items"]
    assert (seen["state"], seen["online"]) == ("running", True)
    assert seen["heartbeat"]["loop"]["hz"] == 29.99
    assert seen["heartbeat"]["spool"]["episodes"] == 2
    assert seen["heartbeat"]["metrics"] == ""


async def test_a_robot_is_offline_after_three_missed_heartbeats(robot, operator, services):
    await robot.heartbeat()
    await silence(services, robot.id)
    seen = (await operator.get("/api/v1/robots/robot-1")).json()
    assert (seen["state"], seen["online"], seen["heartbeat"]["state"]) == ("offline", False, "running")


async def test_robots_are_counted_as_people_see_them_and_no_heartbeat_is_read_twice(enrol, operator, services):
    read = []

    @event.listens_for(services.db.engine.sync_engine, "before_cursor_execute")
    def note(connection, cursor, statement, *rest):
        read.append(statement)

    robots = {name: await enrol(name) for name in ("runs", "waits", "silent", "ahead", "retired", "new")}
    for name, robot in robots.items():
        if name != "new":
            state = "idle" if name == "waits" else "running"
            (await robot.heartbeat(state=state, metrics="lefleet_x 1\n")).raise_for_status()
    async with services.db.transaction() as session:
        for name, hours in (("silent", -1), ("ahead", 1)):
            moved = {"received_at": func.now() + timedelta(hours=hours)}
            await session.execute(update(RobotStatus).where(RobotStatus.robot_id == name).values(moved))
        await session.execute(update(Robot).where(Robot.id == "waits").values(site="lab"))
        await service.revoke(session, "retired", "test")
    read.clear()
    async with services.db.session() as session:
        counted = await service.count(session, services.settings.offline_after_s)
    listed = (await operator.get("/api/v1/robots")).raise_for_status().json()["items"]
    assert counted == Counter((each["state"], each["site"]) for each in listed)
    for (state, site), number in counted.items():
        found = (await operator.get("/api/v1/robots", params={"state": state, "site": site})).json()["items"]
        assert found == [each for each in listed if (each["state"], each["site"]) == (state, site)]
        assert len(found) == number
    assert sorted(counted) == [("idle", "lab"), ("offline", ""), ("retired", ""), ("running", "")]
    (await operator.get("/api/v1/robots")).raise_for_status()
    # The count reads none; the list, which judges by servos too, each once: they are most of a row.
    assert len([each for each in read if "robot_status.metrics" in each]) == 1
    for robot in robots.values():
        await robot.http.aclose()


async def make_many(services, names: str, count: int) -> None:
    """Robots called NAMES-0000 and so on, which never said anything."""
    async with services.db.transaction() as session:
        await session.execute(
            insert(Robot),
            [
                {"id": f"{names}-{n:04}", "token_hash": f"{names}-{n}".encode(), "hw": "", "agent_version": ""}
                for n in range(count)
            ],
        )


async def test_pages_of_robots_neither_repeat_nor_hide(robot, operator, services):
    await robot.heartbeat()
    await make_many(services, "many", 6)
    (await operator.put(f"/api/v1/robots/{robot.id}/rest")).raise_for_status()
    whole = (await operator.get("/api/v1/robots")).json()
    assert len(whole["items"]) == 7 and whole["next_cursor"] is None, "who knows no pages gets them all"
    paged, params = [], {"limit": 3}
    while True:
        page = (await operator.get("/api/v1/robots", params=params)).raise_for_status().json()
        paged += page["items"]
        if page["next_cursor"] is None:
            break
        assert len(page["items"]) == 3
        params["cursor"] = page["next_cursor"]
        await make_many(services, f"a-{len(paged)}", 1)  # comes before what was seen
    assert [each["id"] for each in paged] == [each["id"] for each in whole["items"]]
    assert paged[-1]["rest"]["wanted"] and paged[-1]["state"] == "running"
    nine = (await operator.get("/api/v1/robots", params={"limit": 9})).json()
    assert len(nine["items"]) == 9 and nine["next_cursor"] is None


async def test_pages_of_robots_are_of_those_that_were_asked_for(robot, operator, services):
    await robot.heartbeat()
    await make_many(services, "many", 3)
    async with services.db.transaction() as session:
        await session.execute(update(Robot).where(Robot.id.in_(["many-0000", "many-0002"])).values(site="lab"))
    asked = {"state": "offline", "site": "lab", "limit": 1}
    first = (await operator.get("/api/v1/robots", params=asked)).json()
    second = (await operator.get("/api/v1/robots", params=asked | {"cursor": first["next_cursor"]})).json()
    assert [each["id"] for each in first["items"] + second["items"]] == ["many-0000", "many-0002"]
    assert second["next_cursor"] is None
    none = (await operator.get("/api/v1/robots", params={"site": ""})).json()["items"]
    assert [each["id"] for each in none] == ["many-0001", robot.id]


@pytest.mark.parametrize(
    ("name", "value"), [("limit", 0), ("limit", 1001), ("cursor", "no name"), ("state", "No word"), ("site", "a b")]
)
async def test_a_page_that_cannot_be_names_the_parameter(operator, name, value):
    answer = await operator.get("/api/v1/robots", params={name: value})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [name]


async def test_prometheus_finds_more_robots_than_a_page_has(anonymous, services):
    await make_many(services, "many", 1203)
    found = (await anonymous.get("/api/v1/metrics/targets")).json()
    assert len({each["labels"]["robot_id"] for each in found}) == len(found) == 1203


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"state": "Not A Word"}, "state"),
        ({"loop": HEARTBEAT["loop"] | {"hz": "fast"}}, "loop.hz"),
        ({"spool": {"episodes": -1, "bytes": 0, "budget_bytes": 0}}, "spool.episodes"),
        ({"disk": {"free_bytes": 2**63, "total_bytes": 0}}, "disk.free_bytes"),
        ({"episode_id": "../../etc"}, "episode_id"),
        ({"task": "nul \x00"}, "task"),
        ({"cameras": ["../x"]}, "cameras.0"),
        ({"metrics": "lefleet_x 1\nnul \x00"}, "metrics"),
        ({"courier": {"trouble": "upload"}}, "courier.trouble"),
        ({"wall_ns": None}, "wall_ns"),
    ],
)
async def test_a_wrong_heartbeat_names_the_field(robot, change, field):
    answer = await robot.heartbeat(**change)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"state": NaN}',
        b"[" * 100_000,
        b'{"state": "\xff"}',
        b'{"task": "\\ud800", "state": "a"}',
    ],
)
async def test_a_body_that_is_no_heartbeat_is_a_4xx_problem(robot, body):
    answer = await robot.http.post(
        "/api/v1/robot/heartbeat", content=body, headers={"Content-Type": "application/json"}
    )
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["errors"]


async def test_a_newer_robot_may_say_more_than_the_server_knows(robot):
    assert (await robot.heartbeat(invented_tomorrow={"a": 1})).status_code == 200


async def test_a_body_over_the_limit_is_413(robot):
    async def endless():
        for _ in range(100):
            yield b" " * 65536

    known = await robot.http.post("/api/v1/robot/heartbeat", content=b" " * (3 << 20))
    unknown = await robot.http.post(
        "/api/v1/robot/heartbeat", content=endless(), headers={"Content-Type": "application/json"}
    )
    assert [known.status_code, unknown.status_code] == [413, 413]


async def test_the_newest_picture_is_served(robot, operator):
    put = "/api/v1/robot/cameras/front"
    for picture in (JPEG, JPEG[:-2] + b"newer" + JPEG[-2:]):
        answer = await robot.http.put(put, content=picture, headers={"Content-Type": "image/jpeg"})
        assert answer.status_code == 204
    seen = await operator.get("/api/v1/robots/robot-1/cameras/front.jpg")
    assert (seen.content, seen.headers["content-type"]) == (picture, "image/jpeg")
    again = await operator.get(str(seen.url), headers={"If-None-Match": seen.headers["etag"]})
    assert again.status_code == 304
    assert (await operator.get("/api/v1/robots/robot-1")).json()["cameras"] == ["front"]
    assert (await operator.get("/api/v1/robots/robot-1/cameras/none.jpg")).status_code == 404


async def test_pictures_are_kept_of_so_many_cameras_and_no_more(robot, operator, services):
    async def put(name: str) -> httpx.Response:
        headers = {"Content-Type": "image/jpeg"}
        return await robot.http.put(f"/api/v1/robot/cameras/{name}", content=JPEG, headers=headers)

    answers = await asyncio.gather(*(put(f"camera-{number}") for number in range(MOST_CAMERAS + 4)))
    assert Counter(answer.status_code for answer in answers) == {204: MOST_CAMERAS, 429: 4}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert "32 cameras" in refused.json()["detail"] and "name its cameras as before" in refused.json()["detail"]
    kept = (await operator.get("/api/v1/robots/robot-1")).json()["cameras"]
    assert len(kept) == MOST_CAMERAS and {(await put(name)).status_code for name in kept} == {204}
    old = RobotCamera.name.in_(kept[:2])
    async with services.db.transaction() as session:
        await session.execute(update(RobotCamera).where(old).values(received_at=func.now() - timedelta(hours=25)))
    assert [(await put(name)).status_code for name in ("new-1", "new-2", "new-3")] == [204, 204, 429]
    assert (await operator.get("/api/v1/robots/robot-1")).json()["cameras"] == sorted([*kept[2:], "new-1", "new-2"])


@pytest.mark.parametrize(
    ("content", "type_", "status"),
    [
        (b"not a picture", "image/jpeg", 422),
        (JPEG[:-2], "image/jpeg", 422),
        (JPEG, "image/png", 415),
        (b"\xff\xd8\xff" + b"x" * 512 * 1024 + b"\xff\xd9", "image/jpeg", 413),
    ],
)
async def test_what_is_no_small_jpeg_is_refused(robot, content, type_, status):
    answer = await robot.http.put("/api/v1/robot/cameras/front", content=content, headers={"Content-Type": type_})
    assert answer.status_code == status


async def test_prometheus_finds_each_robot_and_reads_its_last_metrics(robot, enrol, anonymous):
    other = await enrol("robot-2", site="lab")
    began_s = time.monotonic()
    await robot.http.post("/api/v1/robot/heartbeat", json=HEARTBEAT)
    found = (await anonymous.get("/api/v1/metrics/targets")).json()
    assert [each["labels"]["robot_id"] for each in found] == ["robot-1", "robot-2"]
    assert [each["labels"]["site"] for each in found] == ["", "lab"]
    labels = found[0]["labels"]
    scrape = await anonymous.get(labels["__metrics_path__"], params={"robot": labels["__param_robot"]})
    assert scrape.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert "lefleet_spool_bytes 4e+07" in scrape.text
    (age_s,) = re.findall(r"^lefleet_robot_heartbeat_age_seconds ([0-9.]+)$", scrape.text, re.MULTILINE)
    assert 0 <= float(age_s) <= time.monotonic() - began_s, "it spoke since then"
    await other.http.aclose()


async def test_the_scrape_of_a_silent_or_unknown_robot_fails(robot, anonymous, services):
    scrape = "/api/v1/metrics/robot?robot=robot-1"
    assert (await anonymous.get(scrape)).status_code == 503
    await robot.heartbeat()
    assert (await anonymous.get(scrape)).status_code == 200
    await silence(services, robot.id)
    assert (await anonymous.get(scrape)).status_code == 503
    assert (await anonymous.get("/api/v1/metrics/robot?robot=none")).status_code == 404


async def test_revoking_takes_the_credential_the_open_uploads_and_the_codes_at_once(
    robot, operator, anonymous, services, code, episode_file
):
    await robot.heartbeat()
    path = episode_file(robot_id=robot.id)
    data = path.read_bytes()
    opened = await robot.announce(data, path.stem)
    assert (await robot.send(opened.headers["location"], data[:100])).status_code == 204
    pocket = await code(robot.id)
    async with services.db.transaction() as session:
        assert await service.revoke(session, robot.id, "console")
    async with services.db.transaction() as session:
        assert not await service.revoke(session, robot.id, "console")

    assert (await robot.heartbeat()).status_code == 401
    assert (await robot.announce(data, path.stem)).status_code == 401
    assert (await anonymous.post(ENROL, json=request(pocket, robot.id))).status_code == 403
    seen = (await operator.get(f"/api/v1/robots/{robot.id}")).json()
    assert (seen["state"], seen["online"]) == ("retired", False)
    assert (await operator.get("/api/v1/metrics/targets")).json() == []
    async with services.db.session() as session:
        actions = (await session.scalars(select(AuditEntry.action))).all()
        assert (await session.scalars(select(Upload))).all() == []
    assert actions.count("robot.revoked") == 1


async def test_a_retired_robot_comes_back_with_a_new_code(robot, enrol, operator, services):
    async with services.db.transaction() as session:
        await service.revoke(session, robot.id, "console")
    again = await enrol(robot.id)
    assert (await again.heartbeat()).status_code == 200
    assert (await robot.heartbeat()).status_code == 401
    assert (await operator.get(f"/api/v1/robots/{robot.id}")).json()["state"] == "running"
    await again.http.aclose()


async def test_an_upload_that_completes_while_its_robot_is_revoked_is_no_episode(
    robot, services, episode_file, monkeypatch
):
    path = episode_file(robot_id=robot.id)
    checked = ingest._check

    async def revoked_meanwhile(*arguments):
        facts = await checked(*arguments)
        async with services.db.transaction() as session:
            await service.revoke(session, robot.id, "console")
        return facts

    monkeypatch.setattr(ingest, "_check", revoked_meanwhile)
    assert (await robot.upload(path)).status_code == 404
    async with services.db.session() as session:
        assert (await session.scalars(select(Episode))).all() == []
