"""Any LeRobot policy, loaded strictly through LeRobot's own factory and processors."""

import contextlib
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import get_policy_class, make_pre_post_processors

from lefleet_agent.episode import CameraImage, Observation, PolicyInfo, RobotInfo
from lefleet_agent.policies.compiled import compile_network, compiler_errors
from lefleet_agent.policies.device import called
from lefleet_agent.policies.features import ENVIRONMENT, IMAGES, STATE, check_features
from lefleet_agent.policies.process import PolicyOptions
from lefleet_agent.policy import ActionChunk, Computing, Played, PolicyError, PolicyTraits

VLM = "vlm"
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class LeRobotPolicy:
    """A pretrained folder, ready to infer. Build it with `load`."""

    def __init__(
        self, traits: PolicyTraits, model: Any, before: Any, after: Any, device: torch.device, precision: str = "fp32"
    ) -> None:
        self.traits = traits
        self._model = model
        self._before = before
        self._after = after
        self._device = device
        self._precision = PRECISIONS[precision]
        # Policies that look back queue what `select_action` sees; here history comes with the question.
        self._looks_back = STATE in getattr(model, "_queues", {})
        self._continues = getattr(model.config, "rtc_config", None) is not None
        self._raw: torch.Tensor | None = None

    def reset(self) -> None:
        self._raw = None
        for part in (self._model, self._before, self._after):
            part.reset()

    def infer(self, seen: Sequence[Observation], task: str, played: Played | None = None) -> ActionChunk:
        start_ns = time.monotonic_ns()
        # Real-time chunking follows a gradient through the network, which inference mode forbids.
        with torch.no_grad() if self._continues else torch.inference_mode(), self._autocast():
            batch = self._batch(seen, task)
            self._wait_for_device()
            ready_ns = time.monotonic_ns()
            raw = self._model.predict_action_chunk(batch, **self._continued(played))
            self._raw = raw[0].clone()
            actions = self._after(raw)[0].float().cpu().numpy()
        chunk = np.ascontiguousarray(actions)
        return ActionChunk(chunk, ready_ns - start_ns, time.monotonic_ns() - ready_ns)

    def computing(self) -> Computing:
        device = self._device.type
        precision = next(name for name, kind in PRECISIONS.items() if kind is self._precision)
        if device != "cuda":
            return Computing(device, called(device), precision, torch.__version__)
        return Computing(
            device,
            called(device),
            precision,
            torch.__version__,
            torch.cuda.max_memory_allocated(self._device),
            torch.cuda.max_memory_reserved(self._device),
            torch.cuda.mem_get_info(self._device)[0],
            bool(torch.cuda.get_device_properties(self._device).is_integrated),
        )

    def _batch(self, seen: Sequence[Observation], task: str) -> dict[str, Any]:
        if not self._looks_back:
            return dict(self._before(self._tensors(seen[-1], task)))
        steps = [dict(self._before(self._tensors(each, task))) for each in seen]
        newest = steps[-1]
        return {
            name: torch.stack([step[name] for step in steps], dim=1) if name.startswith("observation.") else value
            for name, value in newest.items()
            if value is not None
        }

    def _tensors(self, seen: Observation, task: str) -> dict[str, Any]:
        """As LeRobot's `prepare_observation_for_inference`, but pictures travel to the device as bytes and become
        floats there: a quarter of the traffic."""
        values: dict[str, Any] = {STATE: self._row(seen.joints)}
        if seen.environment is not None and ENVIRONMENT in self._model.config.input_features:
            values[ENVIRONMENT] = self._row(seen.environment)
        for camera in self.traits.cameras:
            pixels = torch.from_numpy(seen.images[camera].rgb).to(self._device)
            values[IMAGES + camera] = pixels.permute(2, 0, 1).unsqueeze(0).to(torch.float32).div_(255).contiguous()
        return values | {"task": task, "robot_type": ""}

    def _row(self, values: Any) -> torch.Tensor:
        return torch.from_numpy(np.array(values, np.float32)).unsqueeze(0).to(self._device)

    def _continued(self, played: Played | None) -> dict[str, Any]:
        """Real-time chunking: what the model is told of the chunk that plays."""
        if played is None or self._raw is None:
            return {}
        horizon = self._model.config.rtc_config.execution_horizon
        left = self._raw[played.steps :][:horizon]
        padded = torch.nn.functional.pad(left, (0, 0, 0, horizon - len(left)))
        return {"inference_delay": played.delay, "prev_chunk_left_over": padded}

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self._precision is None:
            return contextlib.nullcontext()
        return torch.autocast(self._device.type, self._precision)

    def _wait_for_device(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    @contextlib.contextmanager
    def as_lerobot(self) -> Iterator[None]:
        """Compute in full precision and uncompiled, for a comparison."""
        wanted, self._precision = self._precision, None
        try:
            with torch.compiler.set_stance("force_eager"):
                yield
        finally:
            self._precision = wanted


def load(folder: Path, info: PolicyInfo, robot: RobotInfo, options: PolicyOptions) -> LeRobotPolicy:
    """Load the policy and try it on empty observations. Raises PolicyError."""
    torch.set_num_threads(options.threads)
    device = device_of(options.device)
    config = PreTrainedConfig.from_pretrained(folder)
    config.device = device.type
    # from_pretrained leaves it None, and the processors would then be built without normalisation (LeRobot #4647).
    config.pretrained_path = folder
    overrides = _needs_no_internet(folder, config)
    check_features(folder, config, robot, options.control_hz)
    if options.mode == "rtc":
        _allow_rtc(config, options.compile)
    try:
        model = get_policy_class(config.type).from_pretrained(str(folder), config=config, strict=True)
        before, after = make_pre_post_processors(
            config,
            pretrained_path=str(folder),
            preprocessor_overrides={"device_processor": {"device": device.type}} | overrides,
        )
    except (OSError, RuntimeError, ValueError, KeyError, ImportError, json.JSONDecodeError) as error:
        remedy = _remedy(folder, config)
        raise PolicyError(f"{folder.name}: LeRobot cannot load this {config.type} policy: {error}{remedy}") from error
    if options.mode == "rtc":
        _check_rtc(model, before, config.type)
    if options.compile:
        compile_network(model, config.type, device)
    policy = LeRobotPolicy(_traits(info, config), model, before, after, device, options.precision)
    with compiler_errors() if options.compile else contextlib.nullcontext():
        _try(policy, robot, options)
    return policy


def _needs_no_internet(folder: Path, config: Any) -> dict[str, Any]:
    """Keep LeRobot from fetching what the checkpoint brings anyway; returns overrides for the processors.

    ACT and Diffusion first load ImageNet's backbone, SmolVLA the whole language model, then the checkpoint's own
    weights over it. What SmolVLA does need of that model, configuration and tokenizer, lies in the release's `vlm`.
    """
    if getattr(config, "pretrained_backbone_weights", None):
        config.pretrained_backbone_weights = None
    if getattr(config, "load_vlm_weights", False):
        config.load_vlm_weights = False
    if not hasattr(config, "vlm_model_name") or not (folder / VLM).is_dir():
        return {}
    config.vlm_model_name = str(folder / VLM)
    return {"tokenizer_processor": {"tokenizer_name": config.vlm_model_name}}


def _remedy(folder: Path, config: Any) -> str:
    name = getattr(config, "vlm_model_name", None)
    if name is None or (folder / VLM).is_dir():
        return ""
    return (
        f". Put the configuration, tokenizer and processor files of {name} into its folder `{VLM}`: robots have no Hub"
    )


def _traits(info: PolicyInfo, config: Any) -> PolicyTraits:
    cameras = tuple(name.removeprefix(IMAGES) for name in config.input_features if name.startswith(IMAGES))
    coefficient = getattr(config, "temporal_ensemble_coeff", None)
    # With temporal ensembling LeRobot insists on n_action_steps = 1, which means: look again at every tick.
    steps = int(getattr(config, "n_action_steps", 1))
    return PolicyTraits(info, steps, int(getattr(config, "n_obs_steps", 1)), cameras, coefficient)


def device_of(wanted: str) -> torch.device:
    """`auto`, `cpu` or `cuda`. Raises PolicyError for a GPU that is not there."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise PolicyError(
            "policy.device = cuda: torch finds no CUDA device here; the container needs the NVIDIA runtime and a torch "
            "built for this JetPack, or say policy.device: cpu"
        )
    return torch.device(wanted)


def _allow_rtc(config: Any, compiled: bool) -> None:
    if compiled:
        raise PolicyError(
            "policy.mode = rtc with policy.compile = true: real-time chunking follows a gradient through the network, "
            "which a compiled one does not give; say policy.compile: false"
        )
    from lerobot.policies.rtc.configuration_rtc import RTCConfig

    if not hasattr(config, "rtc_config"):
        raise _no_rtc(config.type)
    config.rtc_config = config.rtc_config or RTCConfig()


def _check_rtc(model: Any, before: Any, kind: str) -> None:
    if not model.supports_rtc():
        raise _no_rtc(kind)
    if any(getattr(step, "enabled", False) and "Relative" in type(step).__name__ for step in before.steps):
        raise PolicyError("policy.mode = rtc: this policy acts relative to its observation, whose prefix cannot be "
                          "continued yet; say policy.mode: overlap")  # fmt: skip


def _no_rtc(kind: str) -> PolicyError:
    return PolicyError(f"policy.mode = rtc: {kind} knows no real-time chunking; say policy.mode: overlap")


def _try(policy: LeRobotPolicy, robot: RobotInfo, options: PolicyOptions) -> None:
    """One chunk: finite, as many joints as the robot has, and close to what LeRobot computes."""
    seen = [_nothing(robot)] * policy.traits.history
    actions = _seeded(policy, seen)
    if actions.ndim != 2 or actions.shape[1] != len(robot.joint_names):
        raise PolicyError(f"{policy.traits.info.repo}: its actions have shape {actions.shape}, this robot has "
                          f"{len(robot.joint_names)} joints")  # fmt: skip
    if not np.isfinite(actions).all():
        raise PolicyError(f"{policy.traits.info.repo}: its actions are not finite; weights or statistics are broken")
    if options.precision != "fp32" or options.compile:
        with policy.as_lerobot():
            error = float(np.abs(_seeded(policy, seen) - actions).max())
        if error > options.precision_limit:
            raise PolicyError(
                f"policy.precision = {options.precision}, policy.compile = {str(options.compile).lower()}: actions are "
                f"off by {error:.3g} (degrees, gripper percent) where policy.precision_limit allows "
                f"{options.precision_limit:g}; say policy.precision: fp32 and policy.compile: false"
            )
    policy.reset()


def _seeded(policy: LeRobotPolicy, seen: list[Observation]) -> Any:
    """Diffusion draws noise: the same for both precisions."""
    policy.reset()
    torch.manual_seed(0)
    return policy.infer(seen, "").actions


def _nothing(robot: RobotInfo) -> Observation:
    images = {
        name: CameraImage(0, 0, 0, np.zeros((camera.height, camera.width, 3), np.uint8))
        for name, camera in robot.cameras.items()
    }
    environment = np.zeros(robot.environment_size, np.float32) if robot.environment_size else None
    return Observation(np.zeros(len(robot.joint_names), np.float32), images, 0, environment)
