import numpy as np
import pytest

from lefleet_agent.control.chunks import Mode, Player
from lefleet_agent.control.clock import Schedule, SystemClock
from lefleet_agent.control.ended import Cause, Ended
from lefleet_agent.control.judge import SceneJudge
from lefleet_agent.control.loop import ControlLoop, Pace
from lefleet_agent.control.safety import Freshness, Limits
from lefleet_agent.episode import CameraImage, EpisodeInfo, Frame, Observation, Outcome
from lefleet_agent.policies.inline import InlineRunner
from lefleet_agent.policies.scripted import ScriptedPolicy
from lefleet_agent.policy import ActionChunk, PolicyError
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
    def infer(self, seen, task, played=None) -> ActionChunk:
        chunk = super().infer(seen, task)
        chunk.actions[3:, 2] = np.nan
        return chunk


def limits(robot: FakeRobot, slew: float = 1e9) -> Limits:
    low, high = np.array(robot.info.joint_limits, np.float32).T
    return Limits(low, high, np.full(low.shape, slew, np.float32))


class People:
    """What is asked for: `wish`, once `after` ticks have been asked about."""

    def __init__(self, wish: Ended | None = None, after: int = 0) -> None:
        self.wish = wish
        self.after = after

    def wants(self) -> Ended | None:
        self.after -= 1
        return self.wish if self.after < 0 else None

    def emergency(self) -> str | None:
        wish = self.wants()
        return wish.reason if wish and wish.cause is Cause.EMERGENCY else None


STOPPED = Ended(Outcome.UNKNOWN, True, "stopped", Cause.STOPPED)
EMERGENCY = Ended(Outcome.UNKNOWN, True, "emergency stop", Cause.EMERGENCY)


def info(robot: FakeRobot) -> EpisodeInfo:
    return EpisodeInfo("e" * 32, robot.info, None, "wave", 50.0, "test", 0, 0)


def make_loop(robot, sink, clock, slew=1e9, people=None, freshness=None, **pace) -> ControlLoop:
    fresh = freshness or Freshness(1e9, 1e9)  # the fake clock and the fake robot's disagree
    return ControlLoop(robot, limits(robot, slew), fresh, sink, clock, Pace(50.0, **pace), people or People())


def player(runner, clock, **limits) -> Player:
    return Player(runner, Mode.OVERLAP, 50.0, 0.2, clock, **limits)


def run(robot, sink, clock, policy=None, time_limit_s=1.0, judge=None, **changes):
    robot.reset(1)
    driver = player(InlineRunner(policy or ScriptedPolicy(hz=50.0)), clock)
    return make_loop(robot, sink, clock, **changes).run(info(robot), driver, time_limit_s, judge)


def test_an_episode_ends_at_its_time_limit_with_one_frame_for_each_tick():
    robot, sink = FakeRobot(), ListSink()
    ended = run(robot, sink, FakeClock(), judge=SceneJudge(robot.outcome))
    assert ended.outcome is Outcome.FAILURE and not ended.interrupted
    assert len(sink.frames) == len(robot.sent) == 50
    assert sink.ended == [(Outcome.FAILURE, False, "time limit")]


def test_success_ends_the_episode_at_once():
    robot, sink = FakeRobot(succeeds_after=7), ListSink()
    ended = run(robot, sink, FakeClock(), judge=SceneJudge(robot.outcome))
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


def test_stop_ends_the_episode_as_interrupted_at_the_next_tick():
    sink = ListSink()
    assert run(FakeRobot(), sink, FakeClock(), people=People(STOPPED, after=3)) == STOPPED
    assert sink.ended == [(Outcome.UNKNOWN, True, "stopped")] and len(sink.frames) == 3


def test_a_person_ends_the_episode_with_an_outcome():
    sink = ListSink()
    word = Ended(Outcome.SUCCESS, False, "the operator ended it", Cause.OPERATOR)
    assert run(FakeRobot(), sink, FakeClock(), people=People(word, after=5)) == word
    assert sink.ended == [(Outcome.SUCCESS, False, "the operator ended it")]


def test_an_emergency_stop_sends_nothing_more():
    robot, sink = FakeRobot(), ListSink()
    ended = run(robot, sink, FakeClock(), people=People(EMERGENCY, after=4))
    assert ended is EMERGENCY and len(robot.sent) == 4


def test_an_unforeseen_failure_still_ends_the_recording():
    class Broken(ScriptedPolicy):
        def infer(self, seen, task, played=None) -> ActionChunk:
            if seen[-1].joints.any():
                self.asked = getattr(self, "asked", 0) + 1
            if self.asked > 1:
                raise ZeroDivisionError
            return super().infer(seen, task)

    sink = ListSink()
    with pytest.raises(ZeroDivisionError):
        run(FakeRobot(), sink, FakeClock(), policy=Broken(steps=5))
    assert sink.ended == [(Outcome.UNKNOWN, True, "the control process failed")]


def test_a_full_recorder_does_not_stop_the_arm():
    robot, sink = FakeRobot(), ListSink(room=5)
    ended = run(robot, sink, FakeClock(), judge=SceneJudge(robot.outcome))
    assert ended.outcome is Outcome.FAILURE and len(robot.sent) == 50 and len(sink.frames) == 5


def test_the_policy_is_asked_before_its_chunk_has_been_played():
    sink = ListSink()
    run(FakeRobot(), sink, SystemClock(), policy=ScriptedPolicy(steps=20))
    asked = [i for i, frame in enumerate(sink.frames) if frame.inference_ns]
    assert asked[0] == 0 and all(0 < gap < 20 for gap in np.diff(asked)) and not any(f.held for f in sink.frames)


def test_a_frame_says_how_long_each_stage_took_and_how_old_its_observation_is():
    sink = ListSink()
    run(FakeRobot(), sink, SystemClock(), policy=ScriptedPolicy(steps=20))
    assert all(frame.read_ns > 0 and frame.send_ns > 0 for frame in sink.frames)
    ages = np.array([frame.tick_monotonic_ns - frame.observed_ns for frame in sink.frames])
    assert ages.max() < 1e9 and ages.min() > -1e9


def test_a_policy_that_never_answers_first_raises_and_nothing_is_recorded_or_moved():
    class Silent(InlineRunner):
        def answer(self, wait_s=0.0):
            clock.now_ns += round(wait_s * 1e9)

    robot, sink, clock = FakeRobot(), ListSink(), FakeClock()
    robot.reset(1)
    driver = player(Silent(ScriptedPolicy()), clock, first_action_limit_s=3)
    with pytest.raises(PolicyError, match="no actions within 3 s"):
        make_loop(robot, sink, clock).run(info(robot), driver, 1.0, None)
    assert not robot.sent and not sink.frames and not sink.ended


class Stalled(InlineRunner):
    """Answers once."""

    def ask(self, seen, task, played):
        if not getattr(self, "asked", False):
            super().ask(seen, task, played)
        self.asked = True


def test_an_arm_without_actions_holds_its_last_target_and_ends_as_interrupted_after_the_limit():
    robot, sink = FakeRobot(), ListSink()
    robot.reset(1)
    clock = FakeClock()
    loop = make_loop(robot, sink, clock, hold_limit_s=0.5)
    ended = loop.run(info(robot), player(Stalled(ScriptedPolicy(steps=10)), clock), 10.0, None)
    assert ended.cause is Cause.POLICY and ended.interrupted and "0.5 s" in ended.reason
    assert [frame.held for frame in sink.frames] == [False] * 10 + [True] * 26
    np.testing.assert_array_equal(robot.sent[9:], [robot.sent[9]] * 27)


class FrozenCamera(FakeRobot):
    """The front camera gives no picture after `pictures`."""

    def __init__(self, clock: FakeClock, pictures: int, comes_back: int = 10**9) -> None:
        super().__init__(monotonic_ns=clock.monotonic_ns)
        self.pictures, self.comes_back = pictures, comes_back
        self.frozen: CameraImage | None = None

    def observe(self) -> Observation:
        seen = super().observe()
        if self.pictures <= len(self.sent) < self.comes_back:
            self.frozen = self.frozen or seen.images["front"]
            return Observation(seen.joints, seen.images | {"front": self.frozen}, seen.read_monotonic_ns)
        return seen


FRESH = Freshness(0.2, 0.2)


def front() -> ScriptedPolicy:
    return ScriptedPolicy(hz=50.0, cameras=("front",))


def test_a_frozen_camera_that_the_policy_looks_at_makes_the_arm_hold_then_ends_the_episode():
    clock = FakeClock()
    robot, sink = FrozenCamera(clock, pictures=10), ListSink()
    ended = run(
        robot,
        sink,
        clock,
        policy=ScriptedPolicy(hz=50.0, cameras=("front",)),
        freshness=FRESH,
        time_limit_s=20,
        hold_limit_s=1.0,
    )
    assert ended.cause is Cause.ROBOT and "camera front gave its last picture" in ended.reason
    held = [frame.held for frame in sink.frames]
    assert held.index(True) == 21 and all(held[21:])
    assert len({tuple(sent) for sent in robot.sent[20:]}) == 1


def test_a_camera_that_comes_back_in_time_lets_the_arm_go_on_without_a_jump():
    clock = FakeClock()
    robot, sink = FrozenCamera(clock, pictures=10, comes_back=40), ListSink()
    ended = run(robot, sink, clock, policy=front(), freshness=FRESH, slew=1.0)
    assert not ended.interrupted and [frame.held for frame in sink.frames].count(True) == 19
    assert np.abs(np.diff(robot.sent, axis=0)).max() <= 1.0 + 1e-4


def test_a_frozen_camera_that_the_policy_does_not_look_at_stops_nothing():
    clock = FakeClock()
    ended = run(
        FrozenCamera(clock, 10), ListSink(), clock, policy=ScriptedPolicy(hz=50.0, cameras=("wrist",)), freshness=FRESH
    )
    assert not ended.interrupted


def test_parking_goes_slowly_and_an_emergency_stop_ends_it():
    robot = FakeRobot()
    robot.reset(1)
    loop = make_loop(robot, ListSink(), FakeClock())
    target = np.full(6, 20, np.float32)
    assert loop.move(target, speed_per_s=30, limit_s=10)
    np.testing.assert_allclose(robot.sent[-1], target, atol=0.25)
    assert np.abs(np.diff(robot.sent, axis=0)).max() <= 30 / 50 + 1e-4
    stopped = make_loop(robot, ListSink(), FakeClock(), people=People(EMERGENCY, after=2))
    sent = len(robot.sent)
    assert not stopped.move(np.zeros(6, np.float32), 30, 10) and len(robot.sent) == sent + 2


class Stepping(FakeRobot):
    """Its motors take whole encoder steps, 4096 a turn."""

    def send(self, action):
        return super().send(np.round(action * (4096 / 360)).astype(np.float32) * np.float32(360 / 4096))


def test_motors_that_take_whole_steps_are_parked_however_slowly():
    robot = Stepping()
    robot.reset(1)
    target = robot.observe().joints + 3
    assert make_loop(robot, ListSink(), FakeClock()).move(target, speed_per_s=1, limit_s=10)
    np.testing.assert_allclose(robot.sent[-1], target, atol=0.25)
