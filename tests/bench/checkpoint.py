"""How often the demo's checkpoint succeeds on scenes it was not trained on; `agent/demo/evaluate.py` measures it."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from figure import Column, Figure, Row
from options import REPO, Options
from processes import BenchError, Unavailable

NAME = "checkpoint"
COLUMNS = (
    Column("episodes", "episodes", 0),
    Column("successes", "successes", 0),
    Column("rate", "success %", 0),
    Column("low", "95 % interval from", 0),
    Column("high", "to %", 0),
    Column("median_s", "median s to success", 1),
)


def steps(options: Options) -> int:
    del options
    return 1


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    folder = REPO / "agent" / "demo" / "checkpoint"
    if not (folder / "model.safetensors").is_file():
        raise Unavailable(f"{folder.relative_to(REPO)} holds no model.safetensors; agent/demo/train.py makes it")
    tell("evaluating the checkpoint")
    result = evaluate(options, folder)
    low, high = result["wilson_95"]
    sample = {
        "episodes": result["episodes"],
        "successes": result["successes"],
        "rate": 100 * result["success_rate"],
        "low": 100 * low,
        "high": 100 * high,
    }
    if result["median_success_s"] is not None:
        sample["median_s"] = result["median_success_s"]
    name = f"ACT, seeds 0 to {result['episodes'] - 1}"
    return Figure(
        NAME,
        "The checkpoint, 30 Hz joint control, 10 s an episode",
        COLUMNS,
        (Row(name, (sample,)),),
        notes=(f"Weights {result['model_sha256'][:12]}; interval after Wilson.",),
    )


def evaluate(options: Options, folder: Path) -> dict[str, Any]:
    with TemporaryDirectory(dir=options.folder) as scratch:
        answer = Path(scratch) / "evaluation.json"
        command = [sys.executable, str(folder.parent / "evaluate.py"), "--folder", str(folder), "--json", str(answer)]
        command += ["--episodes", "1"] if options.quick else []
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"agent/demo/evaluate.py: {done.stderr.strip()[-800:]}")
        result: dict[str, Any] = json.loads(answer.read_text())
    return result
