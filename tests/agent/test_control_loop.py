from threading import Event

import numpy as np
import pytest

from lefleet_agent.control.clock import Schedule, SystemClock
from lefleet_agent.control.loop import ControlLoop
from lefleet_agent.control.safety import Limits
from lefleet_agent.episode import EpisodeInfo, Frame, Observation, Outcome
from lefleet_agent.policies.scripted import ScriptedPolicy
from lefleet_agent.policy import ActionChunk
from lefleet_agent.robots.fake import FakeRobot

PERIOD_NS = 20_000_000


class FakeClock:
    """Time passes only by sleeping, and by what `late` adds at given ticks."""

    def __init__(self, late: dict[int, int] | None = None) -> None:
        self.now_ns = 1_000
        self.slept = 0
        self._late = late or {}

    def monotonic_ns(self) -> int:
        return self.now_ns

    def wall_ns(self) -> int:
        return 10**18 + self.now_ns

    def sleep_until(self, monotonic_ns: int) -> None:
        self.now_ns = max(self.now_ns, monotonic_ns) + self._late.get(self.slept, 0)
        self.slept += 1


class ListSink:
    def __init__(self, room: int = 10**9) -> None:
        self.frames: list[Frame] = []
        self.ended: list[tuple[Outcome, bool, str]] = []
        self.room = room

    def begin(self, info: EpisodeInfo) -> None:
        self.info = info

    def add(self, frame: Frame) -> bool:
        if len(self.frames) >= self.room:
            return False
        self.frames.append(frame)
        return True

    def end(self, outcome: Outcome, interrupted: bool, reason: str) -> None:
        self.ended.append((outcome, interrupted, reason))


class NaNPolicy(ScriptedPolicy):
    def infer(self, observation: Observation, task: str) -> ActionChunk:
        chunk = super().infer(observation, task)
        chunk.actions[3:, 2] = np.nan
        return chunk


def limits(robot: FakeRobot, slew: float = 1e9) -> Limits:
    low, high = np.array(robot.info.joint_limits, np.float32).T
    return Limits(low, high, np.full(low.shape, slew, np.float32))


def info(robot: FakeRobot) -> EpisodeInfo:
    return EpisodeInfo("e" * 32, robot.info, None, "wave", 50.0, "test", 0, 0)


def run(robot, sink, clock, policy=None, slew=1e9, stop=None, time_limit_s=1.0, judge=None):
    robot.reset(1)
    loop = ControlLoop(robot, limits(robot, slew), sink, clock, 50.0, stop or Event())
    return loop.run(info(robot), policy or ScriptedPolicy(), time_limit_s, judge)


def test_an_episode_ends_at_its_time_limit_with_one_frame_for_each_tick():
    robot, sink = FakeRobot(), ListSink()
    ended = run(robot, sink, FakeClock(), judge=robot.outcome)
    assert ended.outcome is Outcome.FAILURE and not ended.interrupted
    assert len(sink.frames) == len(robot.sent) == 50
    assert sink.ended == [(Outcome.FAILURE, False, "time limit")]


def test_success_ends_the_episode_at_once():
    robot, sink = FakeRobot(succeeds_after=7), ListSink()
    ended = run(robot, sink, FakeClock(), judge=robot.outcome)
    assert ended.outcome is Outcome.SUCCESS and len(sink.frames) == 7


def test_without_a_judge_the_outcome_is_unknown():
    ended = run(FakeRobot(), ListSink(), FakeClock())
    assert ended.outcome is Outcome.UNKNOWN and not ended.interrupted


def test_ticks_keep_to_absolute_deadlines_and_lateness_is_recorded():
    sink = ListSink()
    run(FakeRobot(), sink, FakeClock(late={4: 3_000_000}))
    ticks = np.array([frame.tick_monotonic_ns for frame in sink.frames])
    lateness = np.array([frame.lateness_ns for frame in sink.frames])
    assert lateness[4] == 3_000_000 and lateness[5] == 0
    np.testing.assert_array_equal(ticks - lateness, ticks[0] + PERIOD_NS * np.arange(len(ticks)))


def test_missed_deadlines_are_skipped_and_never_caught_up_in_a_burst():
    clock = FakeClock(late={2: int(3.4 * PERIOD_NS)})
    schedule = Schedule(clock, 50.0)
    ticks = [schedule.wait()[0] for _ in range(6)]
    gaps = np.diff(ticks) / PERIOD_NS
    np.testing.assert_allclose(gaps, [1, 4.4, 0.6, 1, 1])


def test_the_frame_holds_the_action_as_sent_and_the_action_as_requested():
    robot, sink = FakeRobot(), ListSink()
    run(robot, sink, FakeClock(), policy=ScriptedPolicy(amplitude=50), slew=0.5)
    for frame, sent in zip(sink.frames, robot.sent, strict=True):
        np.testing.assert_array_equal(frame.sent, sent)
    assert any((frame.sent != frame.requested).any() for frame in sink.frames)
    steps = np.abs(np.diff([frame.sent for frame in sink.frames], axis=0))
    assert steps.max() <= 0.5 + 1e-4


def test_a_nan_from_the_policy_is_never_sent_and_interrupts_the_episode():
    robot, sink = FakeRobot(), ListSink()
    ended = run(robot, sink, FakeClock(), policy=NaNPolicy())
    assert len(robot.sent) == len(sink.frames) == 3
    assert ended.interrupted and "elbow_flex" in ended.reason
    assert np.isfinite(robot.sent).all()


def test_a_lost_bus_interrupts_the_episode_and_keeps_its_frames():
    robot, sink = FakeRobot(fails_after=9), ListSink()
    ended = run(robot, sink, FakeClock())
    assert ended.interrupted and "bus" in ended.reason and len(sink.frames) == 9
    assert sink.ended == [(Outcome.UNKNOWN, True, ended.reason)]


def test_stop_ends_the_episode_as_interrupted():
    stop = Event()
    stop.set()
    sink = ListSink()
    assert run(FakeRobot(), sink, FakeClock(), stop=stop).interrupted
    assert sink.ended == [(Outcome.UNKNOWN, True, "stopped")]


def test_an_unforeseen_failure_still_ends_the_recording():
    class Broken(ScriptedPolicy):
        def infer(self, observation: Observation, task: str) -> ActionChunk:
            raise ZeroDivisionError

    sink = ListSink()
    with pytest.raises(ZeroDivisionError):
        run(FakeRobot(), sink, FakeClock(), policy=Broken())
    assert sink.ended == [(Outcome.UNKNOWN, True, "the control process failed")]


def test_a_full_recorder_does_not_stop_the_arm():
    robot, sink = FakeRobot(), ListSink(room=5)
    ended = run(robot, sink, FakeClock(), judge=robot.outcome)
    assert ended.outcome is Outcome.FAILURE and len(robot.sent) == 50 and len(sink.frames) == 5


def test_the_policy_is_asked_only_when_its_chunk_has_been_played():
    sink = ListSink()
    run(FakeRobot(), sink, SystemClock(), policy=ScriptedPolicy(steps=20))
    assert [i for i, frame in enumerate(sink.frames) if frame.inference_ns] == [0, 20, 40]
