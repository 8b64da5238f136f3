"""Small LeRobot policies with random weights, saved as LeRobot saves them, whole or with one thing wrong."""

from pathlib import Path
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies import get_policy_class, make_policy_config, make_pre_post_processors

JOINTS = 6
HEIGHT, WIDTH = 48, 64


def features(cameras: tuple[str, ...]) -> tuple[dict[str, PolicyFeature], dict[str, PolicyFeature]]:
    inputs = {"observation.state": PolicyFeature(FeatureType.STATE, (JOINTS,))}
    inputs |= {f"observation.images.{name}": PolicyFeature(FeatureType.VISUAL, (3, HEIGHT, WIDTH)) for name in cameras}
    return inputs, {"action": PolicyFeature(FeatureType.ACTION, (JOINTS,))}


def statistics(cameras: tuple[str, ...]) -> dict[str, dict[str, torch.Tensor]]:
    spread = torch.linspace(1, 6, JOINTS)
    joints = {"mean": spread, "std": 2 * spread, "min": -10 * spread, "max": 10 * spread}
    pixels = {
        key: torch.full((3, 1, 1), value) for key, value in (("mean", 0.5), ("std", 0.25), ("min", 0), ("max", 1))
    }
    return {"observation.state": joints, "action": joints} | {f"observation.images.{name}": pixels for name in cameras}


SMALL: dict[str, dict[str, Any]] = {
    "act": {
        "chunk_size": 12,
        "n_action_steps": 6,
        "dim_model": 32,
        "n_heads": 2,
        "dim_feedforward": 32,
        "n_encoder_layers": 1,
        "n_vae_encoder_layers": 1,
        "pretrained_backbone_weights": None,
    },
    "diffusion": {
        "horizon": 16,
        "n_action_steps": 6,
        "down_dims": (16, 32),
        "diffusion_step_embed_dim": 16,
        "num_inference_steps": 3,
        "num_train_timesteps": 10,
        "resize_shape": (HEIGHT, WIDTH),
        "crop_ratio": 1.0,
        "spatial_softmax_num_keypoints": 4,
        "pretrained_backbone_weights": None,
    },
}


def save(folder: Path, kind: str = "act", cameras: tuple[str, ...] = ("front", "wrist"), **changes: Any) -> Path:
    """A policy of `kind` in `folder`; `changes` go into its config."""
    inputs, outputs = features(cameras)
    config = make_policy_config(
        kind, input_features=inputs, output_features=outputs, device="cpu", push_to_hub=False, **(SMALL[kind] | changes)
    )
    torch.manual_seed(0)
    policy = get_policy_class(kind)(config)
    before, after = make_pre_post_processors(config, dataset_stats=statistics(cameras))
    for part in (policy, before, after):
        part.save_pretrained(folder)
    return folder
