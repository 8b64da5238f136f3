"""A policy's network compiled by torch: fused kernels, and CUDA graphs on a GPU."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from lefleet_agent.policy import PolicyError

# What takes a chunk's time: ACT's network runs once for it, Diffusion's denoiser some ten times.
NETWORKS = {"act": "model", "diffusion": "diffusion.unet"}


def compile_network(model: Any, kind: str, device: torch.device) -> None:
    """Compile in place; torch does the work when the network is first used. Raises PolicyError for a kind without.

    LeRobot's own `compile_model` is not used: for Diffusion it renames the weights before they are loaded.
    """
    mode = "reduce-overhead" if device.type == "cuda" else None  # the former means CUDA graphs
    if kind in NETWORKS:
        model.get_submodule(NETWORKS[kind]).compile(mode=mode)
    elif hasattr(getattr(model, "model", None), "sample_actions"):  # SmolVLA, pi0 and their like
        model.model.sample_actions = torch.compile(model.model.sample_actions, mode=mode)
    else:
        raise PolicyError(
            f"policy.compile = true: nothing of a {kind} policy can be compiled; say policy.compile: false"
        )


@contextlib.contextmanager
def compiler_errors() -> Iterator[None]:
    """Around a compiled network's first use. Raises PolicyError where torch cannot compile it."""
    try:
        yield
    except RuntimeError as error:  # torch's compiler raises all of its errors as kinds of it
        words = str(error).strip().splitlines() or [type(error).__name__]
        raise PolicyError(
            f"policy.compile = true: torch cannot compile this network here: {words[0]}. It needs a C++ compiler "
            "(g++), on a GPU also Triton; say policy.compile: false"
        ) from error
