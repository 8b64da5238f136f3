"""A person at the leader arm: taking over from a policy in the middle of an episode, handing back, leading it all."""

from collections.abc import Callable

import numpy as np
import pytest
from test_control_loop import EMERGENCY, FakeClock, ListSink, People, info, make_loop

from lefleet_agent.control.chunks import Mode, Player
from lefleet_agent.control.ended import Cause
from lefleet_agent.control.following import Assisted, Following, Join
from lefleet_agent.control.safety import Freshness
from lefleet_agent.episode import Observation, Outcome
from lefleet_agent.policies.inline import InlineRunner
from lefleet_agent.policies.scripted import ScriptedPolicy
from lefleet_agent.robots.fake import FakeLeader, FakeRobot

HZ = 50.0
POSE = np.array([40, -30, 20, 10, -5, 60], np.float32)


class Asked(InlineRunner):
    """Notes the joints at each question; `late` answers come only when it is asked for so many times."""

    def __init__(self, policy: ScriptedPolicy, late: int = 0) -> None:
        super().__init__(policy)
        self.questions: list[np.ndarray] = []
        self.resets = 0
        self._late, self._waited = late, 0

    def reset(self) -> None:
        self.resets += 1
        super().reset()

    def ask(self, seen, task, played) -> None:
        self.questions.append(seen[-1].joints)
        self._waited = 0
        super().ask(seen, task, played)

    def answer(self, wait_s: float = 0.0):
        self._waited += 1
        if self._waited <= self._late and len(self.questions) > 1:
            return None
        return super().answer(wait_s)


class Lab:
    """An arm, its policy and a leader arm, with a hand on it in the ticks that `taken` names."""

    def __init__(self, taken: range, slew: float = 1e9, late: int = 0, **policy) -> None:
        self.clock = FakeClock()
        self.robot = FakeRobot(monotonic_ns=self.clock.monotonic_ns)
        self.robot.reset(1)
        self.leader = FakeLeader(self.clock.monotonic_ns)
        self.leader.joints = POSE
        self.sink = ListSink()
        self.slew = slew
        self.taken = taken
        self.runner = Asked(ScriptedPolicy(hz=HZ, **policy), late)
        self.each: Callable[[int], None] = lambda tick: None

    def run(self, seconds: float = 2.0, people: People | None = None, freshness: Freshness | None = None):
        player = Player(self.runner, Mode.OVERLAP, HZ, 0.2, self.clock)
        following = Following(self.leader, self.clock, HZ, 0.4, 0.2)
        driver = Assisted(player, following, Join(0.4, HZ), self.is_taken)
        fresh = freshness or Freshness(1e9, 1e9)
        loop = make_loop(self.robot, self.sink, self.clock, self.slew, people, fresh, hold_limit_s=0.5)
        return loop.run(info(self.robot), driver, seconds, None)

    def is_taken(self) -> list[str]:
        tick = len(self.robot.sent)
        self.each(tick)
        return ["pedal"] if tick in self.taken else []

    def steps(self) -> np.ndarray:
        return np.abs(np.diff([frame.sent for frame in self.sink.frames], axis=0))


def test_a_person_leads_the_arm_in_the_ticks_that_are_marked_and_nowhere_else():
    lab = Lab(range(20, 60))
    ended = lab.run()
    assert not ended.interrupted
    assert [frame.intervention for frame in lab.sink.frames] == [20 <= tick < 60 for tick in range(100)]
    assert not any(frame.held for frame in lab.sink.frames)
    for frame in lab.sink.frames[20:60]:
        np.testing.assert_array_equal(frame.requested, POSE)
    for frame in lab.sink.frames[39:60]:
        np.testing.assert_allclose(frame.sent, POSE, atol=1e-4)


def test_taking_over_and_handing_back_are_no_jumps():
    lab = Lab(range(20, 60), amplitude=2)
    lab.run()
    farthest = np.abs(POSE - lab.sink.frames[19].sent).max()
    assert lab.steps().max() <= farthest / 20 + 1
    assert lab.steps()[19:40].max() > 1


def test_the_leader_obeys_the_slew_limit_and_the_joints_range():
    lab = Lab(range(20, 100), slew=0.5)
    lab.leader.joints = np.array([500, -500, 0, 0, 0, 300], np.float32)
    lab.run(10)
    assert lab.steps().max() <= 0.5 + 1e-4
    assert lab.sink.frames[-1].sent[5] <= 100


def test_what_the_policy_had_planned_is_not_played_on_after_a_hand_back():
    lab = Lab(range(20, 60), steps=90, amplitude=2)
    lab.run()
    assert len(lab.runner.questions) == 2 and lab.runner.resets == 3
    np.testing.assert_allclose(lab.runner.questions[1], POSE, atol=1e-4)
    assert np.abs(lab.sink.frames[-1].sent - POSE).max() < 5, "it goes on from where the person left the arm"


def test_the_arm_holds_where_the_person_left_it_until_the_policy_answers():
    lab = Lab(range(20, 60), late=10, steps=90, amplitude=2)
    lab.run()
    waiting = lab.sink.frames[60:70]
    assert [frame.held for frame in lab.sink.frames].count(True) >= 9
    assert all(not frame.intervention and np.allclose(frame.sent, POSE, atol=1e-4) for frame in waiting)


def test_a_lost_leader_is_a_hold_and_then_the_end_of_the_episode():
    lab = Lab(range(20, 1000))

    def lose(tick: int) -> None:
        lab.leader.lost = "no motor answers on /dev/leader" if tick >= 30 else ""

    lab.each = lose
    ended = lab.run(10)
    assert ended.cause is Cause.LEADER and ended.interrupted and ended.outcome is Outcome.UNKNOWN
    assert ended.reason == "no motor answers on /dev/leader"
    held = lab.sink.frames[30:]
    assert len(held) == 26 and all(frame.held and frame.intervention for frame in held)
    assert len({tuple(frame.sent) for frame in lab.sink.frames[29:]}) == 1


def test_a_leader_that_is_no_longer_read_is_not_followed():
    lab = Lab(range(20, 1000))

    def age(tick: int) -> None:
        lab.leader.age_ns = 10**9 if tick >= 30 else 0

    lab.each = age
    ended = lab.run(10)
    assert ended.cause is Cause.LEADER and "last read 1.0 s ago" in ended.reason


def test_a_leader_that_comes_back_elsewhere_is_joined_without_a_jump():
    lab = Lab(range(0, 1000))

    def away(tick: int) -> None:
        lab.leader.lost = "unplugged" if 40 <= tick < 50 else ""
        lab.leader.joints = POSE if tick < 45 else -POSE + np.float32([0, 0, 0, 0, 0, 100])

    lab.each = away
    assert not lab.run(2).interrupted
    assert lab.steps()[38:].max() <= 80 / 20 + 0.1
    np.testing.assert_allclose(lab.sink.frames[-1].sent, lab.leader.joints, atol=1e-3)


def test_a_lost_leader_does_not_hinder_handing_back():
    lab = Lab(range(20, 40), amplitude=2)

    def lose(tick: int) -> None:
        lab.leader.lost = "unplugged" if tick >= 30 else ""

    lab.each = lose
    assert not lab.run(2).interrupted
    assert not any(frame.held for frame in lab.sink.frames[40:])


def test_a_disk_that_goes_neither_gives_nor_takes_the_arm():
    lab = Lab(range(20, 30), amplitude=2)

    def fail(tick: int) -> None:
        if 10 <= tick < 25 or tick >= 28:
            raise OSError

    lab.each = fail
    lab.run(1)
    assert [frame.intervention for frame in lab.sink.frames] == [tick >= 25 for tick in range(50)]


def test_stale_joints_hold_the_arm_while_a_person_leads_too():
    class Frozen(FakeRobot):
        def observe(self) -> Observation:
            seen = super().observe()
            late_ns = 10**9 if len(self.sent) >= 30 else 0
            return Observation(seen.joints, seen.images, seen.read_monotonic_ns - late_ns)

    lab = Lab(range(20, 1000))
    lab.robot = Frozen(monotonic_ns=lab.clock.monotonic_ns)
    ended = lab.run(10, freshness=Freshness(0.2, 1e9))
    assert ended.cause is Cause.ROBOT and "joints were last read" in ended.reason
    assert all(frame.intervention and frame.held for frame in lab.sink.frames[30:])


def test_an_emergency_stop_stops_a_person_too():
    lab = Lab(range(0, 1000))
    assert lab.run(2, People(EMERGENCY, after=11)) is EMERGENCY
    assert len(lab.robot.sent) == 11


def test_a_person_can_bring_an_arm_to_rest_whose_camera_froze():
    class NoPictures(FakeRobot):
        def observe(self) -> Observation:
            seen = super().observe()
            return Observation(seen.joints, seen.images if len(self.sent) < 25 else {}, seen.read_monotonic_ns)

    lab = Lab(range(30, 1000), cameras=("front",))
    lab.robot = NoPictures(monotonic_ns=lab.clock.monotonic_ns)
    assert not lab.run(2).interrupted
    assert [frame.held for frame in lab.sink.frames] == [25 <= tick < 31 for tick in range(100)]
    np.testing.assert_allclose(lab.sink.frames[-1].sent, POSE, atol=1e-3)


def test_a_lead_without_an_episode_goes_on_until_it_is_done_and_records_nothing():
    lab = Lab(range(0))
    loop = make_loop(lab.robot, lab.sink, lab.clock, freshness=Freshness(1e9, 1e9))
    told: list[str] = []

    def done(seen: Observation, why: str) -> bool:
        told.append(why)
        lab.leader.lost = "unplugged" if len(told) == 30 else ""
        return len(told) == 60

    assert loop.lead(Following(lab.leader, lab.clock, HZ, 0.4, 0.2), done)
    assert told == [""] * 30 + ["unplugged"] + [""] * 29
    np.testing.assert_allclose(lab.robot.sent[-1], POSE, atol=1e-4)
    assert not lab.sink.frames


def test_an_emergency_stop_ends_a_lead():
    lab = Lab(range(0))
    people = People(EMERGENCY, after=5)
    loop = make_loop(lab.robot, lab.sink, lab.clock, people=people, freshness=Freshness(1e9, 1e9))
    assert not loop.lead(Following(lab.leader, lab.clock, HZ, 0.4, 0.2), lambda seen, why: False)
    assert len(lab.robot.sent) == 5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pose_that_is_not_finite_is_not_followed(value):
    lab = Lab(range(20, 1000))
    lab.leader.joints = np.full(6, value, np.float32)
    ended = lab.run(10)
    assert ended.cause is Cause.LEADER and "not finite" in ended.reason and np.isfinite(lab.robot.sent).all()
