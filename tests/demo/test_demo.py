"""What `make demo` promises, tried on a copy of this checkout: one command, the same result, nothing left behind."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
ROBOTS = ("robot-1", "robot-2")

pytestmark = [pytest.mark.demo, pytest.mark.timeout(1500)]


@dataclass
class Demo:
    folder: Path
    port: int

    def make(self, *targets: str) -> str:
        """Run make there; returns what it printed. VENV: this environment, so that nothing is installed again."""
        venv = Path(sys.prefix)
        done = subprocess.run(
            ["make", *targets, f"PORT={self.port}", f"VENV={venv}"],
            cwd=self.folder,
            env={**os.environ, "NO_COLOR": "1", "COLUMNS": "200"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"make {' '.join(targets)}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done.stdout

    def processes(self) -> list[str]:
        """Every process that belongs to this copy."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ", "status"]):
            words = " ".join(process.info["cmdline"] or [])
            environment = " ".join((process.info["environ"] or {}).values())
            if process.info["status"] != psutil.STATUS_ZOMBIE and str(self.folder) in words + environment:
                found.append(words)
        return found

    def person(self, printed: str) -> httpx.Client:
        """Logged in with the one-time log-in that `make demo` printed."""
        code = re.search(r"/login\?code=([\w-]+)", printed)
        assert code, printed[-3000:]
        client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}")
        client.post("/api/v1/login", json={"code": code[1]}).raise_for_status()
        return client

    def supervisorctl(self, *words: str) -> None:
        config = self.folder / ".demo" / "supervisor" / "supervisord.conf"
        subprocess.run([Path(sys.prefix) / "bin" / "supervisorctl", "-c", config, *words], check=True)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Iterator[Demo]:
    # Not below pytest's own folder: that is closed to the system user that PostgreSQL runs as when we are root.
    folder = Path(f"/tmp/lefleet-demo-{os.getpid()}")  # noqa: S108
    names = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout
    for name in names.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    demo = Demo(folder, three_free_ports())
    try:
        yield demo
    finally:
        demo.make("clean")
        shutil.rmtree(folder)


def test_the_demo_from_its_first_start_to_its_end(demo):
    person = demo.person(first := demo.make("demo"))
    assert "failed=0" in first

    episodes = wait_for(lambda: episodes_by_robot(person), lambda found: found.keys() >= set(ROBOTS), 300)
    for robot in ROBOTS:
        check_episode(person, episodes[robot][0])
        check_analysis(person, episodes[robot][-1])
    check_fleet(person)

    again = demo.make("demo")
    assert re.findall(r"changed=(\d+)", again) == ["0"] * 3, again[-3000:]

    # The plug of robot-1 is pulled in the middle of an episode: what it had recorded arrives, marked.
    # Its own file tells: the server's word may be as old as a pause is long.
    control = demo.folder / ".demo" / "robots" / "robot-1" / "run" / "control.json"
    wait_for(
        lambda: json.loads(control.read_text())["episode"], lambda episode: episode and 15 < episode["ticks"] < 90, 60
    )
    demo.supervisorctl("signal", "KILL", "robot-1-control")
    interrupted = {"robot": "robot-1", "interrupted": "true"}
    wait_for(
        lambda: person.get("/api/v1/episodes", params=interrupted).json()["items"], lambda items: len(items) > 0, 180
    )

    demo.make("stop")
    assert demo.processes() == []
    before = (demo.folder / ".demo").exists()
    person = demo.person(demo.make("demo"))
    kept = {episode["id"] for episode in all_episodes(person)}
    assert before and {episode["id"] for found in episodes.values() for episode in found} <= kept

    demo.make("clean")
    assert demo.processes() == [] and not (demo.folder / ".demo").exists()


def check_episode(person: httpx.Client, episode: dict) -> None:
    assert episode["frames"] > 0 and episode["policy_repo"] and sorted(episode["cameras"]) == ["front", "wrist"]
    for camera in episode["cameras"]:
        picture = person.get(f"/api/v1/episodes/{episode['id']}/frames/{camera}/0.jpg")
        assert picture.is_success and picture.content.startswith(b"\xff\xd8")
    signals = person.get(f"/api/v1/episodes/{episode['id']}/signals").json()
    assert len(signals["action"]) == len(signals["joint_names"]) == 6


def check_analysis(person: httpx.Client, episode: dict) -> None:
    """The worker that the demo starts has looked at it."""
    path = f"/api/v1/episodes/{episode['id']}/analysis"
    answer = wait_for(lambda: person.get(path), lambda answer: answer.is_success, 180)
    assert answer.json()["state"] == "analysed"


def check_fleet(person: httpx.Client) -> None:
    robots = {robot["id"]: robot for robot in person.get("/api/v1/robots").json()["items"]}
    assert robots.keys() == set(ROBOTS) and all(robot["online"] for robot in robots.values())
    metrics = person.get("/metrics").text
    assert re.search(r"lefleet_episodes_received_total [1-9]", metrics)
    for robot in ROBOTS:
        exposed = person.get("/api/v1/metrics/robot", params={"robot": robot})
        assert exposed.is_success and "lefleet_control_ticks_total" in exposed.text


def all_episodes(person: httpx.Client) -> list[dict]:
    return person.get("/api/v1/episodes", params={"limit": 100}).json()["items"]


def episodes_by_robot(person: httpx.Client) -> dict[str, list[dict]]:
    found: dict[str, list[dict]] = {}
    for episode in all_episodes(person):
        found.setdefault(episode["robot_id"], []).append(episode)
    return found


def wait_for[T](look: Callable[[], T], enough: Callable[[T], bool], seconds: float) -> T:
    deadline = time.monotonic() + seconds
    while not enough(found := look()):
        assert time.monotonic() < deadline, f"not within {seconds} s; last seen: {found}"
        time.sleep(0.5)
    return found


def three_free_ports() -> int:
    """The first of three free ports in a row."""
    for port in range(18000, 28000, 10):
        try:
            for offset in range(3):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port + offset))
        except OSError:
            continue
        return port
    raise AssertionError("no three free ports in a row between 18000 and 28000")
