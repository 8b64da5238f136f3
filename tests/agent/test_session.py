import dataclasses
from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from lefleet_agent.config import AgentSettings
from lefleet_agent.control.chunks import Mode, Player
from lefleet_agent.control.clock import SystemClock
from lefleet_agent.control.driver import Driver
from lefleet_agent.control.following import Following
from lefleet_agent.control.judge import Certainty
from lefleet_agent.control.loop import ControlLoop, Pace
from lefleet_agent.control.operator import Operator
from lefleet_agent.control.pilot import PersonPilot, PolicyPilot
from lefleet_agent.control.reset import LeaderReset, NoReset, PoseReset, Reset
from lefleet_agent.control.safety import Freshness, Limits
from lefleet_agent.control.session import Session, Surroundings
from lefleet_agent.episode import EpisodeInfo, Frame, Outcome
from lefleet_agent.policies.inline import InlineRunner
from lefleet_agent.policies.scripted import ScriptedPolicy
from lefleet_agent.policy import PolicyError, PolicyRunner
from lefleet_agent.recording.sink import RecorderError
from lefleet_agent.release import ReleaseError
from lefleet_agent.requests import Requests
from lefleet_agent.robot import RobotDisconnected, RobotError
from lefleet_agent.robots.fake import FakeLeader, FakeRobot
from lefleet_agent.verdict import BEGIN, Verdict, Word, leave


class Fleet:
    """Everything a session needs. It stops after `rounds` states of idle, error or spool_full."""

    def __init__(self, rounds: int = 1) -> None:
        self.stop = Event()
        self.rounds = rounds
        self.robot = FakeRobot(succeeds_after=2)
        self.states: list[tuple[str, str]] = []
        self.episodes: list[EpisodeInfo] = []
        self.task = "wave"
        self.digest = "a" * 64
        self.policy = ScriptedPolicy()
        self.estop = Requests(Path("/nowhere/estop"))
        self.loads: list[str] = []
        self.load_error: Exception | None = None
        self.certainty: Certainty | None = None
        self.runner: Callable[[ScriptedPolicy], InlineRunner] = InlineRunner
        self.begin_error: Exception | None = None
        self.room = True
        self.park_pose: np.ndarray | None = None
        self.make_reset: Callable[[ControlLoop, Operator], Reset] = lambda loop, operator: NoReset()
        self.taken_over: Callable[[], list[str]] = list
        self.limit: int | None = None
        self.person: Driver | None = None
        self.asked_to_rest: Callable[[], list[str]] = list
        self.frames = 0
        self.previews = 0
        self.watched = 0
        self.saved: list[tuple[str, EpisodeInfo]] = []

    # the release store
    def active_digest(self) -> str:
        return self.digest

    def load(self) -> InlineRunner:
        self.loads.append(self.digest)
        if self.load_error:
            raise self.load_error
        policy = self.policy
        info = dataclasses.replace(policy.traits.info, repo="lab/act", digest=self.digest)
        policy.traits = dataclasses.replace(policy.traits, info=info)
        return self.runner(policy)

    # the recorder and its sink
    def ensure_alive(self) -> None: ...

    def status(self, values) -> bool:
        self.states.append((values["state"], values["detail"]))
        if values["state"] in ("idle", "error", "spool_full"):
            self.rounds -= 1
            if self.rounds == 0:
                self.stop.set()
        return True

    def preview(self, seen) -> bool:
        self.previews += 1
        return True

    def watch(self, frame: Frame) -> bool:
        self.watched += 1
        return True

    def save_before(self, event: str, info: EpisodeInfo) -> bool:
        self.saved.append((event, info))
        return True

    def begin(self, info: EpisodeInfo) -> None:
        if self.begin_error:
            raise self.begin_error
        self.episodes.append(info)

    def add(self, frame: Frame) -> bool:
        self.frames += 1
        return True

    def end(self, outcome: Outcome, interrupted: bool, reason: str) -> None:
        self.ended = (outcome, interrupted, reason)

    def run(self, **changes) -> None:
        values = {"robot_id": "r", "server_url": "http://127.0.0.1:1", "state_dir": "/nowhere", "pause_s": 0, "seed": 7}
        settings = AgentSettings(**(values | {"control_hz": 200} | changes))
        low, high = np.array(self.robot.info.joint_limits, np.float32).T
        limits = Limits(low, high, np.full(6, 1e3, np.float32))
        operator = Operator(self.estop, self.estop.folder.parent / "run", self.stop)
        pace = Pace(settings.control_hz, settings.safety.hold_limit_s)
        loop = ControlLoop(self.robot, limits, Freshness(), self, SystemClock(), pace, operator)

        def rest() -> list[str]:
            return self.asked_to_rest()

        def drive(runner: PolicyRunner) -> Player:
            return Player(runner, Mode.OVERLAP, settings.control_hz, 0.2, SystemClock())

        pilot = PersonPilot(self.person) if self.person else PolicyPilot(self, drive, self.certainty)
        reset = self.make_reset(loop, operator)
        park_pose, hands = self.park_pose, self.taken_over
        around = Surroundings(lambda: self.room, rest, park_pose, lambda: self.task, reset, hands, self.limit)
        Session(self.robot, pilot, loop, self, operator, around, settings, self.stop).run()


def test_an_episode_names_its_policy_robot_task_and_scene():
    fleet = Fleet()
    fleet.run()
    (info,) = fleet.episodes
    assert (info.policy.digest, info.task, info.seed, info.robot) == (fleet.digest, "wave", 7, fleet.robot.info)
    assert fleet.ended == (Outcome.SUCCESS, False, "task done") and fleet.frames == 2
    assert [state for state, _ in fleet.states] == ["connecting", "loading", "resetting", "running", "idle", "stopped"]


class Watched(InlineRunner):
    """Beside its policy a reward model that is sure from its third look on."""

    looks = 0

    @property
    def traits(self):
        return dataclasses.replace(super().traits, judge_cameras=("front",))

    def ask_judge(self, seen) -> None:
        self.looks += 1

    def judged(self) -> float:
        return 1.0 if self.looks >= 3 else 0.0


def test_a_reward_model_ends_the_episode_and_outranks_the_simulator():
    fleet = Fleet(rounds=2)
    fleet.runner, fleet.certainty = Watched, Certainty(0.9, hold_s=0.02, every_s=0.005)
    fleet.run()
    assert fleet.ended == (Outcome.SUCCESS, False, "task done, says the reward model (1.00)")
    assert fleet.frames > 2 * 4, "the simulator says done at the second tick"


def test_an_episode_that_the_reward_model_never_calls_done_is_a_failure_at_the_time_limit():
    fleet = Fleet()
    fleet.runner, fleet.certainty = Watched, Certainty(0.9, hold_s=30, every_s=0.005)
    fleet.run(episode_time_limit_s=0.2)
    assert fleet.ended == (Outcome.FAILURE, False, "time limit")


def test_a_task_that_changes_holds_from_the_next_episode_on():
    fleet = Fleet(rounds=2)
    begin = fleet.begin

    def note(info):
        begin(info)
        fleet.task = "sort the bolts"

    fleet.begin = note
    fleet.run()
    assert [info.task for info in fleet.episodes] == ["wave", "sort the bolts"]


def test_scenes_count_up_and_episodes_have_ids_of_their_own():
    fleet = Fleet(rounds=3)
    fleet.run()
    assert [info.seed for info in fleet.episodes] == [7, 8, 9]
    assert len({info.episode_id for info in fleet.episodes}) == 3


def test_a_policy_is_loaded_once_and_again_only_when_the_active_release_changed():
    fleet = Fleet(rounds=3)
    begin = fleet.begin

    def change_after_the_second(info):
        begin(info)
        if len(fleet.episodes) == 2:
            fleet.digest = "b" * 64

    fleet.begin = change_after_the_second
    fleet.run()
    assert fleet.loads == ["a" * 64, "b" * 64]
    assert [info.policy.digest[0] for info in fleet.episodes] == ["a", "a", "b"]


@pytest.mark.parametrize("error", [ReleaseError("no release is active"), PolicyError("no such camera: top")])
def test_a_policy_that_cannot_run_is_an_error_with_its_sentence_and_no_episode(error):
    fleet = Fleet()
    fleet.load_error = error
    fleet.run()
    assert fleet.states[-2] == ("error", str(error)) and not fleet.episodes


def test_a_full_spool_records_no_new_episode_and_says_so():
    fleet = Fleet()
    fleet.room = False
    fleet.run()
    assert fleet.states[-2][0] == "spool_full" and not fleet.episodes and not fleet.robot.sent


def test_a_recorder_that_cannot_record_is_an_error_and_the_session_goes_on():
    fleet = Fleet()
    fleet.begin_error = RecorderError("the recorder does not answer")
    fleet.run()
    assert fleet.states[-2] == ("error", "the recorder does not answer") and not fleet.robot.sent


def test_a_scene_that_cannot_be_set_up_is_an_error():
    class Stuck(FakeRobot):
        def reset(self, seed: int) -> None:
            raise RobotError("the arm does not reach its start")

    fleet = Fleet()
    fleet.robot = Stuck()
    fleet.run()
    assert fleet.states[-2] == ("error", "the arm does not reach its start")


def test_pictures_stay_live_between_episodes():
    fleet = Fleet(rounds=2)
    fleet.run(pause_s=0.05)
    assert fleet.previews > 0


def test_the_robot_is_disconnected_whatever_ends_the_session():
    disconnected = []

    class Broken(FakeRobot):
        def reset(self, seed: int) -> None:
            raise ZeroDivisionError

        def disconnect(self) -> None:
            disconnected.append(True)

    fleet = Fleet()
    fleet.robot = Broken()
    with pytest.raises(ZeroDivisionError):
        fleet.run()
    assert disconnected


def test_a_drained_robot_begins_no_episode_says_who_asked_and_goes_on_when_resumed():
    fleet = Fleet()
    asked = ["operator", "service"]
    fleet.asked_to_rest = lambda: asked

    def resume_after_three(images):
        fleet.previews += 1
        if fleet.previews == 3:
            asked.clear()
        return True

    fleet.preview = resume_after_three
    fleet.run()
    assert fleet.states[1] == ("drained", "asked by operator, service; `lefleet-agent resume` goes on")
    assert [state for state, _ in fleet.states].index("running") > [state for state, _ in fleet.states].index("drained")
    assert len(fleet.episodes) == 1 and not fleet.ended[1]


def test_a_drain_lets_the_episode_end_and_cuts_the_pause_short():
    fleet = Fleet(rounds=2)
    began = fleet.begin

    def ask(info):
        began(info)
        fleet.asked_to_rest = lambda: ["operator"]

    def stop_when_drained(images):
        if fleet.states[-1][0] == "drained":
            fleet.stop.set()
        return True

    fleet.begin, fleet.preview = ask, stop_when_drained
    fleet.run(pause_s=3600)
    assert fleet.ended == (Outcome.SUCCESS, False, "task done")
    assert [state for state, _ in fleet.states][-3:] == ["idle", "drained", "stopped"]


def test_an_arm_that_shows_nothing_is_no_hung_control():
    """Pictures are the signs of life between episodes; without them the state is said again."""
    fleet = Fleet(rounds=4)
    observe, seen = fleet.robot.observe, []

    def fail_in_the_pause():
        if fleet.states[-1][0] == "idle":
            seen.append(1)
            raise RobotError("the bus does not answer")
        return observe()

    fleet.robot.observe = fail_in_the_pause
    fleet.run(pause_s=3600)
    assert [state for state, _ in fleet.states if state == "idle"] == ["idle"] * 4


def test_a_lost_arm_is_connected_again_and_the_session_goes_on():
    connects = []

    class Comes(FakeRobot):
        def connect(self) -> None:
            connects.append(True)
            if len(connects) == 2:
                self._fails_after = None

    fleet = Fleet(rounds=99)
    fleet.robot = Comes(fails_after=1, succeeds_after=5)
    tell = fleet.status

    def until_idle(values):
        if values["state"] == "idle":
            fleet.stop.set()
        return tell(values)

    fleet.status = until_idle
    fleet.run()
    assert len(connects) == 2 and len(fleet.episodes) == 2
    assert fleet.ended == (Outcome.SUCCESS, False, "task done")


def test_an_arm_that_cannot_be_reached_at_start_is_an_error_and_no_end():
    class Absent(FakeRobot):
        def connect(self) -> None:
            raise RobotDisconnected("no arm at /dev/so101_follower; plug it in")

    fleet = Fleet()
    fleet.robot = Absent()
    fleet.run()
    assert fleet.states[-2] == ("error", "no arm at /dev/so101_follower; plug it in") and not fleet.episodes


def test_a_disk_that_is_gone_begins_no_episode_and_is_said_and_the_session_goes_on_when_it_is_back(tmp_path):
    fleet = Fleet(rounds=4)
    place = tmp_path / "state"
    place.touch()  # no folder any more: whoever looks into it gets an error, as from a disk that died
    fleet.asked_to_rest = Requests(place / "drain").asked_by

    def back_after_two(images) -> bool:
        fleet.previews += 1
        assert fleet.previews > 3 or not fleet.robot.sent
        if fleet.previews == 2:
            place.unlink()
        return True

    fleet.preview = back_after_two
    fleet.run(pause_s=0)
    errors = [detail for state, detail in fleet.states if state == "error"]
    assert errors and "nobody can tell what people ask of this robot" in errors[0] and str(place) in errors[0]
    assert fleet.episodes and fleet.ended == (Outcome.SUCCESS, False, "task done")


def test_a_disk_that_dies_takes_no_emergency_stop_back(tmp_path):
    fleet = Fleet()
    place = tmp_path / "state"
    fleet.estop = Requests(place / "estop")
    fleet.park_pose = np.zeros(6, np.float32)
    fleet.estop.request("operator")

    def die(images) -> bool:
        fleet.previews += 1
        if place.is_dir():
            (place / "estop" / "operator").unlink()
            (place / "estop").rmdir()
            place.rmdir()
            place.touch()
        if fleet.previews == 4:
            fleet.stop.set()
        return True

    fleet.preview = die
    fleet.run()
    assert not fleet.robot.sent and not fleet.episodes
    assert [state for state, _ in fleet.states][-1] == "stopped" and fleet.states[-2][0] == "estopped"


def test_an_emergency_stop_begins_no_episode_and_parks_nothing_until_it_is_cleared(tmp_path):
    fleet = Fleet()
    fleet.estop = Requests(tmp_path / "estop")
    fleet.park_pose = np.zeros(6, np.float32)
    fleet.estop.request("operator")

    def clear_after_three(images):
        fleet.previews += 1
        assert fleet.previews > 3 or not fleet.robot.sent
        if fleet.previews == 3:
            fleet.estop.withdraw("operator")
        return True

    fleet.preview = clear_after_three
    fleet.run()
    names = [state for state, _ in fleet.states]
    assert names.index("estopped") < names.index("running") and len(fleet.episodes) == 1


@pytest.mark.parametrize("kept_s", [0, 1])
def test_what_is_seen_between_episodes_is_kept_only_where_it_is_to_be(kept_s):
    fleet = Fleet(rounds=2)
    fleet.run(pause_s=0.2, recording={"before_event_s": kept_s})
    assert (fleet.watched > 0, fleet.previews > 0) == (bool(kept_s), not kept_s)
    assert not fleet.saved


def test_an_emergency_stop_in_an_episode_is_saved_by_the_episode_alone(tmp_path):
    fleet = Fleet(rounds=1)
    fleet.estop = Requests(tmp_path / "estop")
    fleet.robot = FakeRobot(succeeds_after=10**6)
    add = fleet.add

    def press(frame: Frame) -> bool:
        fleet.estop.request("operator")
        return add(frame)

    fleet.add = press
    fleet.run(pause_s=0.2, recording={"before_event_s": 1})
    assert fleet.ended[1]
    assert not fleet.saved


def test_an_arm_that_fails_between_episodes_has_its_last_seconds_saved_once():
    class Breaks(FakeRobot):
        broken = False

        def observe(self):
            if self.broken:
                raise RobotError("the bus is silent")
            return super().observe()

    fleet = Fleet(rounds=2)
    robot = fleet.robot = Breaks(succeeds_after=2)

    def break_it(frame: Frame) -> bool:
        robot.broken = True
        return True

    fleet.watch = break_it
    fleet.run(pause_s=0.2, recording={"before_event_s": 1})
    assert [event for event, _ in fleet.saved] == ["fault: the bus is silent"]
    assert fleet.saved[0][1].policy is None


def test_after_a_policys_failure_the_arm_is_parked_and_the_policy_loaded_anew():
    class Wild(ScriptedPolicy):
        def infer(self, seen, task, played=None):
            chunk = super().infer(seen, task)
            chunk.actions[1:] = np.nan
            return chunk

    fleet = Fleet()
    fleet.robot = FakeRobot()
    fleet.policy = Wild()
    fleet.park_pose = np.full(6, 5, np.float32)
    fleet.run(safety={"park_speed_per_s": 100})
    names = [state for state, _ in fleet.states]
    assert "parking" in names and names.index("parking") < names.index("error")
    np.testing.assert_allclose(fleet.robot.sent[-1], fleet.park_pose, atol=0.25)
    assert fleet.ended[1] and "nan" in fleet.ended[2]


def following(leader: FakeLeader) -> Following:
    return Following(leader, SystemClock(), 200, 0.1, 5)


def test_the_arm_is_led_to_its_pose_before_each_episode():
    fleet = Fleet(rounds=2)
    pose, began = np.full(6, 12, np.float32), []
    fleet.make_reset = lambda loop, operator: PoseReset(loop, operator, pose, 1000, 5)
    begin = fleet.begin

    def note(info):
        began.append(fleet.robot.observe().joints)
        begin(info)

    fleet.begin = note
    fleet.run()
    np.testing.assert_allclose(began, [pose, pose], atol=0.25)


@pytest.mark.parametrize("way", ["to the start", "to the park pose"])
def test_what_happens_while_the_arm_is_led_is_saved_with_the_seconds_before(tmp_path, way):
    fleet, far = Fleet(rounds=1), np.full(6, 60, np.float32)
    fleet.estop = Requests(tmp_path / "estop")
    if way == "to the start":
        fleet.make_reset = lambda loop, operator: PoseReset(loop, operator, far, 30, 60)
    else:
        fleet.park_pose = far

    def watch(frame: Frame) -> bool:
        fleet.watched += 1
        led = fleet.states[-1][0] == ("resetting" if way == "to the start" else "parking")
        if led and fleet.watched > 20:
            fleet.estop.request("operator")
            fleet.stop.set()
        return True

    fleet.watch = watch
    fleet.run(recording={"before_event_s": 1}, safety={"park_speed_per_s": 30})
    assert [event for event, _ in fleet.saved] == ["emergency stop"]
    assert np.abs(fleet.robot.observe().joints - far).max() > 5, "it holds where it was"
    assert len(fleet.episodes) == (way == "to the park pose")


@pytest.mark.parametrize("by", ["drain", "stop"])
def test_who_wants_the_robot_to_rest_need_not_wait_for_the_pose(by):
    fleet, far = Fleet(rounds=99), np.full(6, 90, np.float32)
    fleet.make_reset = lambda loop, operator: PoseReset(loop, operator, far, 1, 600)
    asked: list[str] = []
    fleet.asked_to_rest = lambda: asked

    def preview(seen) -> bool:
        fleet.previews += 1
        if fleet.states[-1][0] == "resetting" and by == "drain":
            asked.append("dashboard")
        else:
            fleet.stop.set()
        return True

    fleet.preview = preview
    fleet.run()
    assert not fleet.episodes
    assert (("drained", "asked by dashboard; `lefleet-agent resume` goes on") in fleet.states) == (by == "drain")


def test_a_takeover_between_episodes_is_saved_once_and_the_next_episode_waits_for_the_handback():
    fleet = Fleet(rounds=99)
    hands: list[str] = []
    fleet.taken_over = lambda: list(hands)

    def watch(frame: Frame) -> bool:
        fleet.watched += 1
        if len(fleet.episodes) == 1 and fleet.watched == 5:
            hands.append("pedal")
        if fleet.watched == 60:
            assert len(fleet.episodes) == 1
            hands.clear()
        return True

    fleet.watch = watch
    begin = fleet.begin

    def note(info):
        begin(info)
        if len(fleet.episodes) == 2:
            fleet.stop.set()

    fleet.begin = note
    fleet.run(pause_s=0.2, recording={"before_event_s": 1})
    assert len(fleet.episodes) == 2 and not hands
    assert [event for event, _ in fleet.saved] == ["takeover"]
    assert ("idle", "in the hands of pedal; `lefleet-agent handback` goes on") in fleet.states


def test_a_pose_that_is_not_reached_is_an_error_and_no_episode():
    fleet = Fleet()
    fleet.make_reset = lambda loop, operator: PoseReset(loop, operator, np.full(6, 90, np.float32), 1, 0.05)
    fleet.run()
    assert fleet.states[-2][0] == "error" and "did not come to reset_pose within 0.05 s" in fleet.states[-2][1]
    assert not fleet.episodes


def test_the_arm_follows_the_leader_until_a_person_begins_the_episode(tmp_path):
    fleet, leader = Fleet(), FakeLeader()
    fleet.estop = Requests(tmp_path / "estop")
    word = tmp_path / "run" / BEGIN
    word.parent.mkdir()
    word.touch()  # from before: it begins nothing
    leader.joints = np.full(6, 15, np.float32)
    fleet.make_reset = lambda loop, operator: LeaderReset(loop, operator, following(leader))

    def show(images) -> bool:
        fleet.previews += 1
        leader.lost = "the cable is out" if fleet.previews == 2 else ""
        if fleet.previews == 4:
            assert not fleet.episodes
            word.touch()
        return True

    fleet.preview = show
    begin = fleet.begin

    def note(info):
        np.testing.assert_allclose(fleet.robot.observe().joints, leader.joints, atol=0.1)
        begin(info)

    fleet.begin = note
    fleet.run()
    assert len(fleet.episodes) == 1 and not word.exists()
    waits = "follows the leader arm; `lefleet-agent begin` begins the episode"
    told = [detail for state, detail in fleet.states if state == "resetting"]
    assert told == [waits, f"holds still: the cable is out; then it {waits}", waits]


@pytest.mark.parametrize(
    ("said", "ended"),
    [
        (Verdict(Word.SUCCESS), (Outcome.SUCCESS, False, "the operator ended it")),
        (Verdict(Word.FAILURE, "at the keyboard"), (Outcome.FAILURE, False, "the operator ended it: at the keyboard")),
        (Verdict(Word.REDO), (Outcome.UNKNOWN, True, "the operator ended it, to do it again")),
        (Verdict(Word.FAILURE, "eve", "f" * 32), (Outcome.SUCCESS, False, "task done")),
        ("nonsense", (Outcome.SUCCESS, False, "task done")),
        ('{"word": 7}', (Outcome.SUCCESS, False, "task done")),
    ],
)
def test_a_word_ends_the_episode_that_it_is_about_and_no_other(tmp_path, said, ended):
    fleet, run = Fleet(), tmp_path / "run"
    fleet.robot = FakeRobot(succeeds_after=20)
    fleet.estop = Requests(tmp_path / "estop")
    begin = fleet.begin

    def say(info):
        begin(info)
        leave(run, said if isinstance(said, Verdict) else Verdict(Word.SUCCESS))
        if isinstance(said, str):
            (run / "verdict").write_text(said)

    fleet.begin = say
    fleet.run()
    assert fleet.ended == ended and not (run / "verdict").exists()


@pytest.mark.parametrize("who", ["drain", "estop", "stop"])
def test_a_person_at_the_leader_is_no_reason_to_go_on(tmp_path, who):
    fleet = Fleet()
    fleet.estop = Requests(tmp_path / "estop")
    fleet.make_reset = lambda loop, operator: LeaderReset(loop, operator, following(FakeLeader()))

    def ask(images) -> bool:
        fleet.previews += 1
        if who == "drain":
            fleet.asked_to_rest = lambda: ["operator"]
        if who == "estop":
            fleet.estop.request("operator")
        if who == "stop" or fleet.previews == 4:
            fleet.stop.set()
        return True

    fleet.preview = ask
    fleet.run()
    assert not fleet.episodes
    assert {"drain": "drained", "estop": "estopped", "stop": "stopped"}[who] in [state for state, _ in fleet.states]


def test_no_episode_begins_while_the_arm_is_in_somebodys_hands():
    fleet = Fleet(rounds=3)
    fleet.taken_over = lambda: ["pedal"]
    fleet.run()
    assert not fleet.episodes and fleet.states[1] == ("idle", "in the hands of pedal; `lefleet-agent handback` goes on")


def test_demonstrations_have_no_policy_and_end_after_so_many_that_were_not_interrupted():
    fleet, leader = Fleet(rounds=99), FakeLeader()
    leader.joints = np.full(6, 15, np.float32)
    fleet.person, fleet.limit = following(leader), 2
    fleet.robot = FakeRobot(succeeds_after=200)
    ends: list[bool] = []
    end = fleet.end

    def note(outcome, interrupted, reason):
        ends.append(interrupted)
        end(outcome, interrupted, reason)

    begin = fleet.begin

    def lose(info):
        leader.lost = "unplugged" if len(fleet.episodes) == 0 else ""
        begin(info)

    fleet.begin, fleet.end = lose, note
    fleet.run(safety={"hold_limit_s": 0.05})
    assert ends == [True, False, False] and not fleet.loads
    assert [info.policy for info in fleet.episodes] == [None] * 3
