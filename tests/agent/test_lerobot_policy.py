"""LeRobot policies as LeRobot itself would run them, and refused where they do not fit."""

import dataclasses
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import lerobot_checkpoints as checkpoints
import numpy as np
import pytest
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import get_policy_class, make_pre_post_processors
from lerobot.policies.utils import prepare_observation_for_inference

from lefleet_agent.episode import CameraImage, Observation, PolicyInfo
from lefleet_agent.policies.features import check_features
from lefleet_agent.policies.lerobot import load
from lefleet_agent.policies.process import PolicyOptions, PolicyProcess, Wanted
from lefleet_agent.policy import Played, PolicyError
from lefleet_agent.robots.fake import FakeRobot, scene

INFO = PolicyInfo("lab/policy", "c" * 40, "d" * 64, "act", {})
OPTIONS = PolicyOptions(30.0, "overlap", "cpu", "fp32", 0.5, 1)
ROBOT = FakeRobot("robot-1").info
# Degrees, gripper percent. On a GPU cuDNN convolves in TF32, with ten bits, and rounds another layout of the same
# picture otherwise: up to 0.019 was seen on an H100.
ROUNDING = {"cpu": 1e-4, "cuda": 5e-2}
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="NO GPU TESTS: torch finds no CUDA device here")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=GPU)])
def options(request) -> PolicyOptions:
    """On each device of this machine."""
    return dataclasses.replace(OPTIONS, device=request.param)


@pytest.fixture(scope="module")
def act(tmp_path_factory) -> Path:
    return checkpoints.save(tmp_path_factory.mktemp("act"))


@pytest.fixture(scope="module")
def diffusion(tmp_path_factory) -> Path:
    return checkpoints.save(tmp_path_factory.mktemp("diffusion"), "diffusion")


def seen(tick: int) -> Observation:
    joints = np.linspace(-20, 20, 6, dtype=np.float32) + tick
    images = {name: CameraImage(1, 0, 0, scene(48, 64, (tick + turn) / 7)) for turn, name in enumerate(ROBOT.cameras)}
    return Observation(joints, images, tick)


def lerobots_own(folder: Path, observations: list[Observation], actions: int, device: str) -> np.ndarray:
    """What `select_action` gives: all but the last observation only fill its history; shape (actions, joints)."""
    config = PreTrainedConfig.from_pretrained(folder)
    config.pretrained_path, config.device = folder, device
    policy = get_policy_class(config.type).from_pretrained(str(folder), config=config, strict=True)
    overrides = {"device_processor": {"device": device}}
    before, after = make_pre_post_processors(config, pretrained_path=str(folder), preprocessor_overrides=overrides)
    for part in (policy, before, after):
        part.reset()
    given = []
    with torch.inference_mode():
        for observation in [*observations[:-1], *[observations[-1]] * actions]:
            values = {"observation.state": observation.joints.copy()}
            values |= {f"observation.images.{name}": image.rgb for name, image in observation.images.items()}
            batch = before(prepare_observation_for_inference(values, torch.device(device), "task"))
            torch.manual_seed(7)
            given.append(after(policy.select_action(batch))[0].numpy())
    return np.array(given[len(observations) - 1 :])


def test_act_computes_what_lerobots_own_loop_would_send(act, options):
    policy = load(act, INFO, ROBOT, options)
    assert (policy.traits.execute_steps, policy.traits.history, policy.traits.cameras) == (6, 1, ("front", "wrist"))
    chunk = policy.infer([seen(3)], "task")
    assert chunk.actions.shape == (12, 6) and chunk.preprocess_ns > 0 and chunk.inference_ns > 0
    np.testing.assert_allclose(
        chunk.actions[:6], lerobots_own(act, [seen(3)], 6, options.device), atol=ROUNDING[options.device]
    )


def test_diffusion_is_given_its_history(diffusion, options):
    policy = load(diffusion, INFO, ROBOT, options)
    assert policy.traits.history == 2
    torch.manual_seed(7)
    actions = policy.infer([seen(1), seen(2)], "task").actions
    # select_action samples at its first call, when the queue of observations holds the first one twice.
    torch.manual_seed(7)
    first = policy.infer([seen(2), seen(2)], "task").actions
    np.testing.assert_allclose(
        first[:6], lerobots_own(diffusion, [seen(2)], 6, options.device), atol=ROUNDING[options.device]
    )
    assert np.abs(actions - first).max() > 1e-3, "the observation before makes a difference"


@pytest.fixture(scope="module")
def smolvla(tmp_path_factory) -> Path:
    """As it comes from training: its language model is named by a path of another machine."""
    folder = checkpoints.save(tmp_path_factory.mktemp("smolvla"), "smolvla")
    for name in ("config.json", "policy_preprocessor.json"):
        text = (folder / name).read_text()
        assert str(folder / "vlm") in text
        (folder / name).write_text(text.replace(str(folder / "vlm"), "lab/some-vlm"))
    return folder


def test_smolvla_takes_its_language_models_files_from_the_release_and_acts(smolvla, options, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    policy = load(smolvla, INFO, ROBOT, options)
    torch.manual_seed(1)
    actions = policy.infer([seen(1)], "task").actions
    assert actions.shape == (12, 6) and np.isfinite(actions).all()
    torch.manual_seed(1)
    assert np.abs(policy.infer([seen(1)], "another task").actions - actions).max() > 0, "the words count"


def test_smolvla_without_those_files_says_what_to_add(smolvla, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "release"
    shutil.copytree(smolvla, folder, ignore=lambda *_: ["vlm"])
    assert "files of lab/some-vlm into its folder `vlm`" in refused(folder)


def test_real_time_chunking_continues_the_chunk_that_plays(smolvla, options):
    """With random weights two chunks have nothing in common but what they are told: the first steps are those that
    will have been played by the time the answer is there."""
    policy = load(smolvla, INFO, ROBOT, dataclasses.replace(options, mode="rtc"))

    def joint(played: Played | None) -> np.ndarray:
        policy.reset()
        torch.manual_seed(1)
        first = policy.infer([seen(0)], "task").actions
        torch.manual_seed(2)
        second = policy.infer([seen(9)], "task", played).actions
        return np.abs(second[:4] - first[3:7])

    assert joint(Played(steps=3, delay=4)).mean() < 0.5 * joint(None).mean()


def test_a_checkpoint_with_a_pretrained_backbone_loads_without_the_internet(act, tmp_path):
    weights = "ResNet18_Weights.IMAGENET1K_V1"
    folder = change(tmp_path, act, "config.json", lambda values: values.update(pretrained_backbone_weights=weights))
    actions = load(folder, INFO, ROBOT, OPTIONS).infer([seen(0)], "").actions
    np.testing.assert_array_equal(actions, load(act, INFO, ROBOT, OPTIONS).infer([seen(0)], "").actions)


def change(folder: Path, source: Path, name: str, edit) -> Path:
    """A copy of the checkpoint with one JSON file edited."""
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    values = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
    edit(values)
    (folder / name).write_text(json.dumps(values))
    return folder


def refused(folder: Path, robot=ROBOT, **options) -> str:
    with pytest.raises(PolicyError) as error:
        load(folder, INFO, robot, dataclasses.replace(OPTIONS, **options))
    return str(error.value)


def test_a_camera_the_robot_has_not_is_named_with_those_it_has(act):
    robot = FakeRobot("robot-1", cameras=("front", "top")).info
    assert "wants cameras wrist; this robot has front, top" in refused(act, robot)


def test_pictures_of_another_size_are_refused(act):
    robot = FakeRobot("robot-1", height=96, width=128).info
    assert "camera front is 64x48, this robot's gives 128x96" in refused(act, robot)


def test_another_number_of_joints_is_refused(act):
    robot = dataclasses.replace(ROBOT, joint_names=ROBOT.joint_names[:5])
    assert "observation.state has shape (6,), this robot has 5 joints" in refused(act, robot)


def test_joints_in_another_order_are_refused():
    names = [f"{name}.pos" for name in reversed(ROBOT.joint_names)]
    config = SimpleNamespace(input_features={}, output_features=checkpoints.features(())[1], action_feature_names=names)
    with pytest.raises(PolicyError, match=r"action_feature_names is gripper, .*, in this order"):
        check_features(Path("/nowhere"), config, ROBOT, 30.0)


def test_a_rate_that_it_was_not_trained_at_is_refused(act, tmp_path):
    folder = change(tmp_path, act, "train_config.json", lambda values: values.update(env={"fps": 50}))
    assert "trained at 50 Hz, this robot runs at control_hz = 30" in refused(folder)


def test_real_time_chunking_is_refused_by_a_policy_that_cannot(act):
    assert "act knows no real-time chunking; say policy.mode: overlap" in refused(act, mode="rtc")


def test_weights_of_another_shape_are_refused_not_passed_over(act, tmp_path):
    folder = change(tmp_path, act, "config.json", lambda values: values.update(dim_model=64))
    assert "LeRobot cannot load this act policy" in refused(folder)


def test_a_gpu_that_is_not_there_is_refused_not_replaced(act):
    if torch.cuda.is_available():
        pytest.skip("this machine has one")
    assert "torch finds no CUDA device here" in refused(act, device="cuda")


@pytest.mark.parametrize(
    ("device", "precision"), [("cpu", "bf16"), *(pytest.param("cuda", kind, marks=GPU) for kind in ("bf16", "fp16"))]
)
def test_half_precision_runs_within_its_bound_and_is_refused_outside(act, device, precision):
    full = load(act, INFO, ROBOT, dataclasses.replace(OPTIONS, device=device))
    half = dataclasses.replace(OPTIONS, device=device, precision=precision, precision_limit=5.0)
    rounded = load(act, INFO, ROBOT, half)
    error = np.abs(rounded.infer([seen(0)], "").actions - full.infer([seen(0)], "").actions).max()
    assert 0 < error < 5
    assert "say policy.precision: fp32" in refused(act, device=device, precision=precision, precision_limit=1e-9)


@pytest.mark.parametrize("kind", ["act", "diffusion", "smolvla"])
def test_a_compiled_network_gives_what_lerobot_computes(kind, options, tmp_path):
    folder, bound = checkpoints.save(tmp_path / kind, kind), max(1e-3, ROUNDING[options.device])
    compiled = load(folder, INFO, ROBOT, dataclasses.replace(options, compile=True, precision_limit=bound))
    for first in range(5):  # a CUDA graph is recorded in the first and played in the last
        history = [seen(first + tick) for tick in range(compiled.traits.history)]
        torch.manual_seed(7)
        actions = compiled.infer(history, "pick").actions
        with compiled.as_lerobot():
            compiled.reset()
            torch.manual_seed(7)
            expected = compiled.infer(history, "pick").actions
        assert np.abs(actions - expected).max() < bound
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0, "nothing was compiled"


def ask(runner: PolicyProcess, observation: Observation) -> np.ndarray:
    runner.ask([observation], "task", None)
    chunk = runner.answer(60)
    assert chunk is not None, "no answer within a minute"
    return chunk.actions


@GPU
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_process_with_cuda_graphs_answers_as_one_without(act, precision):
    def answers(compiled: bool) -> np.ndarray:
        options = dataclasses.replace(
            OPTIONS, device="cuda", precision=precision, compile=compiled, precision_limit=5.0
        )
        runner = PolicyProcess.start(Wanted(act, INFO, ROBOT, options), None, lambda: False, 300)
        try:
            return np.array([ask(runner, seen(tick)) for tick in range(8)])
        finally:
            runner.close()

    assert np.abs(answers(True) - answers(False)).max() < (ROUNDING["cuda"] if precision == "fp32" else 1)


def test_a_machine_without_a_compiler_is_told_what_is_missing(act, monkeypatch):
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config.cpp, "cxx", ("no-such-compiler",))
    torch._dynamo.reset()
    assert "needs a C++ compiler (g++)" in refused(act, compile=True)


def test_real_time_chunking_is_not_compiled(act):
    assert "say policy.compile: false" in refused(act, mode="rtc", compile=True)
