"""A LeRobot reward classifier as a detector of success: pictures in, the probability that the task is done out.

LeRobot's other reward models (SARM, Robometer, TOPReward) look at a whole episode through encoders of gigabytes; they
label recorded episodes and judge no running one.
"""

import json
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
from lerobot.configs import FeatureType, NormalizationMode
from lerobot.configs.rewards import RewardModelConfig
from lerobot.processor import PolicyProcessorPipeline
from lerobot.rewards import RewardClassifierConfig
from safetensors import SafetensorError
from safetensors.torch import load_model
from torch.nn.functional import interpolate

from lefleet_agent.episode import Observation, RobotInfo
from lefleet_agent.policies.features import IMAGES
from lefleet_agent.policies.process import JudgeModel
from lefleet_agent.policy import PolicyError

BACKBONE = "backbone"
PROCESSOR = "classifier_preprocessor.json"


class RewardClassifier:
    """Ready to judge. Build it with `load`."""

    def __init__(self, model: Any, before: Any, wanted: JudgeModel, device: torch.device) -> None:
        self._model = model
        self._before = before
        self._crop = wanted.crop
        self._device = device
        features = model.config.input_features
        self._sizes = {name: tuple(each.shape[1:]) for name, each in features.items() if name.startswith(IMAGES)}
        self.cameras = tuple(name.removeprefix(IMAGES) for name in self._sizes)

    def probability(self, seen: Observation) -> float:
        """That the task is done in these pictures. Raises PolicyError for one that is no number."""
        with torch.inference_mode():
            batch = {name: self._picture(name, size, seen) for name, size in self._sizes.items()}
            ready = self._before(batch) if self._before else batch
            found = float(self._model.predict([ready[name] for name in self._sizes]).probabilities)
        if not 0 <= found <= 1:
            raise PolicyError(f"the reward model's probability is {found}; its weights or statistics are broken")
        return found

    def _picture(self, name: str, size: tuple[int, ...], seen: Observation) -> torch.Tensor:
        camera = name.removeprefix(IMAGES)
        rgb = torch.from_numpy(seen.images[camera].rgb).to(self._device)
        if camera in self._crop:
            top, left, height, width = self._crop[camera]
            rgb = rgb[top : top + height, left : left + width]
        picture = rgb.permute(2, 0, 1).unsqueeze(0).to(torch.float32).div_(255)
        if picture.shape[2:] == size:
            return picture.contiguous()
        return interpolate(picture, size, mode="bilinear", antialias=True).clamp_(0, 1)


def load(wanted: JudgeModel, robot: RobotInfo, device: torch.device) -> RewardClassifier:
    """Raises PolicyError: which file or setting is wrong, and what to do."""
    folder = wanted.folder
    config = _config(folder)
    _check(config, wanted, robot)
    config.device = device.type
    config.model_name = str(_backbone(folder, config.model_name))
    try:
        model = _model(folder, config)
        before = _processor(folder, config, device)
    except (OSError, RuntimeError, ValueError, KeyError, ImportError, SafetensorError) as error:
        raise PolicyError(f"judge.model = {folder}: LeRobot cannot load this reward classifier: {error}") from error
    return RewardClassifier(model, before, wanted, device)


def _model(folder: Path, config: RewardClassifierConfig) -> Any:
    """As LeRobot's `from_pretrained`, but nothing may be missing or left over.

    The counters of batch normalisation are: the cameras share one backbone, and LeRobot saves each counter by the name
    of one camera only or of all, as it comes.
    """
    from lerobot.rewards.classifier.modeling_classifier import Classifier

    model = Classifier(config)
    missing, unexpected = load_model(model, folder / SAFETENSORS_SINGLE_FILE, strict=False, device=config.device)
    wrong = sorted(name for name in {*missing, *unexpected} if not name.endswith(".num_batches_tracked"))
    if wrong:
        raise ValueError(f"{SAFETENSORS_SINGLE_FILE} lacks or adds {', '.join(wrong[:5])} and others")
    return model.to(config.device).eval()


def _config(folder: Path) -> RewardClassifierConfig:
    try:
        config = RewardModelConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # LeRobot and draccus raise what they like for a file that is none of theirs
        raise PolicyError(f"judge.model = {folder}: its config.json is no reward model's: {error}") from error
    if not isinstance(config, RewardClassifierConfig):
        raise PolicyError(
            f"judge.model = {folder}: its type is {config.type}, and only a reward_classifier judges a running episode"
        )
    if config.num_classes != 2:
        raise PolicyError(
            f"judge.model = {folder}: num_classes is {config.num_classes}; train one that tells success from no success"
        )
    return config


def _check(config: RewardClassifierConfig, wanted: JudgeModel, robot: RobotInfo) -> None:
    pictures = {name for name, each in config.input_features.items() if each.type is FeatureType.VISUAL}
    if odd := sorted(name for name in config.input_features if not name.startswith(IMAGES)):
        raise PolicyError(f"judge.model = {wanted.folder}: wants {', '.join(odd)}; a camera is called {IMAGES}NAME")
    cameras = {name.removeprefix(IMAGES) for name in pictures}
    if lacking := sorted(cameras - robot.cameras.keys()):
        raise PolicyError(
            f"judge.model = {wanted.folder}: wants cameras {', '.join(lacking)}; this robot has "
            f"{', '.join(sorted(robot.cameras)) or 'none'}. Rename the camera in the robot's settings"
        )
    if strange := sorted(set(wanted.crop) - cameras):
        raise PolicyError(
            f"judge.crop names {', '.join(strange)}; the reward model looks at {', '.join(sorted(cameras))}"
        )
    for name, (top, left, height, width) in wanted.crop.items():
        camera = robot.cameras[name]
        if min(top, left) < 0 or min(height, width) < 1 or top + height > camera.height or left + width > camera.width:
            raise PolicyError(
                f"judge.crop.{name} = {[top, left, height, width]}: top, left, height, width in pixels, inside the "
                f"camera's {camera.width}x{camera.height} pictures"
            )


def _backbone(folder: Path, name: str) -> Path:
    """LeRobot would fetch it from the Hub and run the code that it brings; robots have no Hub, and run no such code."""
    backbone = folder / BACKBONE
    try:
        described = json.loads((backbone / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise PolicyError(
            f"judge.model = {folder}: {BACKBONE}/config.json cannot be read ({error}); put the files of {name} into "
            f"its folder `{BACKBONE}`: robots have no Hub"
        ) from error
    if "auto_map" in described or list(backbone.glob("*.py")):
        raise PolicyError(
            f"judge.model = {folder}: its backbone {name} brings program code of its own (auto_map, *.py), which is "
            "not run here; train the classifier with one that transformers has, such as microsoft/resnet-18"
        )
    return backbone


def _processor(folder: Path, config: RewardClassifierConfig, device: torch.device) -> Any:
    if not (folder / PROCESSOR).is_file():
        if config.normalization_mapping.get("VISUAL", NormalizationMode.IDENTITY) is NormalizationMode.IDENTITY:
            return None
        raise PolicyError(
            f"judge.model = {folder}: {PROCESSOR} is missing, and with it the statistics that the classifier was "
            "trained with; copy it, and the .safetensors beside it, from the training's checkpoint"
        )
    return PolicyProcessorPipeline.from_pretrained(
        str(folder), config_filename=PROCESSOR, overrides={"device_processor": {"device": device.type}}
    )
