"""`python -m lefleet_agent.policies.device auto|cpu|cuda`: what a policy computes on, tried, as one JSON object."""

import json
import platform
import sys

import torch


def main(wanted: str) -> None:
    """Raises RuntimeError where the device cannot compute."""
    name = wanted if wanted != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    ones = torch.ones(64, 64, device=name)
    total = float((ones @ ones).sum())  # a driver that only says it is there fails here
    if total != 64**3:
        raise RuntimeError(f"{name} computes 64 x 64 ones wrongly: {total}")
    print(json.dumps({"device": name, "name": called(name), "torch": torch.__version__}))


def called(device: str) -> str:
    """What a person would call `cpu` or `cuda` here."""
    return torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()


if __name__ == "__main__":
    main(sys.argv[1])
