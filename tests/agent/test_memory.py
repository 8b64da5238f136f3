"""What processes take and what they may, against the kernel's own files."""

import json
import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lefleet_agent import memory
from lefleet_agent.doctor import processes
from lefleet_agent.doctor.finding import Verdict
from lefleet_agent.files import replace

MB = 10**6


def test_the_peak_stays_when_the_memory_was_given_back():
    before = memory.pss_bytes(os.getpid())
    block = mmap.mmap(-1, 64 * MB)
    block.write(b"x" * (64 * MB))
    held = memory.pss_bytes(os.getpid())
    block.close()
    assert held > before + 50 * MB
    assert memory.peak_rss_bytes(os.getpid()) > memory.pss_bytes(os.getpid())


def test_a_process_that_is_gone_is_an_error_and_no_process():
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert memory.process(done.pid) is None
    for measure in (memory.pss_bytes, memory.peak_rss_bytes):
        with pytest.raises(OSError):
            measure(done.pid)


def container(tmp_path: Path, limit: str) -> tuple[Path, Path]:
    """/proc and /sys/fs/cgroup as a process of a container in a slice sees them."""
    proc, group = tmp_path / "proc", tmp_path / "groups" / "slice" / "one.scope"
    (proc / "self").mkdir(parents=True)
    group.mkdir(parents=True)
    (proc / "self" / "cgroup").write_text("0::/slice/one.scope\n")
    (proc / "meminfo").write_text("MemTotal: 8000000 kB\nMemAvailable: 6000000 kB\n")
    (group / "memory.max").write_text("max\n")
    (group.parent / "memory.max").write_text(f"{limit}\n")
    (group.parent / "memory.current").write_text(f"{900 * MB}\n")
    (group.parent / "memory.stat").write_text(f"anon 1\ninactive_file {200 * MB}\n")
    return proc, tmp_path / "groups"


@pytest.mark.parametrize(("limit", "available"), [("max", 6_000_000 * 1024), (1000 * MB, 300 * MB), (600 * MB, 0)])
def test_available_is_what_machine_and_container_leave(tmp_path, limit, available):
    assert memory.available_bytes(*container(tmp_path, str(limit))) == available


def test_without_control_groups_of_version_2_the_machine_alone_counts(tmp_path):
    proc, _ = container(tmp_path, "max")
    (proc / "self" / "cgroup").write_text("4:memory:/some\n")
    assert memory.available_bytes(proc, tmp_path / "none") == 6_000_000 * 1024


def test_the_doctor_adds_up_control_its_children_and_the_courier(tmp_path):
    sleep = "import subprocess, sys, time; print(flush=True); time.sleep(60)"
    parent = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', sys.argv[2]]).wait())"
    control = subprocess.Popen([sys.executable, "-c", parent, "run", sleep], stdout=subprocess.PIPE)
    courier = subprocess.Popen([sys.executable, "-c", sleep, "courier"], stdout=subprocess.PIPE)
    try:
        control.stdout.readline(), courier.stdout.readline()
        (recorder,) = (each.pid for each in memory.children(control.pid))
        replace(tmp_path / "control.json", json.dumps({"control_pid": control.pid, "recorder_pid": recorder}).encode())
        replace(tmp_path / "courier.json", json.dumps({"courier_pid": courier.pid}).encode())
        taken, hidden = processes.taken_bytes(tmp_path)
        assert list(taken) == ["control", "recorder", "courier"] and min(taken.values()) > 10**6 and not hidden
        (finding,) = processes.memory_of(tmp_path)
        assert finding.verdict is Verdict.GOOD and "recorder" in finding.what
    finally:
        os.kill(recorder, 9)
        control.wait(), courier.kill(), courier.wait()
        control.stdout.close(), courier.stdout.close()


def test_the_number_of_another_process_is_not_taken_for_the_agents(tmp_path):
    replace(tmp_path / "control.json", json.dumps({"control_pid": os.getppid(), "recorder_pid": 1}).encode())
    (finding,) = processes.memory_of(tmp_path)
    assert finding.verdict is Verdict.UNKNOWN and "docker exec" in finding.remedy


def test_control_close_to_its_containers_limit_is_a_warning_and_the_courier_does_not_count():
    taken = {"control": 300 * MB, "policy": 600 * MB, "courier": 500 * MB}
    assert processes.judge(taken, [], 1200 * MB).verdict is Verdict.GOOD
    close = processes.judge(taken, ["renderer"], 950 * MB)
    assert close.verdict is Verdict.WARNING and "renderer cannot be looked into" in close.what
