"""Who counts as alive, and until when."""

import json
import time

import pytest

from lefleet_agent import liveness
from lefleet_agent.courier.state import CourierFile
from lefleet_agent.liveness import UNTIL, Pulse, control_until_ns

S = 10**9


@pytest.mark.parametrize(
    ("state", "heard_s_ago", "left_s"),
    [("running", 0, 60), ("running", 59, 1), ("idle", 61, -1), ("loading", 61, 60), ("loading", 590, 10)],
)
def test_control_may_be_silent_longer_while_it_loads(state, heard_s_ago, left_s):
    now_ns = 10_000 * S
    assert control_until_ns(now_ns, now_ns - heard_s_ago * S, state, 60.0) == now_ns + left_s * S


def test_the_first_thread_that_is_overdue_ends_a_process_life():
    now = [100 * S]
    pulse = Pulse(lambda: now[0])
    pulse.expect("upload", 600)
    pulse.expect("heartbeat", 20)
    assert pulse.until_ns(30) == 120 * S
    pulse.expect("heartbeat", 200)
    assert pulse.until_ns(30) == 130 * S, "who writes it down may hang too"


def write(run, part, **values):
    run.mkdir(exist_ok=True)
    (run / f"{part}.json").write_text(json.dumps(values))


def test_health_says_what_is_wrong(tmp_path):
    run = tmp_path / "run"
    assert "has not started" in liveness.health(run, "control", 5 * S).detail
    write(run, "control", state="running", **{UNTIL: 7 * S})
    assert liveness.health(run, "control", 5 * S).alive
    silent = liveness.health(run, "control", 9 * S)
    assert not silent.alive and "silent: overdue for 2 s" in silent.detail
    write(run, "control", state="stopped", detail="the control process died", **{UNTIL: 7 * S})
    assert "the control process died" in liveness.health(run, "control", 5 * S).detail
    write(run, "control", state="running")
    assert "cannot be read" in liveness.health(run, "control", 5 * S).detail


def test_the_courier_writes_its_life_down_and_a_full_disk_does_not_end_it(tmp_path):
    tell = CourierFile(tmp_path / "run" / "courier.json", Pulse())
    assert tell() == 1.0
    assert liveness.health(tmp_path / "run", "courier", time.monotonic_ns()).alive
    (tmp_path / "run" / "courier.json").unlink()
    (tmp_path / "run").rmdir()
    (tmp_path / "run").write_text("in the way")
    assert tell() == 1.0
