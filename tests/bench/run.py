"""Measure LeFleet's figures on this machine, each beside its peers in the same run. `make bench` calls this."""

import importlib
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Protocol, cast

import psutil
import typer
from figure import Figure, Skipped, detail_table, markdown, summary_table
from options import Options
from processes import BenchError, Unavailable
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn


class Bench(Protocol):
    """One figure: a module of this folder."""

    NAME: str

    def steps(self, options: Options) -> int:
        """How often `measure` will call `tell`."""

    def measure(self, options: Options, tell: Callable[[str], None]) -> Figure:
        """Raises Unavailable, BenchError."""


# Modules of this folder. The demo comes last: a fleet started afresh must not run beside the others.
BENCHES = (
    "recording", "control_loop", "rollout", "killed", "inference", "arm_bus", "ingest", "downloads", "pictures",
    "heartbeats", "episodes_list", "replica", "dashboard", "checkpoint", "noop", "demo",
)  # fmt: skip
DISK = Path("/var/tmp")  # noqa: S108 - /tmp is memory on many systems; every run makes its own folder in it


def main(
    only: Annotated[
        list[str] | None, typer.Option(help=f"Figure to measure: {', '.join(BENCHES)}; may be repeated")
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Turns of each row; the median counts")] = 3,
    quick: Annotated[bool, typer.Option(help="A few seconds to see that it works; the numbers mean nothing")] = False,
    slow: Annotated[bool, typer.Option(help="Also LeRobotDataset's PNG way and ten million episodes")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write everything measured here")] = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print the tables of docs/benchmarks.md")] = False,
    folder: Annotated[Path, typer.Option(help="Folder on the disk to measure; what is written is removed")] = DISK,
    checkout: Annotated[Path | None, typer.Option(help="Copy of the repository whose demo is measured")] = None,
    from_clean: Annotated[
        bool | None,
        typer.Option("--from-clean/--running", help="Start a demo afresh and stop it, or ask the running one"),
    ] = None,
    port: Annotated[int, typer.Option(help="First of three ports of a demo started afresh")] = 8600,
) -> None:
    """Each figure with its peers in turn, several rounds, medians; ratios last."""
    wanted = only or BENCHES
    if unknown := [name for name in wanted if name not in BENCHES]:
        raise typer.BadParameter(f"no figure {', '.join(unknown)}; there are {', '.join(BENCHES)}")
    console = Console(stderr=as_markdown, width=None if sys.stdout.isatty() else 160)
    warn(console, folder)
    with tempfile.TemporaryDirectory(prefix="lefleet-bench-", dir=folder) as scratch:
        Path(scratch).chmod(0o755)
        checkout = checkout.resolve() if checkout else None
        options = Options(1 if quick else rounds, quick, slow, Path(scratch), checkout, from_clean, port)
        started_s = time.monotonic()
        results, failures = measure_all([load(name) for name in BENCHES if name in wanted], options, console)
    for result in results:
        if isinstance(result, Figure):
            console.print(detail_table(result), "")
    console.print(summary_table(results))
    console.print(f"{machine()}; {time.monotonic() - started_s:.0f} s, {options.rounds} round(s)", highlight=False)
    if json_file:
        json_file.write_text(json.dumps(as_dict(results), indent=1) + "\n")
    if as_markdown:
        print(document(results))
    raise typer.Exit(1 if failures else 0)


def load(name: str) -> Bench:
    """Only what is measured is imported: a robot has neither a browser nor the server's libraries."""
    return cast(Bench, importlib.import_module(name))


def measure_all(benches: list[Bench], options: Options, console: Console) -> tuple[list[Figure | Skipped], int]:
    results: list[Figure | Skipped] = []
    failures = 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=sum(bench.steps(options) for bench in benches), completed=-1)
        for bench in benches:

            def tell(what: str, bench: Bench = bench) -> None:
                progress.update(task, description=f"{bench.NAME}: {what}", advance=1)

            try:
                results.append(bench.measure(options, tell))
            except Unavailable as error:
                results.append(Skipped(bench.NAME, str(error)))
            except (BenchError, OSError, subprocess.SubprocessError) as error:
                failures += 1
                console.print(f"[bold red]{bench.NAME} failed[/]: {error}", highlight=False)
                results.append(Skipped(bench.NAME, f"failed: {str(error).splitlines()[0]}"))
    return results, failures


def warn(console: Console, folder: Path) -> None:
    """What would make the numbers worth less."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 2:
        console.print(
            f"[bold yellow]This machine is busy[/] (load {load:.1f} on {cores} cores): these are no final numbers"
        )
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.resolve().is_relative_to(part.mountpoint)]
    if mounts and max(mounts, key=lambda part: len(part.mountpoint)).fstype in {"tmpfs", "ramfs"}:
        console.print(f"[bold yellow]{folder} is memory, not a disk[/]: choose another with --folder")


def machine() -> str:
    """In general words: what kind of machine, never which."""
    memory_gb = psutil.virtual_memory().total / 2**30
    gpu = "a GPU" if Path("/dev/nvidia0").exists() else "no GPU"
    return f"{os.cpu_count()} cores {platform.machine()}, {memory_gb:.0f} GB, {gpu}, Python {platform.python_version()}"


def as_dict(results: list[Figure | Skipped]) -> dict[str, Any]:
    figures = {r.name: r.as_dict() if isinstance(r, Figure) else {"not_measured": asdict(r)["reason"]} for r in results}
    return {"machine": machine(), "month": time.strftime("%Y-%m"), "command": command(), "figures": figures}


def document(results: list[Figure | Skipped]) -> str:
    """The results' part of docs/benchmarks.md."""
    parts = [f"Measured {time.strftime('%Y-%m')} on {machine()}.\n"]
    for result in results:
        told = markdown(result) if isinstance(result, Figure) else f"Not measured: {result.reason}\n"
        parts.append(f"### {result.name}\n\n    .venv/bin/python tests/bench/run.py --only {result.name}\n\n{told}")
    return "\n".join(parts)


def command() -> str:
    return shlex.join(["tests/bench/run.py", *sys.argv[1:]])


if __name__ == "__main__":
    typer.run(main)
