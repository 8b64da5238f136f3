"""The program that runs a container for systemd, with a docker of this test's own and a real notify socket."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "roles" / "agent" / "files" / "lefleet-container"

# One container at a time: its process's number is in `pid`, how it behaves in `inside`, what was asked in `calls`.
DOCKER = """#!{python}
import json, os, signal, sys, time
from pathlib import Path
here, words = Path(__file__).parent, sys.argv[1:]
with (here / "calls").open("a") as calls:
    calls.write(json.dumps(words) + chr(10))
pid = int((here / "pid").read_text()) if (here / "pid").exists() else 0
def end(*_):
    (here / "pid").unlink(missing_ok=True)
    sys.exit(0)
if words[0] == "run":
    inside = (here / "inside").read_text()
    if inside == "broken":
        sys.exit(3)
    (here / "pid").write_text(str(os.getpid()))
    signal.signal(signal.SIGTERM, end)
    while True:
        time.sleep(0.05)
        if inside == "silent":
            continue
        state = "drained" if (here / "drain" / "service").exists() and inside != "busy" else "running"
        until = time.monotonic_ns() + 2 * 10**9
        (here / "part").write_text(json.dumps(
            {{"state": state, "wall_ns": time.time_ns(), "alive_until_monotonic_ns": until}}))
        (here / "part").rename(here / "control.json")
elif words[0] == "container":
    if not pid:
        sys.exit(1)
    print("true")
elif words[0] in ("stop", "rm"):
    os.kill(pid, signal.SIGTERM if words[0] == "stop" else signal.SIGKILL)
    (here / "pid").unlink(missing_ok=True)
"""


class Host:
    """A folder that stands for a host, and what systemd would hear."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        docker = folder / "docker"
        docker.write_text(DOCKER.format(python=sys.executable))
        docker.chmod(0o755)
        spec = {"name": "lefleet-control", "image": "sha256:1", "command": ["run"], "options": ["--read-only"]}
        spec |= {"alive_file": str(folder / "control.json"), "ready_s": 3, "stop_s": 5, "memory": str(folder)}
        there = [(str(folder), "--env=THERE=1"), ("/nonexistent", "--env=NOT=1")]
        spec |= {"when_there": [{"path": path, "options": [option]} for path, option in there]}
        spec |= {"drain": {"folder": str(folder / "drain"), "wait_s": 5}, "uid": os.geteuid(), "gid": os.getegid()}
        self.change(**spec)
        self.words: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(folder / "notify"))
        threading.Thread(target=self._listen, daemon=True).start()
        self.inside("well")

    def change(self, **values: object) -> None:
        path = self.folder / "spec.json"
        path.write_text(json.dumps((json.loads(path.read_text()) if path.exists() else {}) | values))

    def inside(self, how: str) -> None:
        (self.folder / "inside").write_text(how)

    def start(self, action: str = "run", *words: str) -> subprocess.Popen:
        path = f"{self.folder}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "NOTIFY_SOCKET": str(self.folder / "notify")}
        command = [sys.executable, PROGRAM, action, self.folder / "spec.json", *words]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)

    def do(self, action: str, *words: str) -> subprocess.CompletedProcess[str]:
        process = self.start(action, *words)
        _, said = process.communicate(timeout=30)
        return subprocess.CompletedProcess(process.args, process.returncode, "", said)

    def calls(self, first: str) -> list[list[str]]:
        lines = (self.folder / "calls").read_text().splitlines() if (self.folder / "calls").exists() else []
        return [words for words in map(json.loads, lines) if words[0] == first]

    def heard(self, word: str) -> int:
        return sum(word in each for each in self.words)

    def pid(self) -> int:
        return int((self.folder / "pid").read_text())

    def _listen(self) -> None:
        while True:
            self.words.append(self._socket.recv(4096).decode())


@pytest.fixture
def host(tmp_path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    if (tmp_path / "pid").exists():
        os.kill(made.pid(), signal.SIGKILL)


def wait_until(holds: Callable[[], object]) -> None:
    while not holds():
        time.sleep(0.05)


def test_ready_and_the_watchdog_s_food_come_only_while_the_program_inside_says_it_lives(host):
    (host.folder / "control.json").write_text(json.dumps({"alive_until_monotonic_ns": time.monotonic_ns() + 10**12}))
    host.inside("silent")
    host.change(ready_s=60)
    service = host.start()
    wait_until(lambda: host.heard("starting"))
    time.sleep(1.5)
    assert not host.heard("READY"), "the words of the one before it are no sign of life"
    host.do("clean")
    service.wait(10)

    host.inside("well")
    service = host.start()
    wait_until(lambda: host.heard("WATCHDOG=1") > 2)
    os.kill(host.pid(), signal.SIGSTOP)
    wait_until(lambda: host.heard("it hangs"))
    food = host.heard("WATCHDOG=1")
    time.sleep(2.5)
    assert host.heard("WATCHDOG=1") == food
    # systemd would now end this program; what it left is removed, stopped by a signal or not.
    service.kill()
    host.do("clean")
    assert not host.do("clean").returncode and not (host.folder / "pid").exists()


def test_a_container_that_never_gives_a_sign_of_life_is_ended(host):
    host.inside("silent")
    done = host.do("run")
    assert done.returncode == 1 and "no sign of life within 3 s" in done.stderr
    assert not (host.folder / "pid").exists()


def test_options_that_need_a_folder_are_used_where_it_is(host):
    host.inside("broken")
    host.do("run")
    (words,) = host.calls("run")
    assert words[-2:] == ["sha256:1", "run"] and "--env=THERE=1" in words and "--env=NOT=1" not in words


def test_the_pauses_between_failed_starts_grow_and_a_stop_forgets_them(host):
    host.inside("broken")
    began = time.monotonic()
    assert host.do("run").returncode == 3
    assert time.monotonic() - began < 4
    service = host.start()
    wait_until(lambda: host.heard("1 starts failed"))
    service.terminate()
    assert service.wait(10) == 0
    (host.folder / "lefleet-control.attempts").write_text("3")
    service = host.start()
    wait_until(lambda: host.heard("3 starts failed, the next in 20 s"))
    service.kill()
    service.wait()
    host.do("stop")
    assert host.do("run").returncode == 3 and len(host.calls("run")) == 2


def test_a_stop_waits_for_the_episode_s_end_and_the_next_start_takes_its_request_back(host):
    service = host.start()
    wait_until(lambda: host.heard("READY"))
    (host.folder / "drain").mkdir()
    (host.folder / "drain" / "operator").touch()
    done = host.do("stop")
    assert (done.returncode, done.stderr) == (0, "")
    assert host.calls("stop") == [["stop", "--time", "5", "lefleet-control"]]
    assert service.wait(10) == 0
    assert (host.folder / "drain" / "service").exists()

    service = host.start()
    wait_until(lambda: host.heard("READY") == 2)
    assert [path.name for path in (host.folder / "drain").iterdir()] == ["operator"]
    service.terminate()
    assert service.wait(10) == 0


def test_an_episode_longer_than_the_wait_is_cut_short_and_said_so(host):
    host.inside("busy")
    host.change(drain={"folder": str(host.folder / "drain"), "wait_s": 1})
    service = host.start()
    wait_until(lambda: host.heard("READY"))
    assert "did not end within 1 s: it is cut short" in host.do("stop").stderr
    assert service.wait(10) == 0


def test_a_hung_program_is_stopped_without_waiting(host):
    service = host.start()
    wait_until(lambda: host.heard("READY"))
    hung = host.pid()
    os.kill(hung, signal.SIGSTOP)
    try:
        wait_until(lambda: host.do("alive").returncode == 1)
        assert "silent: it is stopped without waiting" in host.do("stop").stderr
    finally:
        service.kill()
        host.do("clean")
        os.kill(hung, signal.SIGKILL)  # what systemd does to all that is left of a unit


def test_a_command_runs_in_a_container_of_its_own_with_the_folder_it_needs(host):
    host.inside("broken")
    assert host.do("cli", "--mount", "/srv/policy", "release", "install", "/srv/policy").returncode == 3
    (words,) = host.calls("run")
    assert words[-4:] == ["sha256:1", "release", "install", "/srv/policy"]
    assert "--volume /srv/policy:/srv/policy:ro" in " ".join(words)
    assert "--env=THERE=1" in words and "--env=NOT=1" not in words, "a calibration that is there, for `doctor`"
