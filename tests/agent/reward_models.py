"""A small LeRobot reward classifier, trained and saved as LeRobot's training does."""

from pathlib import Path

import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.rewards import RewardClassifierConfig, make_reward_pre_post_processors
from transformers import ResNetConfig, ResNetModel

SIZE = 128  # LeRobot's head wants features of 4x4, a thirty-second of the picture
STEPS, BATCH = 60, 8


def train(folder: Path, cameras: tuple[str, ...]) -> Path:
    """It learns that bright pictures are a success."""
    from lerobot.rewards.classifier.modeling_classifier import Classifier

    torch.manual_seed(0)
    backbone = ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1], layer_type="basic")
    ResNetModel(backbone).save_pretrained(folder / "backbone")
    names = [f"observation.images.{camera}" for camera in cameras]
    config = RewardClassifierConfig(
        input_features={name: PolicyFeature(FeatureType.VISUAL, (3, SIZE, SIZE)) for name in names},
        output_features={},
        num_cameras=len(cameras),
        model_name=str(folder / "backbone"),
        hidden_dim=16,
        latent_dim=16,
        image_embedding_pooling_dim=2,
        device="cpu",
    )
    pixels = {"mean": torch.full((3, 1, 1), 0.4), "std": torch.full((3, 1, 1), 0.3)}
    before, _ = make_reward_pre_post_processors(config, dataset_stats=dict.fromkeys(names, pixels))
    model = Classifier(config).eval()  # the few pictures here would spoil the statistics of the frozen backbone
    optimizer = torch.optim.Adam((each for each in model.parameters() if each.requires_grad), 1e-2)
    for _ in range(STEPS):
        bright = torch.rand(BATCH) > 0.5
        level = torch.where(bright, 0.75, 0.1) + 0.1 * torch.rand(BATCH)
        pictures = level.view(-1, 1, 1, 1).expand(-1, 3, SIZE, SIZE)
        batch = before({name: pictures.clone() for name in names})
        loss, _ = model({name: batch[name] for name in names} | {"next.reward": bright.float()})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    config.model_name = "lab/small-resnet"  # of the training's machine: no robot has it
    model.save_pretrained(folder)
    before.save_pretrained(folder)
    return folder
