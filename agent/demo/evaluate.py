"""Measure the checkpoint: success over seeds it was not trained on, with LeRobot's own loading and processors.

python agent/demo/evaluate.py --json agent/demo/checkpoint/evaluation.json
"""

import hashlib
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from lerobot.configs import PreTrainedConfig
from lerobot.policies import get_policy_class, make_pre_post_processors
from lerobot.policies.utils import prepare_observation_for_inference
from rich.console import Console
from rich.progress import track
from rich.table import Table

from lefleet_agent.episode import Floats, Observation, Outcome
from lefleet_agent.robots.so101_sim import So101SimRobot

CHECKPOINT = Path(__file__).parent / "checkpoint"
HZ, TIME_LIMIT_TICKS = 30, 300


@dataclass(frozen=True, slots=True)
class Attempt:
    seed: int
    succeeded: bool
    seconds: float
    """Simulated, until done or the time limit."""


class Checkpoint:
    """A pretrained folder as LeRobot loads it, asked for whole chunks."""

    def __init__(self, folder: Path) -> None:
        config = PreTrainedConfig.from_pretrained(folder)
        # from_pretrained leaves it None, and processors without a path would not normalise (LeRobot #4647).
        config.pretrained_path, config.device = folder, "cpu"
        self._policy: Any = get_policy_class(config.type).from_pretrained(str(folder), config=config, strict=True)
        self._before, self._after = make_pre_post_processors(config, pretrained_path=str(folder))
        self.steps: int = self._policy.config.n_action_steps

    def actions(self, observation: Observation) -> Floats:
        """The actions to play before it is asked again, shape (steps, 6)."""
        seen: dict[str, Any] = {
            "observation.state": observation.joints,
            "observation.environment_state": observation.environment,
        }
        with torch.inference_mode():
            batch = self._before(prepare_observation_for_inference(seen, torch.device("cpu")))
            chunk = self._after(self._policy.predict_action_chunk(batch))
        actions: Floats = chunk[0, : self.steps].numpy()
        return actions


def attempt(checkpoint: Checkpoint, robot: So101SimRobot, seed: int) -> Attempt:
    """One episode, ended by success or the time limit."""
    robot.reset(seed)
    chunk: list[Floats] = []
    for tick in range(1, TIME_LIMIT_TICKS + 1):
        chunk = chunk or list(checkpoint.actions(robot.observe()))
        robot.send(chunk.pop(0))
        if robot.outcome() is Outcome.SUCCESS:
            return Attempt(seed, succeeded=True, seconds=round(tick / HZ, 2))
    return Attempt(seed, succeeded=False, seconds=TIME_LIMIT_TICKS / HZ)


def wilson(successes: int, of: int, z: float = 1.959964) -> tuple[float, float]:
    """95 % interval of a proportion (Wilson, 1927)."""
    rate = successes / of
    middle = rate + z * z / (2 * of)
    half = z * math.sqrt(rate * (1 - rate) / of + z * z / (4 * of * of))
    return (middle - half) / (1 + z * z / of), (middle + half) / (1 + z * z / of)


def digest(folder: Path) -> str:
    """SHA-256 of the weights, to tell which ones were measured."""
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def summary(attempts: list[Attempt], folder: Path) -> dict[str, Any]:
    wins = [a.seconds for a in attempts if a.succeeded]
    low, high = wilson(len(wins), len(attempts))
    return {
        "model_sha256": digest(folder),
        "control_hz": HZ,
        "time_limit_s": TIME_LIMIT_TICKS / HZ,
        "episodes": len(attempts),
        "successes": len(wins),
        "success_rate": len(wins) / len(attempts),
        "wilson_95": [round(low, 4), round(high, 4)],
        "median_success_s": float(np.median(wins)) if wins else None,
        "attempts": [asdict(a) for a in attempts],
    }


def show(result: dict[str, Any], console: Console) -> None:
    low, high = result["wilson_95"]
    table = Table("episodes", "successes", "rate", "95 % interval (Wilson)", "median time to success", "failed seeds")
    table.add_row(
        str(result["episodes"]), str(result["successes"]), f"{result['success_rate']:.0%}",
        f"{low:.0%} to {high:.0%}", f"{result['median_success_s']} s",
        ", ".join(str(a["seed"]) for a in result["attempts"] if not a["succeeded"]) or "none",
    )  # fmt: skip
    console.print(table)


def main(
    folder: Annotated[Path, typer.Option(help="LeRobot pretrained folder")] = CHECKPOINT,
    first_seed: Annotated[int, typer.Option(help="Training used seeds from 1000000 on")] = 0,
    episodes: Annotated[int, typer.Option(min=1, help="Consecutive seeds to try")] = 50,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result here")] = None,
) -> None:
    """Success over held-out seeds: 30 Hz joint control, 10 s an episode, as the demo's robots run."""
    torch.set_num_threads(1)
    start, checkpoint = time.monotonic(), Checkpoint(folder)
    robot = So101SimRobot("evaluation", control_hz=HZ, cameras=())  # it acts on joints and poses: draw nothing
    robot.connect()
    console = Console(stderr=True)
    seeds = track(range(first_seed, first_seed + episodes), "evaluating", console=console)
    result = summary([attempt(checkpoint, robot, seed) for seed in seeds], folder)
    show(result, Console())
    console.print(f"{time.monotonic() - start:.0f} s")
    if json_file:
        json_file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
