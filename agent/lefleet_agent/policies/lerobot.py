"""Any LeRobot policy, loaded strictly through LeRobot's own factory and processors."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import get_policy_class, make_pre_post_processors
from lerobot.policies.utils import prepare_observation_for_inference

from lefleet_agent.episode import Observation, PolicyInfo, RobotInfo
from lefleet_agent.policy import ActionChunk, PolicyError

STATE = "observation.state"
ENVIRONMENT = "observation.environment_state"
IMAGES = "observation.images."


class LeRobotPolicy:
    """A pretrained folder, ready to infer. Build it with `load`."""

    def __init__(self, info: PolicyInfo, model: Any, before: Any, after: Any, device: torch.device) -> None:
        self.info = info
        self._model = model
        self._before = before
        self._after = after
        self._device = device
        self._steps = int(getattr(model.config, "n_action_steps", 1))

    def reset(self) -> None:
        for part in (self._model, self._before, self._after):
            part.reset()

    def infer(self, observation: Observation, task: str) -> ActionChunk:
        values: dict[str, Any] = {STATE: observation.joints.copy()}
        if observation.environment is not None:
            values[ENVIRONMENT] = observation.environment.copy()
        for camera, image in observation.images.items():
            if IMAGES + camera in self._model.config.input_features:
                values[IMAGES + camera] = image.rgb
        with torch.inference_mode():
            batch = self._before(prepare_observation_for_inference(values, self._device, task))
            chunk = self._after(self._model.predict_action_chunk(batch))
        actions = chunk[0, : self._steps].float().cpu().numpy()
        return ActionChunk(np.ascontiguousarray(actions))


def load(folder: Path, info: PolicyInfo, robot: RobotInfo, device: str = "cpu") -> LeRobotPolicy:
    """Load the policy and try it once on an empty observation. Raises PolicyError."""
    # The loop's own thread computes the chunk: more threads would only fight the other robot's for the cores.
    torch.set_num_threads(1)
    config = PreTrainedConfig.from_pretrained(folder)
    config.device = device
    # from_pretrained leaves it None, and the processors would then be built without normalisation (LeRobot #4647).
    config.pretrained_path = folder
    check_features(config, robot)
    try:
        model = get_policy_class(config.type).from_pretrained(str(folder), config=config, strict=True)
        before, after = make_pre_post_processors(
            config,
            pretrained_path=str(folder),
            preprocessor_overrides={"device_processor": {"device": device}},
        )
    except (OSError, RuntimeError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise PolicyError(f"{folder.name}: LeRobot cannot load this {config.type} policy: {error}") from error
    policy = LeRobotPolicy(info, model, before, after, torch.device(device))
    _try_once(policy, robot)
    return policy


def check_features(config: PreTrainedConfig, robot: RobotInfo) -> None:
    """Refuse a policy whose inputs or outputs this robot does not have. Raises PolicyError."""
    inputs, outputs = config.input_features or {}, config.output_features or {}
    joints = len(robot.joint_names)
    for name, shape in ((STATE, inputs.get(STATE)), ("action", outputs.get("action"))):
        if shape is not None and tuple(shape.shape) != (joints,):
            raise PolicyError(f"config.json: {name} has shape {tuple(shape.shape)}, this robot has {joints} joints")
    if "action" not in outputs:
        raise PolicyError("config.json: output_features has no `action`; this checkpoint cannot drive an arm")
    environment = inputs.get(ENVIRONMENT)
    if environment is not None and tuple(environment.shape) != (robot.environment_size,):
        raise PolicyError(
            f"config.json: {ENVIRONMENT} has shape {tuple(environment.shape)}, this robot offers "
            f"({robot.environment_size},); only a simulator knows the object's pose"
        )
    wanted = {name.removeprefix(IMAGES) for name in inputs if name.startswith(IMAGES)}
    missing = sorted(wanted - robot.cameras.keys())
    if missing:
        raise PolicyError(
            f"config.json: wants cameras {', '.join(missing)}; this robot has {', '.join(sorted(robot.cameras))}. "
            "Rename the camera in the robot's settings to what the policy was trained with"
        )


def _try_once(policy: LeRobotPolicy, robot: RobotInfo) -> None:
    from lefleet_agent.episode import CameraImage

    images = {
        name: CameraImage(0, 0, 0, np.zeros((camera.height, camera.width, 3), np.uint8))
        for name, camera in robot.cameras.items()
    }
    environment = np.zeros(robot.environment_size, np.float32) if robot.environment_size else None
    joints = np.zeros(len(robot.joint_names), np.float32)
    actions = policy.infer(Observation(joints, images, 0, environment), "").actions
    if not np.isfinite(actions).all():
        raise PolicyError(f"{policy.info.repo}: its actions are not finite; its weights or statistics are broken")
    policy.reset()
