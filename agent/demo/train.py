"""Train the demo's checkpoint: a small ACT on joints and object pose, from the scripted expert's demonstrations.

python agent/demo/train.py          # about 20 minutes on 2 CPU cores; then run evaluate.py
"""

import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from expert import Demonstration, demonstrate
from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies import get_policy_class, make_policy_config, make_pre_post_processors
from rich.console import Console
from rich.progress import Progress
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from lefleet_agent.robots.so101_scene import So101Scene

FIRST_SEED = 1_000_000
"""Seeds below are for whoever measures or runs the policy; training never sees them."""
NUDGES_DEG = (0.0, 2.0, 3.0, 4.0)
STATE, ENVIRONMENT, ACTION = "observation.state", "observation.environment_state", "action"
CHECKPOINT = Path(__file__).parent / "checkpoint"

type Tensors = dict[str, torch.Tensor]
console = Console()


@dataclass(frozen=True, slots=True)
class Recipe:
    """What decides the weights, with the scene and the expert."""

    chunk: int = 20
    execute: int = 10
    batch: int = 64
    peak_rate: float = 1e-3
    joint_noise: float = 0.02
    """Standard deviations added to the normalised joints, so that the last digits are not trusted."""


def main(
    output: Annotated[Path, typer.Option(help="Folder for the checkpoint")] = CHECKPOINT,
    demonstrations: Annotated[int, typer.Option(help="Episodes to try; successful ones are kept")] = 1000,
    steps: Annotated[int, typer.Option(help="Optimiser steps")] = 14_000,
    seed: Annotated[int, typer.Option(help="Seed of weights and batches")] = 0,
    processes: Annotated[int, typer.Option(help="Processes that demonstrate")] = 2,
    threads: Annotated[int, typer.Option(help="Threads that train; more than one only on idle cores")] = 1,
) -> None:
    """Demonstrate, train, and save a LeRobot pretrained folder. Equal arguments give equal weights."""
    start = time.monotonic()
    shown = [d for d in show(range(FIRST_SEED, FIRST_SEED + demonstrations), processes) if d.succeeded]
    rows = sum(len(d.actions) for d in shown)
    console.print(
        f"{len(shown)} of {demonstrations} demonstrations succeeded: {rows} ticks, {time.monotonic() - start:.0f} s"
    )
    torch.set_num_threads(threads)
    policy, before, after = train(shown, Recipe(), steps, seed)
    for part in (policy, before, after):
        part.save_pretrained(str(output))
    console.print(f"saved {output} after {(time.monotonic() - start) / 60:.1f} min")


def show(seeds: range, processes: int) -> list[Demonstration]:
    """The expert's episodes, in the order of their seeds."""
    with Progress(console=console) as progress, ProcessPoolExecutor(processes) as pool:
        shown = pool.map(_show_one, seeds, chunksize=10)
        return list(progress.track(shown, total=len(seeds), description="demonstrating"))


_scene: So101Scene | None = None


def _show_one(seed: int) -> Demonstration:
    global _scene  # noqa: PLW0603 - one scene for each worker process; loading it takes a second
    _scene = _scene or So101Scene.load()
    return demonstrate(_scene, seed, NUDGES_DEG[seed % len(NUDGES_DEG)])


def train(shown: list[Demonstration], recipe: Recipe, steps: int, seed: int) -> tuple[Any, Any, Any]:
    """The policy (averaged weights) with its pre- and post-processor."""
    torch.manual_seed(seed)
    rows = {
        STATE: torch.from_numpy(np.concatenate([d.joints for d in shown])),
        ENVIRONMENT: torch.from_numpy(np.concatenate([d.environment for d in shown])),
        ACTION: torch.from_numpy(np.concatenate([d.actions for d in shown])),
    }
    policy, before, after = build(recipe, rows)
    normal = {name: value for name, value in before(dict(rows)).items() if name in rows}
    ends = torch.from_numpy(np.repeat(np.cumsum([len(d.actions) for d in shown]), [len(d.actions) for d in shown]))
    averaged = AveragedModel(policy, multi_avg_fn=get_ema_multi_avg_fn(0.999))  # type: ignore[no-untyped-call]
    optimizer = torch.optim.AdamW(policy.parameters(), lr=recipe.peak_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.peak_rate, steps)
    policy.train()
    with Progress(console=console) as progress:
        task = progress.add_task("training", total=steps)
        for step in range(steps):
            loss, _ = policy(draw(normal, ends, recipe))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            averaged.update_parameters(policy)
            progress.update(task, advance=1, description=f"training, loss {loss.item():.4f}")
            if (step + 1) % 1000 == 0:
                progress.print(f"step {step + 1}: loss {loss.item():.4f}")
    return averaged.module, before, after


def build(recipe: Recipe, rows: Tensors) -> tuple[Any, Any, Any]:
    """An untrained policy and its processors, normalising by the statistics of `rows`."""
    config = make_policy_config(
        "act",
        input_features={
            STATE: PolicyFeature(FeatureType.STATE, (6,)),
            ENVIRONMENT: PolicyFeature(FeatureType.ENV, (6,)),
        },
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (6,))},
        normalization_mapping=dict.fromkeys(("STATE", "ENV", "ACTION"), NormalizationMode.MEAN_STD),
        device="cpu", push_to_hub=False, pretrained_backbone_weights=None,
        chunk_size=recipe.chunk, n_action_steps=recipe.execute,
        dim_model=128, n_heads=4, dim_feedforward=512, n_encoder_layers=3,
        use_vae=False, dropout=0.0,  # the expert has one way to act: nothing for a latent to tell apart
    )  # fmt: skip
    statistics = {
        name: {
            "mean": value.mean(0), "std": value.std(0) + 1e-3, "min": value.amin(0), "max": value.amax(0),
        }
        for name, value in rows.items()
    }  # fmt: skip
    before, after = make_pre_post_processors(config, dataset_stats=statistics)
    return get_policy_class("act")(config), before, after


def draw(normal: Tensors, ends: torch.Tensor, recipe: Recipe) -> Tensors:
    """A random batch: an observation and the chunk that followed, padded past its episode's end."""
    first = torch.randint(len(ends), (recipe.batch,))
    chunk = first[:, None] + torch.arange(recipe.chunk)
    last = ends[first][:, None] - 1
    joints = normal[STATE][first]
    return {
        STATE: joints + recipe.joint_noise * torch.randn_like(joints),
        ENVIRONMENT: normal[ENVIRONMENT][first],
        ACTION: normal[ACTION][torch.minimum(chunk, last)],
        "action_is_pad": chunk > last,
    }


if __name__ == "__main__":
    typer.run(main)
