"""Whether a policy fits this robot, read from its own files before anything is loaded."""

import json
from pathlib import Path
from typing import Any

from lefleet_agent.episode import RobotInfo
from lefleet_agent.policy import PolicyError

STATE = "observation.state"
ENVIRONMENT = "observation.environment_state"
IMAGES = "observation.images."


def check_features(folder: Path, config: Any, robot: RobotInfo, control_hz: float) -> None:
    """Refuse a policy whose inputs, outputs or rate this robot does not have. Raises PolicyError."""
    inputs, outputs = config.input_features or {}, config.output_features or {}
    if "action" not in outputs:
        raise PolicyError("config.json: output_features has no `action`; this checkpoint cannot drive an arm")
    _check_joints(inputs, outputs, robot)
    _check_joint_order(config, robot)
    _check_environment(inputs, robot)
    _check_cameras(folder, config, inputs, robot)
    _check_rate(folder, control_hz)


def _check_joints(inputs: dict[str, Any], outputs: dict[str, Any], robot: RobotInfo) -> None:
    joints = len(robot.joint_names)
    for name, feature in ((STATE, inputs.get(STATE)), ("action", outputs["action"])):
        if feature is not None and tuple(feature.shape) != (joints,):
            raise PolicyError(f"config.json: {name} has shape {tuple(feature.shape)}, this robot has {joints} joints")


def _check_joint_order(config: Any, robot: RobotInfo) -> None:
    """Some policies say which joint each number is for."""
    names = getattr(config, "action_feature_names", None)
    if names is None:
        return
    ours = list(robot.joint_names)
    theirs = [str(name).removesuffix(".pos") for name in names]
    if theirs != ours:
        raise PolicyError(
            f"config.json: action_feature_names is {', '.join(theirs)}, this robot's joints are {', '.join(ours)}, in "
            "this order; train it on episodes of this kind of robot"
        )


def _check_environment(inputs: dict[str, Any], robot: RobotInfo) -> None:
    environment = inputs.get(ENVIRONMENT)
    if environment is not None and tuple(environment.shape) != (robot.environment_size,):
        raise PolicyError(
            f"config.json: {ENVIRONMENT} has shape {tuple(environment.shape)}, this robot offers "
            f"({robot.environment_size},); only a simulator knows the object's pose"
        )


def _check_cameras(folder: Path, config: Any, inputs: dict[str, Any], robot: RobotInfo) -> None:
    wanted = {name.removeprefix(IMAGES): feature for name, feature in inputs.items() if name.startswith(IMAGES)}
    if missing := sorted(wanted.keys() - robot.cameras.keys()):
        raise PolicyError(
            f"config.json: wants cameras {', '.join(missing)}; this robot has "
            f"{', '.join(sorted(robot.cameras)) or 'none'}. "
            "Rename the camera in the robot's settings to what the policy was trained with"
        )
    if _resizes(folder, config):
        return
    for name, feature in sorted(wanted.items()):
        _, height, width = feature.shape
        camera = robot.cameras[name]
        if (camera.height, camera.width) != (height, width):
            raise PolicyError(
                f"config.json: camera {name} is {width}x{height}, this robot's gives {camera.width}x{camera.height}; "
                "set the camera to what the policy was trained with"
            )


def _resizes(folder: Path, config: Any) -> bool:
    """Whether the policy brings any picture to its own size."""
    if getattr(config, "resize_imgs_with_padding", None) or getattr(config, "resize_shape", None):
        return True
    steps = json.loads((folder / "policy_preprocessor.json").read_text()).get("steps", [])
    return any("resize" in str(step.get("registry_name")) for step in steps)


def _check_rate(folder: Path, control_hz: float) -> None:
    """`train_config.json` holds the rate where the training knew it (LeRobot: only with an environment)."""
    path = folder / "train_config.json"
    if not path.is_file():
        return
    try:
        trained = json.loads(path.read_text())
        fps = (trained.get("env") or {}).get("fps") or trained.get("fps")
    except (ValueError, AttributeError) as error:
        raise PolicyError(f"train_config.json: cannot be read: {error}") from error
    if fps is not None and abs(float(fps) - control_hz) > 0.01 * control_hz:
        raise PolicyError(
            f"train_config.json: trained at {fps} Hz, this robot runs at control_hz = {control_hz:g}; an action is a "
            f"target for one tick, so say control_hz: {fps}"
        )
