"""Whether a policy keeps up and fits: the verdict, and the real policy measured by the command."""

import itertools
import json
import os
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from lefleet_agent.files import replace
from lefleet_agent.fit import host, report
from lefleet_agent.fit.measure import Amount, Timing, measure, observations
from lefleet_agent.liveness import UNTIL
from lefleet_agent.occupied import arm_held
from lefleet_agent.policies.inline import InlineRunner
from lefleet_agent.policies.scripted import ScriptedPolicy
from lefleet_agent.policy import Computing, PolicyError
from lefleet_agent.release import describe
from lefleet_agent.robots.fake import FakeRobot

CHECKPOINT = Path(__file__).parents[2] / "agent" / "demo" / "checkpoint"
MS = 10**6
MB = 10**6
CPU = Computing("cpu", "a processor", "fp32", "2.11")


class Following(ScriptedPolicy):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(steps=20, execute_steps=10)
        self.asked: list = []

    def infer(self, seen, task, played=None):
        self.asked.append((len(seen), played))
        return super().infer(seen, task)


def taken(policy: ScriptedPolicy, continues: bool = False, chunks: int = 5, limit_s: float = 60.0, **changes):
    seen = observations(FakeRobot("robot-1").info)
    arguments = {"progress": lambda _: None, "stopped": lambda: False} | changes
    return measure(InlineRunner(policy), seen, "task", 30.0, continues, Amount(chunks, limit_s), 10.0, **arguments)


def test_observations_are_random_of_the_robots_shapes_and_the_same_for_the_same_seed(robot):
    first, second = itertools.islice(observations(robot), 2)
    (again,) = itertools.islice(observations(robot), 1)
    assert first.images["wrist"].rgb.shape == (32, 40, 3) and first.environment.shape == (3,)
    for seen in (first, second):
        low, high = np.array(robot.joint_limits).T
        assert (low <= seen.joints).all() and (seen.joints <= high).all() and seen.images["front"].rgb.std() > 50
    np.testing.assert_array_equal(first.joints, again.joints)
    np.testing.assert_array_equal(first.images["front"].rgb, again.images["front"].rgb)
    assert (first.joints != second.joints).any()


def test_the_first_chunk_is_not_counted_and_progress_is_told():
    policy, told = Following(), []
    timings = taken(policy, progress=told.append)
    assert len(timings) == 5 and len(policy.asked) == 6 and told == [0, 1, 2, 3, 4, 5]
    assert all(each.steps == 20 and each.total_ns > each.inference_ns for each in timings)


def test_a_slow_policy_is_measured_less_often_but_twice():
    assert len(taken(Following(), limit_s=0.0)) == 2


def test_real_time_chunking_is_measured_with_a_chunk_that_plays():
    policy = Following()
    taken(policy, continues=True)
    first, *others = (played for _, played in policy.asked)
    assert first is None and all(each.steps == 10 and each.delay >= 1 for each in others)


def test_being_stopped_ends_it_with_a_sentence():
    with pytest.raises(PolicyError, match="stopped while its chunks were measured"):
        taken(Following(), stopped=lambda: True)


def speed(chunk_ms: float, mode: str = "overlap", execute_steps: int = 10, steps: int = 20) -> report.Speed:
    timings = [Timing(round(chunk_ms * MS), MS, round((chunk_ms - 1) * MS), steps)] * 10
    return report.speed(timings, 3.0, execute_steps, 30.0, mode, 2.0)


def room(peak_mb: int = 900, available_mb: int = 6000, computing: Computing = CPU) -> report.Memory:
    return report.memory(computing, peak_mb * MB, available_mb * MB, 8000 * MB)


def said(speed: report.Speed, memory: report.Memory, computing: Computing = CPU) -> str:
    return "\n".join(report.advice(speed, memory, computing, threads=1, cores=6))


def test_a_chunk_may_take_as_long_as_the_one_before_plays():
    fast = speed(100)
    assert fast.allowed_ms == pytest.approx(333.333) and fast.margin == pytest.approx(3.33, abs=0.01)
    assert said(fast, room()) == ""


def test_in_mode_sync_the_arm_waits_and_the_limit_is_that_of_holding_still():
    assert speed(1900, "sync").margin > 1 > speed(2100, "sync").margin
    assert "safety.hold_limit_s = 2" in said(speed(2100, "sync"), room())


def test_a_slow_policy_is_told_what_would_help():
    told = said(speed(450), room())
    assert "n_action_steps: 14 in" in told and "policy.threads: 6 (now 1)" in told and "policy.device: cuda" in told
    hopeless = said(speed(900), room())
    assert "a chunk has 20 steps, and 27 pass" in hopeless
    gpu = Computing("cuda", "Orin", "fp32", "2.11", 1, 1, 1, True)
    assert "policy.precision: bf16" in said(speed(450), room(), gpu)


def test_a_gpu_that_shares_the_machines_memory_counts_there_and_another_does_not():
    own = Computing("cuda", "a card", "fp32", "2.11", 1500 * MB, 2000 * MB, 6000 * MB, False)
    shared = Computing("cuda", "Orin", "fp32", "2.11", 1500 * MB, 2000 * MB, 3000 * MB, True)
    assert room(1200, 3000, own).fits and room(1200, 3000, own).gpu_available_bytes == 8000 * MB
    assert not room(1200, 3000, shared).fits and room(1200, 4100, shared).fits
    assert "1000 MB of memory are missing" in said(speed(1), room(1200, 3000, shared), shared)


def test_a_boards_model_is_read_without_its_nul(tmp_path):
    (tmp_path / "model").write_text("NVIDIA Jetson Orin Nano Developer Kit\0")
    assert host.model(tmp_path / "model") == "NVIDIA Jetson Orin Nano Developer Kit"
    assert host.model(tmp_path / "none") is None


def test_a_result_that_cannot_be_written_names_the_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(report.FitFileError, match="--output"):
        report.write(tmp_path / "file" / "result.json", {})


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "agent.yml"
    values = {"robot_id": "robot-1", "server_url": "http://127.0.0.1:9", "state_dir": str(tmp_path / "state")}
    path.write_text(yaml.safe_dump(values | {"policy": {"device": "cpu"}}))
    return path


def test_the_command_measures_the_real_policy_and_writes_what_it_prints(tmp_path, config, agent_command):
    command = agent_command("fit", CHECKPOINT, "--config", config, "--chunks", "5", "--json")
    done = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    found = json.loads(done.stdout)
    assert done.returncode == (0 if found["keeps_up"] and found["fits_memory"] else 1), done.stderr
    digest = describe(CHECKPOINT, "checkpoint", "").digest
    assert json.loads((tmp_path / "state" / "fit" / f"{digest}.json").read_text()) == found
    assert found["format"] == 1 and found["policy"]["digest"] == digest and found["speed"]["chunks"] == 5
    assert found["memory"]["process_peak_bytes"] > 100 * MB and found["memory"]["gpu_allocated_peak_bytes"] is None
    assert found["speed"]["load_s"] > 0 and found["speed"]["inference_ms"]["p50"] > 0
    documented = (Path(__file__).parents[2] / "docs" / "fit-format.md").read_text()
    assert [path for path in fields(found) if f"| `{path}` |" not in documented] == []


def fields(values: dict, prefix: str = "") -> list[str]:
    found = []
    for name, value in values.items():
        whole = prefix + name
        if isinstance(value, dict) and name not in {"settings", "cameras"} and not {"p50", "p99"} <= value.keys():
            found += fields(value, f"{whole}.")
        else:
            found.append(whole)
    return found


@pytest.mark.parametrize(("words", "sentence"), [(("fit",), "no release is active"), (("fit", "."), "is missing")])
def test_without_a_policy_it_says_so(tmp_path, config, agent_command, words, sentence):
    command = agent_command(*words, "--config", config)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)
    assert done.returncode == 1 and sentence in done.stderr


def test_it_is_refused_while_another_command_has_the_arm_and_not_for_what_control_last_said(
    tmp_path, config, agent_command
):
    run = tmp_path / "state" / "run"
    run.mkdir(parents=True)
    told = {"state": "idle", UNTIL: time.monotonic_ns() + 10**12, "control_pid": os.getpid()}
    replace(run / "control.json", json.dumps(told).encode())

    def fit() -> subprocess.CompletedProcess[str]:
        command = agent_command("fit", "--config", config)
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    with arm_held(run, "run", ""):
        refused = fit()
    assert refused.returncode == 1 and "control is running (idle): a second policy" in refused.stderr
    assert "no release is active" in fit().stderr
