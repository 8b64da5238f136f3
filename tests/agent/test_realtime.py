"""Real-time scheduling of control, tried in processes of their own: what the kernel grants, and what it refuses."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, multiprocessing, os, threading
from lefleet_agent import realtime

def mine():
    return [os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK, os.sched_getparam(0).sched_priority]

found = {}
def thread(name, rank=None):
    def run():
        if rank:
            realtime.follow(rank)
        found[name] = mine()
    each = threading.Thread(target=run)
    each.start()
    each.join()

thread("before", realtime.Rank.BUS)
found["claimed"] = realtime.claim()
found["control"] = mine()
thread("bus", realtime.Rank.BUS)
thread("camera", realtime.Rank.CAMERA)
thread("other")
child = os.fork()
if child == 0:
    os._exit(0 if mine() == [os.SCHED_OTHER, 0] else 1)
found["child"] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps(found))
"""
NORMAL = [os.SCHED_OTHER, 0]


def tried(*before: str) -> tuple[dict, str]:
    done = subprocess.run([*before, sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *said, last = done.stdout.strip().splitlines()
    return json.loads(last), "\n".join(said) + done.stderr


def is_granted() -> bool:
    """Whether this machine grants it to the tests at all."""
    word = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(3))"
    return subprocess.run([sys.executable, "-c", word], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not is_granted(), reason="needs root or a limit on rtprio")
def test_control_its_bus_and_its_cameras_run_first_and_nothing_that_they_start():
    found, _ = tried()
    assert found["claimed"] and found["control"] == [os.SCHED_FIFO, 3]
    assert (found["bus"], found["camera"]) == ([os.SCHED_FIFO, 2], [os.SCHED_FIFO, 1])
    assert found["before"] == found["other"] == NORMAL, "only those that follow, and only after the claim"
    assert found["child"] == 0, "the recorder and the policy are ordinary processes"


@pytest.mark.skipif(is_granted() and os.geteuid() != 0, reason="needs root, to give it up")
def test_where_the_kernel_refuses_control_runs_all_the_same_and_says_what_helps():
    without = ["setpriv", "--bounding-set=-sys_nice", "prlimit", "--rtprio=0"] if is_granted() else []
    found, said = tried(*without)
    assert not found["claimed"]
    assert found["control"] == found["bus"] == NORMAL
    assert "rtprio of 3" in said and "--ulimit rtprio=3" in said
