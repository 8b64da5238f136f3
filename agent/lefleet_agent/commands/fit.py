"""`lefleet-agent fit`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from lefleet_agent.commands.common import Config, Json, console, stop_on_signals
from lefleet_agent.config import load
from lefleet_agent.fit import report
from lefleet_agent.fit.measure import Amount


def fit(
    config: Config,
    folder: Annotated[
        Path | None, typer.Argument(help="A LeRobot pretrained folder; else the active release.", exists=True,
                                    file_okay=False)
    ] = None,
    chunks: Annotated[int, typer.Option(min=2, help="How many chunks are measured.")] = 100,
    limit: Annotated[float, typer.Option(min=1, metavar="SECONDS", help="Fewer chunks when this has passed.")] = 120,
    output: Annotated[
        Path | None, typer.Option(help="Where the result goes; else `fit/<digest>.json` in the state folder.")
    ] = None,
    as_json: Json = False,
) -> None:  # fmt: skip
    """Measure what a policy takes on this machine; exit status 1 when it is too slow or too large for it."""
    from lefleet_agent.wiring_fit import fit_policy

    settings, stop = load(config), stop_on_signals()
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("loading the policy", total=None)

        def progress(count: int) -> None:
            bar.update(task, description="computing chunks", total=chunks, completed=count)

        found = fit_policy(settings, folder, Amount(chunks, limit), progress, stop)
    path = output or settings.state_dir / "fit" / f"{found['policy']['digest']}.json"
    if as_json:
        print(json.dumps(found))
    else:
        _tell(found)
    report.write(path, found)  # last: a full disk must not hide what was measured
    Console(stderr=True).print(f"written to {escape(str(path))}", highlight=False, soft_wrap=True)
    if not (found["keeps_up"] and found["fits_memory"]):
        raise typer.Exit(1)


def _tell(found: dict[str, Any]) -> None:
    table = Table(show_header=False)
    for name, value in _rows(found):
        table.add_row(name, escape(value))
    console.print(table)
    speed = found["speed"]
    word = "[green]keeps up[/]" if found["keeps_up"] else "[bold red]does not keep up[/]"
    console.print(f"{word}: {speed['margin']:.1f} times as fast as it must be (p99)")
    console.print("[green]fits the memory[/]" if found["fits_memory"] else "[bold red]does not fit the memory[/]")
    for each in found["advice"]:
        console.print(f"- [cyan]{escape(each)}[/]")


def _rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    policy, computing, speed, memory = found["policy"], found["computing"], found["speed"], found["memory"]
    machine = found["machine"]
    rows = [
        ("policy", f"{policy['repo']} {policy['digest'][:12]} ({policy['type']})"),
        ("machine", f"{machine['model'] or machine['architecture']}, {machine['cores']} cores, "
                    f"{_mb(machine['memory_bytes'])}"),
        ("computes on", f"{computing['device']}: {computing['name']}, {computing['precision']}, torch "
                        f"{computing['torch']}"),
        ("loading", f"{speed['load_s']:.1f} s"),
        *((what, f"p50 {spread['p50']:.1f}, p99 {spread['p99']:.1f}, max {spread['max']:.1f} ms")
          for what, spread in ((f"a chunk, of {speed['chunks']}", speed["chunk_ms"]),
                               ("- before the network", speed["preprocess_ms"]),
                               ("- the network", speed["inference_ms"]))),
        ("may take", f"{speed['allowed_ms']:.1f} ms (mode {speed['mode']}: {speed['execute_steps']} of "
                     f"{speed['chunk_steps']} steps at {speed['control_hz']:g} Hz)"),
        ("peak of its process", _mb(memory["process_peak_bytes"])),
    ]  # fmt: skip
    if memory["gpu_reserved_peak_bytes"] is not None:
        rows.append(("peak on the GPU", f"{_mb(memory['gpu_allocated_peak_bytes'])}, "
                                        f"{_mb(memory['gpu_reserved_peak_bytes'])} held"))  # fmt: skip
    rows.append(("memory there was", f"{_mb(memory['available_bytes'])}, of which {_mb(memory['left_free_bytes'])} "
                                     "must stay free"))  # fmt: skip
    return rows


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.0f} MB"
