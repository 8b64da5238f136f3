import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch

from lefleet_agent.release import REQUIRED, ReleaseError, ReleaseStore


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    """The files of a LeRobot pretrained folder, small."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"type": "act"}))
    save_file({"w": np.ones(3, np.float32)}, folder / "model.safetensors")
    save_file({"mean": np.zeros(3, np.float32)}, folder / "stats.safetensors")
    for name in ("policy_preprocessor.json", "policy_postprocessor.json"):
        (folder / name).write_text(json.dumps({"steps": [{"state_file": "stats.safetensors"}]}))
    return folder


@pytest.fixture
def store(tmp_path) -> ReleaseStore:
    return ReleaseStore(tmp_path / "releases")


def test_an_installed_release_is_active_and_a_second_install_changes_nothing(store, checkpoint):
    info, changed = store.install(checkpoint, "lab/act", "c0ffee")
    assert changed
    assert store.install(checkpoint, "lab/act", "c0ffee") == (info, False)
    folder, active = store.active()
    assert active == info and active.repo == "lab/act" and active.type == "act"
    assert (folder / "model.safetensors").read_bytes() == (checkpoint / "model.safetensors").read_bytes()


def test_another_checkpoint_takes_the_link_and_the_first_stays(store, checkpoint):
    first, _ = store.install(checkpoint, "lab/act", "1")
    save_file({"w": np.zeros(3, np.float32)}, checkpoint / "model.safetensors")
    second, _ = store.install(checkpoint, "lab/act", "2")
    assert store.active_digest() == second.digest != first.digest
    back, changed = ReleaseStore(store._folder).install(store._folder / first.digest, "lab/act", "1")
    assert changed and back.digest == store.active_digest() == first.digest


def test_the_same_files_from_another_commit_are_another_release(store, checkpoint):
    store.install(checkpoint, "lab/act", "1")
    info, changed = store.install(checkpoint, "lab/act", "2")
    assert changed and store.active()[1] == info and info.commit == "2"


@pytest.mark.parametrize("name", REQUIRED)
def test_a_missing_file_is_refused_by_name_and_leaves_nothing(store, checkpoint, tmp_path, name):
    (checkpoint / name).unlink()
    with pytest.raises(ReleaseError, match=name):
        store.install(checkpoint, "lab/act", "1")
    assert not (tmp_path / "releases").exists()


def test_more_files_than_an_episode_file_can_list_are_refused(store, checkpoint):
    for number in range(900):
        (checkpoint / f"events.{number:05}.log").touch()
    with pytest.raises(ReleaseError, match=r"checkpoint: holds 905 files, .* Leave only the policy's own files"):
        store.install(checkpoint, "lab/act", "1")
    assert store.active_digest() is None
    for path in checkpoint.glob("events.00[1-9]*"):
        path.unlink()
    info, _ = store.install(checkpoint, "lab/act", "1")
    assert len(info.files) == 105


def test_a_missing_processor_state_is_refused_by_name(store, checkpoint):
    (checkpoint / "stats.safetensors").unlink()
    with pytest.raises(ReleaseError, match=r"stats\.safetensors"):
        store.install(checkpoint, "lab/act", "1")


@pytest.mark.parametrize("name", ["model.safetensors", "stats.safetensors"])
def test_weights_or_statistics_that_are_not_finite_are_refused(store, checkpoint, name):
    save_file({"bad": np.array([1, np.nan], np.float32)}, checkpoint / name)
    with pytest.raises(ReleaseError, match=f"{name}.*bad"):
        store.install(checkpoint, "lab/act", "1")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 65504.0])
def test_finite_is_judged_in_every_float_type(store, checkpoint, dtype, value):
    weights = {"a": torch.arange(4), "w": torch.tensor([1.0, value, -1.0]).to(dtype)}
    save_torch(weights, checkpoint / "model.safetensors")
    if torch.isfinite(weights["w"]).all():
        store.install(checkpoint, "lab/act", "1")
    else:
        with pytest.raises(ReleaseError, match="tensor w"):
            store.install(checkpoint, "lab/act", "1")


def test_a_truncated_weights_file_is_refused(store, checkpoint):
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ReleaseError, match=r"model\.safetensors"):
        store.install(checkpoint, "lab/act", "1")


def test_a_file_that_changed_after_the_install_is_never_run(store, checkpoint):
    store.install(checkpoint, "lab/act", "1")
    folder, _ = store.active()
    (folder / "config.json").write_text(json.dumps({"type": "act", "n_obs_steps": 2}))
    with pytest.raises(ReleaseError, match=r"config\.json"):
        store.active()


def test_no_active_release_says_how_to_install_one(store):
    with pytest.raises(ReleaseError, match="release install"):
        store.active()


def test_an_install_that_was_cut_short_is_done_again(store, checkpoint):
    info, _ = store.install(checkpoint, "lab/act", "1")
    shutil.rmtree(store._folder / info.digest)
    (store._folder / f"{info.digest}.part").mkdir()
    _, changed = store.install(checkpoint, "lab/act", "1")
    assert changed and store.active()[1] == info


def normaliser(checkpoint: Path, which: str = "preprocessor", without: str = "", mode: str = "MEAN_STD") -> None:
    """Give the checkpoint a normalisation like LeRobot's, `without` one of its statistics."""
    config = {"type": "act", "normalization_mapping": {"STATE": mode, "ACTION": mode}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    kinds = {"observation.state": "STATE", "action": "ACTION"}
    there = {f"{name}.{key}": np.ones(6, np.float32) for name in kinds for key in ("mean", "std")}
    for processor, step in (("preprocessor", "normalizer_processor"), ("postprocessor", "unnormalizer_processor")):
        values = {name: value for name, value in there.items() if processor != which or name != without}
        save_file(values, checkpoint / f"{processor}.safetensors")
        features = {name: {"type": kind, "shape": [6]} for name, kind in kinds.items()}
        norm_map = {"features": features, "norm_map": {"STATE": mode, "ACTION": mode}}
        steps = [{"registry_name": step, "config": norm_map, "state_file": f"{processor}.safetensors"}]
        (checkpoint / f"policy_{processor}.json").write_text(json.dumps({"steps": steps}))


@pytest.mark.parametrize(
    ("which", "without", "said"),
    [
        ("preprocessor", "observation.state.std", "observation.state has no std"),
        ("postprocessor", "action.mean", "action has no mean"),
    ],
)
def test_missing_statistics_are_refused_by_the_files_and_the_features_name(store, checkpoint, which, without, said):
    normaliser(checkpoint)
    store.install(checkpoint, "lab/act", "1")
    normaliser(checkpoint, which, without)
    with pytest.raises(ReleaseError, match=rf"{which}\.safetensors: {said}, without which LeRobot"):
        store.install(checkpoint, "lab/act", "2")


def test_statistics_that_a_processor_does_not_use_may_be_missing(store, checkpoint):
    normaliser(checkpoint, "postprocessor", "observation.state.mean")
    store.install(checkpoint, "lab/act", "1")


def test_statistics_of_another_mode_are_no_statistics(store, checkpoint):
    normaliser(checkpoint, mode="QUANTILES")
    with pytest.raises(ReleaseError, match="has no q01 and no q99"):
        store.install(checkpoint, "lab/act", "1")


@pytest.mark.parametrize("which", ["preprocessor", "postprocessor"])
def test_a_normalisation_that_config_json_asks_for_and_no_processor_does_is_refused(store, checkpoint, which):
    normaliser(checkpoint)
    (checkpoint / f"policy_{which}.json").write_text(json.dumps({"steps": []}))
    with pytest.raises(ReleaseError, match=rf"policy_{which}\.json: has no (un)?normalizer_processor"):
        store.install(checkpoint, "lab/act", "1")
