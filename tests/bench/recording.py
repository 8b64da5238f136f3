"""What it costs to record: processor time of all processes per frame, and how long the calling thread waits.

Every writer gets the same film (two 640x480 cameras, six joints) at the same pace, each turn in a process of its own.
"""

import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from figure import Column, Figure, Row, compare
from options import Options
from processes import cpu_s, run_worker, worker_main
from recording_writers import Writer, open_writer
from scene import film, swing

from lefleet_agent.control.clock import Schedule, SystemClock
from lefleet_agent.episode import Pixels

NAME = "recording"
FPS = 30.0
CPU = Column("cpu_ms", "CPU ms/frame", 2)
WAIT_P99, WAIT_MAX = Column("wait_p99_ms", "p99 ms", 2), Column("wait_max_ms", "max ms", 2)
COLUMNS = (
    CPU,
    Column("after_ms", "of it after the last frame", 2),
    Column("wait_p50_ms", "caller waits p50 ms", 2),
    WAIT_P99,
    WAIT_MAX,
    Column("end_ms", "caller waits at the end ms", 1),
    Column("kb", "KB/frame", 0),
    Column("lost", "frames lost", 0),
)
FLOOR, OURS, H264, AV1, PNG = (
    "JPEG q90 alone (floor)",
    "LeFleet, journal and HDF5",
    "LeRobotDataset, H.264 ultrafast",
    "LeRobotDataset, AV1 (default)",
    "LeRobotDataset, PNG then AV1",
)
WRITERS = {"jpeg": FLOOR, "lefleet": OURS, "h264": H264, "av1": AV1, "png": PNG}
QUICK = ("jpeg", "lefleet", "h264")


def writers(options: Options) -> tuple[str, ...]:
    return QUICK if options.quick else tuple(name for name in WRITERS if options.slow or name != "png")


def steps(options: Options) -> int:
    return options.rounds * len(writers(options))


def measure(options: Options, tell: Callable[[str], None]) -> Figure:
    frames = 15 if options.quick else 300
    found: dict[str, list[dict[str, float]]] = {name: [] for name in writers(options)}
    for _ in range(options.rounds):
        for name, rounds in found.items():
            tell(WRITERS[name])
            rounds.append(run_worker("recording.py", 300, writer=name, frames=frames, folder=str(options.folder)))
    rows = tuple(Row(WRITERS[name], tuple(rounds)) for name, rounds in found.items())
    return Figure(
        NAME,
        f"Recording two 640x480 cameras and six joints at {FPS:.0f} fps, {frames} frames, median of {options.rounds}",
        COLUMNS,
        rows,
        compare("recording a frame", rows, OURS, H264, CPU, lower_is_better=True)
        + compare("recording a frame", rows, OURS, AV1, CPU, lower_is_better=True)
        + compare("recording a frame", rows, OURS, FLOOR, CPU, lower_is_better=True)
        + compare("the caller waits", rows, OURS, H264, WAIT_P99, lower_is_better=True)
        + compare("the caller waits", rows, OURS, H264, WAIT_MAX, lower_is_better=True),
        (
            "CPU is that of the caller and all its processes, from the first frame until the episode is whole on disk: "
            "for LeFleet journal, HDF5 file, SHA-256 and spool, for LeRobotDataset `save_episode` and `finalize`.",
        ),
    )


def work(writer: str, frames: int, folder: str) -> dict[str, Any]:
    """In the worker: record one episode, after a short one whose imports and first times do not count."""
    pictures = film(min(frames, 96))
    with TemporaryDirectory(dir=folder) as scratch:
        for count in (5, frames):
            with open_writer(writer, Path(scratch) / str(count)) as recorder:
                answer = record(recorder, pictures, count)
    return answer


def record(recorder: Writer, pictures: dict[str, list[Pixels]], frames: int) -> dict[str, float]:
    schedule = Schedule(SystemClock(), FPS)
    waits_ns = np.zeros(frames, np.int64)
    begun_s = cpu_s(recorder.pid)
    recorder.begin()
    for tick in range(frames):
        schedule.wait()
        place = swing(tick, len(pictures["front"]))
        joints = 30 * np.sin(np.arange(6, dtype=np.float32) + tick / 20)
        frame = recorder.frame({name: shots[place] for name, shots in pictures.items()}, joints)
        start_ns = time.perf_counter_ns()
        recorder.add(frame)
        waits_ns[tick] = time.perf_counter_ns() - start_ns
    recorder.settle()
    settled_s = cpu_s(recorder.pid)
    start_ns = time.perf_counter_ns()
    recorder.end()
    end_ns = time.perf_counter_ns() - start_ns
    size_bytes = recorder.wait_for_file()
    done_s = cpu_s(recorder.pid)
    return {
        "cpu_ms": (done_s - begun_s) / frames * 1e3,
        "after_ms": (done_s - settled_s) / frames * 1e3,
        "wait_p50_ms": float(np.percentile(waits_ns, 50)) / 1e6,
        "wait_p99_ms": float(np.percentile(waits_ns, 99)) / 1e6,
        "wait_max_ms": float(waits_ns.max()) / 1e6,
        "end_ms": end_ns / 1e6,
        "kb": size_bytes / frames / 1e3,
        "lost": recorder.lost(),
    }


if __name__ == "__main__":
    worker_main(work)
