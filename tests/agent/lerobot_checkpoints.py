"""Small LeRobot policies with random weights, saved as LeRobot saves them, whole or with one thing wrong."""

from pathlib import Path
from typing import Any

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies import get_policy_class, make_policy_config, make_pre_post_processors
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    PreTrainedTokenizerFast,
    SmolVLMConfig,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

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
    "smolvla": {
        "chunk_size": 12,
        "n_action_steps": 6,
        "num_vlm_layers": 2,
        "resize_imgs_with_padding": (64, 64),
        "num_steps": 5,
        "tokenizer_max_length": 16,
        "load_vlm_weights": False,
    },
}


def save(folder: Path, kind: str = "act", cameras: tuple[str, ...] = ("front", "wrist"), **changes: Any) -> Path:
    """A policy of `kind` in `folder`; `changes` go into its config."""
    inputs, outputs = features(cameras)
    if kind == "smolvla" and "vlm_model_name" not in changes:
        changes["vlm_model_name"] = str(save_vlm(folder / "vlm"))
    config = make_policy_config(
        kind, input_features=inputs, output_features=outputs, device="cpu", push_to_hub=False, **(SMALL[kind] | changes)
    )
    torch.manual_seed(0)
    policy = get_policy_class(kind)(config)
    before, after = make_pre_post_processors(config, dataset_stats=statistics(cameras))
    for part in (policy, before, after):
        part.save_pretrained(folder)
    return folder


def save_vlm(folder: Path) -> Path:
    """What SmolVLA needs of its language model beside weights, for a tiny one: configuration, tokenizer, processor."""
    names = {"image": "<image>", "fake_image": "<fake_token_around_image>", "global_image": "<global-img>"}
    special = ["<unk>", "<pad>", "<s>", "</s>", *names.values()]
    tokens = Tokenizer(models.BPE(unk_token="<unk>"))
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = pre_tokenizers.ByteLevel.alphabet()
    tokens.train_from_iterator(["task"], trainers.BpeTrainer(special_tokens=special, initial_alphabet=letters))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokens,
        unk_token="<unk>",
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={f"{name}_token": token for name, token in names.items()}
        | {"end_of_utterance_token": "</s>"},
    )
    pictures, films = SmolVLMImageProcessor(), SmolVLMVideoProcessor()
    SmolVLMProcessor(pictures, tokenizer, films, image_seq_len=4).save_pretrained(folder)
    text = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    text |= {"model_type": "llama", "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 320, "pad_token_id": 1}
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    SmolVLMConfig(
        text_config=text,
        vision_config=vision | {"image_size": 64, "patch_size": 16},
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=1,
    ).save_pretrained(folder)
    return folder
