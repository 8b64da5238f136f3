"""A policy in its own process: answers, dies, hangs and is stopped without control waiting for it."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from lefleet_agent.episode import PolicyInfo
from lefleet_agent.policies.process import PolicyOptions, PolicyProcess, Wanted
from lefleet_agent.policies.worker import scripted_main
from lefleet_agent.policy import PolicyError
from lefleet_agent.release import describe
from lefleet_agent.robots.fake import FakeRobot
from lefleet_agent.robots.so101_sim import So101SimRobot

OPTIONS = PolicyOptions(30.0, "overlap", "cpu", "fp32", 0.5, 1)
CHECKPOINT = Path(__file__).parents[2] / "agent" / "demo" / "checkpoint"


def wanted(folder: Path = Path("/nowhere"), robot=None, info: PolicyInfo | None = None) -> Wanted:
    robot = robot or FakeRobot("robot-1").info
    return Wanted(folder, info or PolicyInfo("lab/policy", "c" * 40, "d" * 64, "act", {}), robot, OPTIONS)


@pytest.fixture
def start() -> Iterator[Callable[..., PolicyProcess]]:
    started: list[PolicyProcess] = []

    def make(what: Wanted | None = None, main=scripted_main) -> PolicyProcess:
        started.append(PolicyProcess.start(what or wanted(), None, lambda: False, 120, main))
        return started[-1]

    yield make
    for each in started:
        if each.pid is not None and Path(f"/proc/{each.pid}").exists():
            each.close()


def answer(runner: PolicyProcess, wait_s: float = 30):
    chunk = runner.answer(wait_s)
    assert chunk is not None, f"no answer within {wait_s} s"
    return chunk


def test_it_answers_with_the_chunk_that_the_policy_computes(start):
    runner, robot = start(), FakeRobot("robot-1")
    robot.reset(1)
    runner.reset()
    assert runner.traits.cameras == ("front", "wrist") and runner.answer() is None
    runner.ask([robot.observe()], "task", None)
    chunk = answer(runner)
    assert chunk.actions.shape == (50, 6)
    np.testing.assert_allclose(chunk.actions[0], robot.observe().joints, atol=1)


def test_an_answer_to_a_question_of_the_last_episode_is_dropped(start):
    runner, robot = start(), FakeRobot("robot-1")
    robot.reset(1)
    runner.ask([robot.observe()], "task", None)
    runner.reset()
    assert runner.answer(0.5) is None
    robot.send(np.full(6, 60, np.float32))
    runner.ask([robot.observe()], "task", None)
    assert answer(runner).actions[0, 0] > 50


def test_a_killed_policy_is_said_at_the_next_question_and_names_the_likely_reason(start):
    runner, robot = start(), FakeRobot("robot-1")
    os.kill(runner.pid, signal.SIGKILL)
    with pytest.raises(PolicyError, match="killed, most likely for want of memory"):
        while True:
            runner.ask([robot.observe()], "task", None)
            runner.answer(0.2)


def test_a_hung_policy_delays_nobody_and_can_be_ended(start):
    runner, robot = start(), FakeRobot("robot-1")
    os.kill(runner.pid, signal.SIGSTOP)
    runner.ask([robot.observe()], "task", None)
    assert runner.answer() is None and runner.answer(0.2) is None
    runner.close()
    assert not Path(f"/proc/{runner.pid}").exists()


def test_signals_for_the_whole_group_do_not_end_it_control_does(start):
    runner, robot = start(), FakeRobot("robot-1")
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(runner.pid, number)
    runner.ask([robot.observe()], "task", None)
    assert answer(runner).actions.shape == (50, 6)


def test_it_is_the_first_that_the_kernel_ends_for_want_of_memory_and_has_a_name_of_its_own(start):
    folder = Path(f"/proc/{start().pid}")
    assert int((folder / "oom_score_adj").read_text()) == 500 > int(Path("/proc/self/oom_score_adj").read_text())
    assert (folder / "comm").read_text() == "lefleet-policy\n"


def test_it_says_what_it_computes_on_and_drops_what_it_was_asked_before(start):
    runner, robot = start(), FakeRobot("robot-1")
    runner.ask([robot.observe()], "task", None)
    assert runner.computing().device == "cpu"
    assert runner.answer(0.2) is None


def test_stopping_while_a_policy_loads_ends_its_process():
    begun = time.monotonic()
    pids = []

    def give_up() -> bool:
        pids.extend(_children())
        return time.monotonic() - begun > 1

    with pytest.raises(PolicyError, match="stopped while the policy was loading"):
        PolicyProcess.start(wanted(CHECKPOINT), None, give_up, 120)
    assert pids and not any(Path(f"/proc/{pid}").exists() for pid in pids)


def _children() -> list[int]:
    """This process' own children whose command line says that multiprocessing spawned them for a policy."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
            command = (path.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(fields[1]) == os.getpid() and b"spawn_main" in command:
            found.append(int(path.parent.name))
    return found


def test_a_lerobot_policy_is_loaded_and_acts_there_and_a_wrong_one_is_refused_by_its_sentence(start):
    robot = So101SimRobot("robot-1", cameras=())
    robot.connect()
    robot.reset(500)
    runner = start(wanted(CHECKPOINT, robot.info, describe(CHECKPOINT, "lefleet/demo", "0" * 40)), None)
    assert (runner.traits.execute_steps, runner.traits.cameras, runner.traits.history) == (10, (), 1)
    runner.ask([robot.observe()], "Pick up the cube", None)
    chunk = answer(runner)
    assert chunk.actions.shape == (20, 6) and np.isfinite(chunk.actions).all() and chunk.inference_ns > 0
    computing = runner.computing()
    assert (computing.device, computing.precision, computing.gpu_allocated_peak_bytes) == ("cpu", "fp32", None)
    assert computing.torch and computing.name
    with pytest.raises(PolicyError, match="only a simulator knows the object's pose"):
        start(wanted(CHECKPOINT), None)
