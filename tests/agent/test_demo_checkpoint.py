"""The committed checkpoint: complete, small, loadable as LeRobot loads it, and as good as its card says."""

import json
from pathlib import Path
from typing import Any

import pytest

from lefleet_agent.episode import RobotInfo
from lefleet_agent.robots.so101_sim import So101SimRobot

DEMO = Path(__file__).parents[2] / "agent" / "demo"
CHECKPOINT = DEMO / "checkpoint"
LARGEST_BYTES = 12_000_000


@pytest.fixture(autouse=True)
def demo_scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DEMO))


@pytest.fixture
def measured() -> dict[str, Any]:
    result: dict[str, Any] = json.loads((CHECKPOINT / "evaluation.json").read_text())
    return result


def test_the_folder_is_complete_and_small() -> None:
    names = {path.name for path in CHECKPOINT.iterdir()}
    wanted = {"config.json", "model.safetensors", "policy_preprocessor.json", "policy_postprocessor.json"}
    assert wanted | {"README.md", "evaluation.json"} <= names
    for processor in ("policy_preprocessor", "policy_postprocessor"):
        steps = json.loads((CHECKPOINT / f"{processor}.json").read_text())["steps"]
        assert {step["state_file"] for step in steps if "state_file" in step} <= names
    assert sum(path.stat().st_size for path in CHECKPOINT.iterdir()) <= LARGEST_BYTES


def test_it_wants_what_the_simulated_arm_offers() -> None:
    info: RobotInfo = So101SimRobot("robot-1").info
    config = json.loads((CHECKPOINT / "config.json").read_text())
    assert config["type"] == "act"
    assert config["input_features"]["observation.state"]["shape"] == [len(info.joint_names)]
    assert config["input_features"]["observation.environment_state"]["shape"] == [info.environment_size]
    assert config["output_features"]["action"]["shape"] == [len(info.joint_names)]


def test_it_solves_unseen_scenes_and_does_the_same_twice() -> None:
    from evaluate import Checkpoint, attempt
    from train import FIRST_SEED

    seeds = range(500, 506)
    assert seeds.stop <= FIRST_SEED
    checkpoint, robot = Checkpoint(CHECKPOINT), So101SimRobot("robot-1", cameras=())
    robot.connect()
    first = [attempt(checkpoint, robot, seed) for seed in seeds]
    assert sum(a.succeeded for a in first) >= 4, first
    assert [attempt(checkpoint, robot, seed) for seed in seeds] == first


def test_it_was_measured_on_seeds_it_was_not_trained_on(measured: dict[str, Any]) -> None:
    from evaluate import digest, wilson
    from train import FIRST_SEED

    assert measured["model_sha256"] == digest(CHECKPOINT)
    seeds = {attempt["seed"] for attempt in measured["attempts"]}
    assert len(seeds) == measured["episodes"] >= 50
    assert max(seeds) < FIRST_SEED
    assert measured["successes"] == sum(attempt["succeeded"] for attempt in measured["attempts"])
    assert measured["success_rate"] >= 0.6
    assert measured["wilson_95"] == pytest.approx(wilson(measured["successes"], len(seeds)), abs=1e-4)


def test_the_card_says_what_was_measured(measured: dict[str, Any]) -> None:
    card = (CHECKPOINT / "README.md").read_text()
    rate, low, high = (f"{share:.0%}" for share in (measured["success_rate"], *measured["wilson_95"]))
    assert f"{measured['successes']} of {measured['episodes']} ({rate}; 95 % interval {low} to {high})" in card
    failed = [str(attempt["seed"]) for attempt in measured["attempts"] if not attempt["succeeded"]]
    assert f"Failed seeds: {', '.join(failed) or 'none'}." in card


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0.0, 0.0713), (25, 0.3664, 0.6336), (50, 0.9287, 1.0)])
def test_the_interval_is_wilsons(successes: int, low: float, high: float) -> None:
    from evaluate import wilson

    assert wilson(successes, 50) == pytest.approx((low, high), abs=1e-3)
