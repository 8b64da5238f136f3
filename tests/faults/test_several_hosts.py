"""Two API hosts behind the balancer that docs/operations.md shows: what it promises robots and people."""

import base64
import hashlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import proxies
import pytest
from killable import Program, wait_for
from several_hosts import Hosts, may_hide
from small_episodes import write_episode

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(not proxies.find("caddy"), reason="caddy is missing; `python3 ansible/demo/packages.py test`"),
]
UPLOADS = "/api/v1/robot/uploads"
TUS = {"Tus-Resumable": "1.0.0"}
PASSED_OVER_S = 5
"""`fail_duration` of the balancer."""
BYTES = {"Content-Type": "application/offset+octet-stream"}


@pytest.fixture(scope="module")
def hosts() -> Iterator[Hosts]:
    with tempfile.TemporaryDirectory(prefix="lefleet-test-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as a user of its own when we are root
        made = Hosts(Path(folder))
        with made.running():
            yield made


@pytest.fixture
def ready(hosts: Hosts) -> Iterator[Hosts]:
    """All of it runs, before and after."""
    yield hosts
    ended = [program for program in hosts.all if program.process and program.process.poll() is not None]
    for program in ended:
        program.start()
    for program in hosts.all:
        program.wait_ready()
    if ended:
        time.sleep(PASSED_OVER_S)  # the next test may kill the only one that the balancer does not pass over


@pytest.fixture(scope="module")
def admin(hosts: Hosts) -> Iterator[httpx.Client]:
    with hosts.admin() as client:
        yield client


@pytest.fixture(scope="module")
def robot(hosts: Hosts, admin: httpx.Client) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {hosts.enrol(admin, 'robot-1')}"}
    with httpx.Client(base_url=hosts.entries[0], headers=headers, timeout=60) as client:
        yield client


class Upload:
    """One episode file on its way by the balancer."""

    def __init__(self, robot: httpx.Client, folder: Path) -> None:
        path = write_episode(folder, "robot-1", np.random.default_rng(), camera=True)
        self.data, self.robot = path.read_bytes(), robot
        self.sha256 = hashlib.sha256(self.data).hexdigest()
        words = {"sha256": self.sha256, "episode_id": path.stem}
        metadata = ",".join(f"{name} {base64.b64encode(word.encode()).decode()}" for name, word in words.items())
        headers = TUS | {"Upload-Length": str(len(self.data)), "Upload-Metadata": metadata}
        self.url = robot.post(UPLOADS, headers=headers).raise_for_status().headers["location"]

    def send(self, start: int, end: int) -> httpx.Response:
        headers = TUS | BYTES | {"Upload-Offset": str(start)}
        return self.robot.patch(self.url, headers=headers, content=self.data[start:end])

    def vanish(self, start: int, end: int) -> None:
        """Promises all and sends so much, as a robot does whose network goes away."""

        def some() -> Iterator[bytes]:
            yield self.data[start:end]
            time.sleep(0.5)
            raise httpx.ReadError("the robot's network went away")

        headers = TUS | BYTES | {"Upload-Offset": str(start), "Content-Length": str(len(self.data) - start)}
        with pytest.raises(httpx.ReadError):
            self.robot.patch(self.url, headers=headers, content=some())

    def offset(self) -> int | None:
        """None: not now."""
        answer = self.robot.head(self.url, headers=TUS)
        assert answer.is_success or answer.status_code in {423, 502, 503}, answer
        return int(answer.headers["upload-offset"]) if answer.is_success else None

    def reaches(self, end: int) -> bool:
        """Whether all is there up to `end`; goes on from where it is, as a robot does that got no answer."""
        offset = self.offset()
        if offset is not None and offset < end:
            answer = self.send(offset, end)
            assert answer.status_code in {204, 409, 423, 502, 503}, answer
            return answer.status_code == 204
        return offset == end

    def receipt(self) -> httpx.Response:
        return self.robot.get(f"/api/v1/robot/receipts/{self.sha256}")


def test_an_upload_goes_on_at_the_host_that_is_left(ready, robot, tmp_path):
    upload = Upload(robot, tmp_path)
    third = len(upload.data) // 3
    assert upload.send(0, third).status_code == 204
    first, second = ready.programs["serve"]
    first.kill()
    wait_for(lambda: upload.offset() == third, 60, "what came at either host is known at the second")
    wait_for(lambda: upload.reaches(2 * third), 60, "the second takes the next part")
    start(first)
    second.kill()
    wait_for(lambda: upload.offset() == 2 * third, 60, "what came at the second is known at the first")
    wait_for(lambda: upload.reaches(len(upload.data)), 60, "the first takes the rest")
    assert upload.receipt().raise_for_status().json()["sha256"] == upload.sha256


def start(program: Program) -> None:
    program.start()
    program.wait_ready()


def test_the_balancer_passes_on_what_came_before_a_robot_vanished(ready, robot, tmp_path):
    upload = Upload(robot, tmp_path)
    half = len(upload.data) // 2
    upload.vanish(0, half)
    wait_for(lambda: upload.offset() == half, 60, "half of the body came through")
    assert upload.send(half, len(upload.data)).status_code == 204
    assert upload.receipt().is_success


def test_nobody_who_asks_notices_that_a_host_died(ready, admin):
    ready.programs["serve"][0].kill()
    answers = [admin.get(path).status_code for path in ("/api/v1/robots", "/healthz") * 10]
    assert answers == [200] * 20


def test_without_the_object_store_robots_are_heard_and_stopped(ready, robot, admin):
    [store] = ready.programs["store"]
    store.kill()
    for url in ready.urls:
        wait_for(lambda url=url: httpx.get(f"{url}/readyz").status_code == 503, 60, "no host is ready")
    for _ in while_the_balancer_learns_of_it():
        said = admin.get("/readyz").json()["checks"]
        assert said["database"] == "ok"
        assert "object store" in said["blobs"]
        assert robot.post("/api/v1/robot/heartbeat", json={"state": "running"}).status_code == 200
    admin.put("/api/v1/robots/robot-1/estop").raise_for_status()
    wish = robot.get("/api/v1/robot/wishes", params={"since": 0, "wait_s": 0.5}).raise_for_status().json()
    assert wish["estop"]["wanted"]
    admin.delete("/api/v1/robots/robot-1/estop", params={"number": wish["estop"]["number"]}).raise_for_status()
    start(store)
    wait_for(lambda: admin.get("/readyz").status_code == 200, 60, "all is well by itself")


def test_without_the_database_the_hosts_say_so_themselves(ready, robot):
    ready.postgres.kill()

    def told() -> httpx.Response:
        return robot.get("/api/v1/robot/wishes", params={"since": 0, "wait_s": 0.5})

    wait_for(lambda: told().status_code == 503, 60, "the hosts notice")
    for _ in while_the_balancer_learns_of_it():
        answer = told()
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert int(answer.headers["retry-after"]) > 0
    start(ready.postgres)
    wait_for(lambda: told().status_code == 200, 60, "all is well by itself")


def while_the_balancer_learns_of_it() -> Iterator[None]:
    """It looks every two seconds; what was promised holds before and after."""
    until_s = time.monotonic() + 5
    while time.monotonic() < until_s:
        yield
        time.sleep(0.2)


@pytest.mark.skipif(not may_hide(), reason="a mount namespace needs root")
def test_no_program_sees_what_another_host_has(ready):
    for program in ready.programs["serve"] + ready.programs["worker"]:
        assert program.process
        seen = Path(f"/proc/{program.process.pid}/root{ready.folder}")
        assert [path.name for path in seen.iterdir()] == ["hosts"]
        assert [path.name for path in (seen / "hosts").iterdir()] == [program.config.parent.name]
