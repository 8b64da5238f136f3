"""What `make demo` says before it changes anything, tried by running its scripts on real ports, disks and Pythons."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the repository's demo scripts, with a state of its own."""
    shutil.copytree(REPO / "ansible" / "demo", tmp_path / "copy" / "ansible" / "demo")
    return tmp_path / "copy"


def run(copy: Path, script: str, *words: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VENV": str(Path(sys.executable).parents[1])}
    return subprocess.run(
        [python, copy / "ansible" / "demo" / script, *words],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture
def used_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def older_python() -> str | None:
    """A Python of this machine that is too old for LeRobot."""
    places = [Path("/usr/bin"), *sorted(Path.home().glob(".pyenv/versions/3.*/bin"))]
    candidates = [place / f"python3.{minor}" for place in places for minor in range(7, 12)]
    return next((str(candidate) for candidate in candidates if candidate.exists()), None)


def test_a_port_in_use_is_named_with_ports_that_are_free(copy: Path, used_port: int) -> None:
    done = run(copy, "preflight.py", "--port", str(used_port))
    assert done.returncode == 1
    assert re.search(rf"port {used_port}[\d, ]* is in use by another program", done.stderr)
    better = re.search(r"make demo PORT=(\d+)", done.stderr)
    assert better and run(copy, "preflight.py", "--port", better[1]).returncode == 0


def test_the_ports_of_the_robots_are_checked_too(copy: Path, used_port: int) -> None:
    said = run(copy, "preflight.py", "--port", str(used_port - 2)).stderr
    used = re.search(r"port ([\d, ]+) is in use by another program", said)
    assert used and str(used_port) in used[1].split(", "), said  # other tests may have the two before it


def test_a_port_out_of_range_is_refused(copy: Path) -> None:
    done = run(copy, "preflight.py", "--port", "80")
    assert done.returncode == 1
    assert "PORT=80 is out of range; choose one from 1024" in done.stderr


def test_too_little_disk_is_named_with_what_is_free(copy: Path) -> None:
    done = run(copy, "preflight.py", "--data-gb", "1000000")
    assert done.returncode == 1
    assert re.search(r"has [\d.]+ GB free and 1e\+06 GB are needed; free some space", done.stderr)


def test_a_refusal_leaves_nothing_behind(copy: Path) -> None:
    run(copy, "preflight.py", "--data-gb", "1000000", "--port", "8000")
    assert not (copy / ".demo").exists()


def test_a_python_that_is_too_old_is_told_so(copy: Path) -> None:
    python = older_python()
    if python is None:
        pytest.skip("this machine has no Python older than 3.12")
    done = run(copy, "preflight.py", python=python)
    assert done.returncode == 1
    assert "cannot run this; LeRobot needs 3.12 or 3.13. Install one" in done.stderr


def test_a_path_that_make_cannot_use_is_refused(tmp_path: Path) -> None:
    shutil.copytree(REPO / "ansible" / "demo", tmp_path / "my copy" / "ansible" / "demo")
    done = run(tmp_path / "my copy", "preflight.py")
    assert done.returncode == 1
    assert "make cannot use this path" in done.stderr


def test_the_port_is_remembered(copy: Path, used_port: int) -> None:
    free = re.search(r"PORT=(\d+)", run(copy, "preflight.py", "--port", str(used_port)).stderr)
    assert free and run(copy, "preflight.py", "--port", free[1]).returncode == 0
    assert (copy / ".demo" / "port").read_text() == f"{free[1]}\n"


def test_stopping_what_does_not_run_is_fine(copy: Path) -> None:
    done = run(copy, "stop.py")
    assert (done.returncode, done.stdout) == (0, "The demo was not running\n")


def test_a_process_that_outlived_its_supervisor_is_ended(copy: Path) -> None:
    mark = {**os.environ, "LEFLEET_SUPERVISOR": str(copy / ".demo" / "supervisor" / "supervisord.conf")}
    with subprocess.Popen(["sleep", "600"], env=mark) as orphan, subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            time.sleep(0.2)  # until both have become `sleep`
            done = run(copy, "stop.py", "--orphans")
            assert done.returncode == 0
            assert orphan.wait(5) == -signal.SIGTERM
            assert stranger.poll() is None
        finally:
            orphan.kill()
            stranger.kill()


def test_an_environment_of_another_copy_is_used_as_it_is(copy: Path) -> None:
    for name in ("tests/requirements.txt", "agent/pyproject.toml", "server/pyproject.toml"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_text("# other requirements\n")
    done = run(copy, "environment.py")
    assert done.returncode == 0
    assert "was made for other requirements and is used as it is" in done.stdout
