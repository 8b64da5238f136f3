"""Whether the task is done: when a reward model is believed, and LeRobot's own classifier, trained here, as one."""

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reward_models
import torch

from lefleet_agent.control.judge import Certainty, RewardJudge
from lefleet_agent.episode import CameraImage, Observation, Outcome, PolicyInfo
from lefleet_agent.policies.process import JudgeModel, PolicyOptions, PolicyProcess, Wanted
from lefleet_agent.policies.reward import load
from lefleet_agent.policy import PolicyError, PolicyTraits
from lefleet_agent.robots.fake import FakeRobot

INFO = PolicyInfo("lab/policy", "c" * 40, "d" * 64, "act", {})
ROBOT = FakeRobot("robot-1", height=48, width=64).info
TICK_S = 1 / 30


class Answering:
    """A runner whose reward model answers `delay` ticks after it was asked."""

    def __init__(self, delay: int = 0) -> None:
        self.traits = PolicyTraits(INFO, 1, judge_cameras=("front", "wrist"))
        self.probability = 0.0
        self.asked = 0
        self._delay = delay
        self._left: int | None = None

    def ask_judge(self, seen: Observation) -> None:
        assert self._left is None, "one question at a time"
        self.asked += 1
        self._left = self._delay

    def judged(self) -> float | None:
        if self._left is None:
            return None
        self._left -= 1
        if self._left > 0:
            return None
        self._left = None
        return self.probability


def observation(tick: int, frozen: str = "", level: int = 0) -> Observation:
    rgb = np.full((48, 64, 3), level, np.uint8)
    images = {name: CameraImage(1 if name == frozen else tick + 1, 0, 0, rgb) for name in ("front", "wrist")}
    return Observation(np.zeros(6, np.float32), images, round(tick * TICK_S * 1e9))


def judged(runner: Answering, ticks: int, certainty: Certainty, judge: RewardJudge | None = None, frozen: str = ""):
    """The tick at which the task is done, or None."""
    judge = judge or RewardJudge(runner, certainty)
    return next((tick for tick in range(ticks) if judge.done(observation(tick, frozen))), None)


@pytest.mark.parametrize("delay", [0, 1, 5])
def test_it_is_done_once_the_model_was_sure_for_the_time_and_not_before(delay):
    runner = Answering(delay)
    runner.probability = 0.95
    done = judged(runner, 90, Certainty(0.9, hold_s=0.5, every_s=0.1))
    assert done is not None and 15 <= done <= 15 + 3 + 2 * (delay + 3)
    assert runner.asked <= done / 3 + 1, "it is asked ten times a second"


def test_one_doubt_starts_the_time_again():
    runner, certainty = Answering(), Certainty(0.9, hold_s=0.5, every_s=0.1)
    judge = RewardJudge(runner, certainty)
    for tick in range(90):
        runner.probability = 0.2 if tick % 12 < 3 else 0.99
        assert judge.done(observation(tick)) is None
    assert judge.missed is Outcome.FAILURE


def test_below_the_threshold_nothing_is_done_and_without_an_answer_nobody_knows():
    runner, certainty = Answering(), Certainty(0.9, 0.0, 0.1)
    runner.probability = 0.89
    judge = RewardJudge(runner, certainty)
    assert judge.missed is Outcome.UNKNOWN
    assert judged(runner, 60, certainty, judge) is None and judge.missed is Outcome.FAILURE
    judge.begin()
    assert judge.missed is Outcome.UNKNOWN
    silent = RewardJudge(Answering(delay=1000), certainty)
    assert judged(runner, 60, certainty, silent) is None and silent.missed is Outcome.UNKNOWN


@pytest.mark.parametrize("frozen", ["front", "wrist"])
def test_a_camera_that_freezes_makes_nothing_done(frozen):
    runner = Answering()
    runner.probability = 1.0
    assert judged(runner, 90, Certainty(0.9, 0.5, 0.1), frozen=frozen) is None
    assert runner.asked == 1


def test_an_episode_does_not_begin_with_what_was_seen_in_the_one_before():
    runner, certainty = Answering(), Certainty(0.9, 0.5, 0.1)
    runner.probability = 1.0
    judge = RewardJudge(runner, certainty)
    for tick in range(12):
        assert judge.done(observation(tick)) is None
    judge.begin()
    assert judged(runner, 90, certainty, judge) >= 15


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> Path:
    """LeRobot's classifier, trained to tell bright pictures of the front camera from dark ones."""
    return reward_models.train(tmp_path_factory.mktemp("classifier"), ("front", "wrist"))


@pytest.fixture
def copy(classifier, tmp_path) -> Path:
    return Path(shutil.copytree(classifier, tmp_path / "copy"))


def loaded(folder: Path, crop=None):
    return load(JudgeModel(folder, crop or {}), ROBOT, torch.device("cpu"))


def test_lerobots_classifier_tells_what_it_was_trained_for(classifier):
    model = loaded(classifier)
    assert set(model.cameras) == {"front", "wrist"}
    assert model.probability(observation(1, level=220)) > 0.9
    assert model.probability(observation(1, level=20)) < 0.1


def test_a_crop_is_what_it_sees(classifier):
    model = loaded(classifier, {"front": (0, 0, 24, 64), "wrist": (0, 0, 24, 64)})
    seen = observation(1, level=20)
    for image in seen.images.values():
        image.rgb[:24] = 220
    assert model.probability(seen) > 0.9
    assert loaded(classifier).probability(seen) < 0.9


def edit(folder: Path, file: str = "config.json", **changes) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def spoil_statistics(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = next(folder.glob("classifier_preprocessor*.safetensors"))
    save_file({name: torch.full_like(value, float("nan")) for name, value in load_file(path).items()}, path)


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda folder: (folder / "config.json").unlink(), "config.json"),
        (lambda folder: edit(folder, type="act"), "no reward model's"),
        (lambda folder: edit(folder, num_classes=3), "num_classes is 3"),
        (lambda folder: (folder / "classifier_preprocessor.json").unlink(), "classifier_preprocessor.json is missing"),
        (lambda folder: shutil.rmtree(folder / "backbone"), "robots have no Hub"),
        (lambda folder: edit(folder, "backbone/config.json", auto_map={"AutoModel": "x.X"}), "program code of its own"),
        (lambda folder: (folder / "backbone" / "evil.py").write_text("raise SystemExit"), "program code of its own"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"x"), "cannot load"),
    ],
)
def test_a_folder_with_something_wrong_is_refused_with_its_name_and_a_remedy(copy, spoil, named):
    spoil(copy)
    with pytest.raises(PolicyError, match=r"judge\.model") as refused:
        loaded(copy)
    assert named in str(refused.value)


def test_statistics_that_are_no_numbers_give_no_verdict(copy):
    spoil_statistics(copy)
    with pytest.raises(PolicyError, match=r"nan|NaN"):
        loaded(copy).probability(observation(1))


@pytest.mark.parametrize(
    "crop",
    [{"top": (0, 0, 9, 9)}, {"front": (0, 0, 49, 64)}, {"front": (-1, 0, 9, 9)}, {"front": (0, 0, 0, 9)}],
)
def test_a_crop_outside_the_picture_is_refused(classifier, crop):
    with pytest.raises(PolicyError, match=r"judge\.crop"):
        loaded(classifier, crop)


def test_cameras_that_the_robot_lacks_are_named(classifier):
    robot = replace(ROBOT, cameras={"front": ROBOT.cameras["front"]})
    with pytest.raises(PolicyError, match="wants cameras wrist; this robot has front"):
        load(JudgeModel(classifier, {}), robot, torch.device("cpu"))


def test_beside_a_policy_both_answer_and_neither_takes_the_others_answer(classifier, tmp_path):
    import lerobot_checkpoints

    folder = lerobot_checkpoints.save(tmp_path / "act")
    options = PolicyOptions(30.0, "overlap", "cpu", "fp32", 0.5, 1)
    wanted = Wanted(folder, INFO, ROBOT, options, JudgeModel(classifier, {}))
    runner = PolicyProcess.start(wanted, None, lambda: False, 240)
    try:
        assert set(runner.traits.judge_cameras) == {"front", "wrist"}
        for turn in range(3):
            bright = turn != 1
            runner.ask_judge(observation(turn, level=220 if bright else 20))
            runner.ask([observation(turn)], "task", None)
            chunk = runner.answer(60)
            assert chunk is not None and chunk.actions.shape == (12, 6)
            probability = until_judged(runner)
            assert probability > 0.9 if bright else probability < 0.1
        runner.ask_judge(observation(9, level=220))
        runner.reset()
        assert runner.answer(0.5) is None
        runner.ask_judge(observation(10, level=20))
        assert until_judged(runner) < 0.1, "the answer to the newest question"
    finally:
        runner.close()


def until_judged(runner: PolicyProcess) -> float:
    deadline_s = time.monotonic() + 60
    while (probability := runner.judged()) is None:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    return probability
