"""The role that runs programs, tried with real programs under a real supervisord."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPO = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: supervised
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


def sleeper(name: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "command": ["sleep", "600"], "directory": "/", "priority": 10, **fields}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """Run the role on this machine with some programs."""
    folder = tmp_path / "supervisor"
    (tmp_path / "play.yml").write_text(PLAY)

    def play(*programs: dict[str, Any], arguments: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        values = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "supervised_dir": str(folder),
            "supervised_bin_dir": str(BIN),
            "supervised_programs": programs,
        }
        command = [BIN / "ansible-playbook", "-i", "here,", "-e", json.dumps(values), *arguments, tmp_path / "play.yml"]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(REPO / "ansible" / "ansible.cfg")}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    try:
        yield play
    finally:
        control(tmp_path, "shutdown")


def control(tmp_path: Path, *words: str) -> str:
    command = [BIN / "supervisorctl", "-c", tmp_path / "supervisor" / "supervisord.conf", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout


def pids(tmp_path: Path) -> dict[str, str]:
    return dict(re.findall(r"^(\S+) +RUNNING +pid (\d+)", control(tmp_path, "status"), re.MULTILINE))


def changed(done: subprocess.CompletedProcess[str]) -> int:
    found = re.search(r"changed=(\d+) .* failed=0 ", done.stdout)
    assert found, done.stdout + done.stderr
    return int(found[1])


def test_programs_run_and_a_second_run_changes_nothing(run: Run, tmp_path: Path) -> None:
    assert changed(run(sleeper("one"), sleeper("two"))) > 0
    first = pids(tmp_path)
    assert set(first) == {"one", "two"}
    assert changed(run(sleeper("one"), sleeper("two"))) == 0
    assert pids(tmp_path) == first


def test_only_the_program_that_changed_is_restarted(run: Run, tmp_path: Path) -> None:
    run(sleeper("one"), sleeper("two"))
    before = pids(tmp_path)
    assert changed(run(sleeper("one"), sleeper("two", fingerprint="newer"))) > 0
    after = pids(tmp_path)
    assert after["one"] == before["one"]
    assert after["two"] != before["two"]


def test_a_program_that_does_not_start_is_reported_with_its_log(run: Run) -> None:
    done = run(sleeper("one"), sleeper("broken", command=["sh", "-c", "echo no such arm; exit 3"]))
    assert done.returncode != 0
    assert "broken: ERROR" in done.stdout and "no such arm" in done.stdout


def test_a_supervisor_killed_by_force_is_started_again(run: Run, tmp_path: Path) -> None:
    run(sleeper("one", command=["sh", "-c", "sleep 5"], start_s=0))
    pid = int((tmp_path / "supervisor" / "supervisord.pid").read_text())
    os.kill(pid, 9)
    assert changed(run(sleeper("one"))) > 0
    assert set(pids(tmp_path)) == {"one"}


def test_check_mode_on_a_bare_machine_changes_nothing(run: Run, tmp_path: Path) -> None:
    assert changed(run(sleeper("one"), arguments=("--check", "--diff"))) > 0
    assert not (tmp_path / "supervisor").exists()


def test_check_mode_on_what_runs_sees_no_change(run: Run) -> None:
    run(sleeper("one"))
    assert changed(run(sleeper("one"), arguments=("--check", "--diff"))) == 0


def test_a_socket_path_that_is_too_long_is_refused(run: Run) -> None:
    done = run(sleeper("one"), arguments=("-e", f"supervised_socket=/tmp/{'x' * 100}"))
    assert done.returncode != 0
    assert "has 105 bytes where at most 99 fit" in " ".join(done.stdout.split())
