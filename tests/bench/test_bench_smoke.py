"""The benchmarks run from end to end; their numbers are not judged here."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")


FIGURES = ["recording", "control_loop", "inference", "arm_bus", "ingest", "downloads", "pictures", "heartbeats",
           "episodes_list", "replica", "dashboard"]  # fmt: skip


@pytest.mark.parametrize("figure", FIGURES)
def test_a_benchmark_measures_every_row_it_names(figure: str, tmp_path: Path) -> None:
    answer = tmp_path / "bench.json"
    command = [sys.executable, str(RUN), "--quick", "--only", figure, "--json", str(answer), "--markdown"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(answer.read_text())["figures"][figure]
    if figure in {"downloads", "pictures"} and "not_measured" in found:
        pytest.skip(found["not_measured"])
    assert len(found["medians"]) >= 2
    # nginx may be lacking here; the table then says so.
    # The list of episodes has an aim, and no peer.
    alone = figure == "episodes_list" or (figure == "ingest" and not nginx_is_here())
    assert found["comparisons"] or alone
    assert f"### {figure}" in done.stdout


def test_a_figure_that_needs_what_is_not_here_says_so(tmp_path: Path) -> None:
    answer = tmp_path / "bench.json"
    nowhere = ["--checkout", str(tmp_path), "--running"]
    command = [sys.executable, str(RUN), "--quick", "--only", "demo", "--json", str(answer), *nowhere]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "make demo" in json.loads(answer.read_text())["figures"]["demo"]["not_measured"]
    assert "NOT MEASURED" in done.stdout


def nginx_is_here() -> bool:
    return any(shutil.which("nginx", path=path) for path in (None, "/usr/sbin"))
