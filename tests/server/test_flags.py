"""Quality flags as the analysis finds them in real episode files: each with its defect, and without it."""

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from lefleet_server.analysis import FlagName, process, signals

FPS = 30.0
TICKS = 120
PERIOD_NS = 33_333_333


@pytest.fixture
def flags_of(episode_file) -> Callable:
    """`flags_of(spoil)`: what is flagged in a good episode of four seconds that `spoil(file)` changed."""

    def analyse(spoil: Callable[[h5py.File], None] = lambda _: None, **attributes: object) -> list[dict]:
        def edit(file: h5py.File) -> None:
            make_good(file)
            spoil(file)

        path: Path = episode_file(edit, ticks=TICKS, **attributes)
        return process.analyse(path)["flags"]

    return analyse


def make_good(file: h5py.File) -> None:
    """A slow swing of every joint, sent as asked for, and a bright picture at every tick."""
    swing = np.repeat(20 * np.sin(np.arange(TICKS) / FPS)[:, None], 6, axis=1).astype("<f4")
    for name in ("observations/qpos", "action", "action_requested"):
        file[name][...] = swing
    for camera in ("front", "wrist"):
        film(file, camera, [picture(tick) for tick in range(TICKS)])


def film(file: h5py.File, camera: str, jpegs: list[bytes]) -> None:
    """One at each tick; the same bytes again are no new picture."""
    rows = np.zeros((len(jpegs), max(map(len, jpegs))), np.uint8)
    for row, jpeg in zip(rows, jpegs, strict=True):
        row[: len(jpeg)] = np.frombuffer(jpeg, np.uint8)
    for group, values in (("images", rows), ("image_bytes", np.array([len(jpeg) for jpeg in jpegs], "<u4"))):
        del file[f"observations/{group}/{camera}"]
        file[f"observations/{group}/{camera}"] = values


def picture(number: int, brightness: int = 120) -> bytes:
    """Grey, with a dot that moves with its number."""
    pixels = np.full((24, 32, 3), brightness, np.uint8)
    pixels[2 * (number // 16) : 2 * (number // 16) + 2, 2 * (number % 16) : 2 * (number % 16) + 2] = brightness + 60
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def still(ticks: int) -> Callable[[h5py.File], None]:
    def spoil(file: h5py.File) -> None:
        file["observations/qpos"][:ticks] = file["observations/qpos"][ticks]

    return spoil


def crawl(speed: float) -> Callable[[h5py.File], None]:
    """One joint moves all the time, this fast; the others rest."""

    def spoil(file: h5py.File) -> None:
        file["observations/qpos"][...] = 0
        file["observations/qpos"][:, 3] = speed * np.arange(TICKS) / FPS

    return spoil


def gap(periods: float) -> Callable[[h5py.File], None]:
    """Between ticks 50 and 51."""

    def spoil(file: h5py.File) -> None:
        times = file["time/monotonic_ns"][...]
        times[51:] += round((periods - 1) * PERIOD_NS)
        file["time/monotonic_ns"][...] = times

    return spoil


def frozen(first: int, last: int) -> Callable[[h5py.File], None]:
    """The wrist camera shows the picture of `first` until `last`; the front camera goes on."""

    def spoil(file: h5py.File) -> None:
        film(file, "wrist", [picture(first if first <= tick < last else tick) for tick in range(TICKS)])

    return spoil


def dark(ticks: int, brightness: int = 2) -> Callable[[h5py.File], None]:
    """The front camera's first pictures."""

    def spoil(file: h5py.File) -> None:
        film(file, "front", [picture(tick, brightness if tick < ticks else 120) for tick in range(TICKS)])

    return spoil


def test_a_picture_that_claims_too_many_pixels_takes_no_memory(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (1500, 1500, 3), np.uint8)
    jpeg = cv2.imencode(".jpg", noise)[1].tobytes()
    at = jpeg.index(b"\xff\xc0") + 5  # of height and width in the frame's head
    (tmp_path / "huge.jpg").write_bytes(jpeg[:at] + struct.pack(">HH", 9000, 9000) + jpeg[at + 4 :])
    program = """
import pathlib, resource, sys
from lefleet_server.analysis import pictures
data = pathlib.Path(sys.argv[1]).read_bytes()
before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    pictures._decode(data)
except ValueError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "huge.jpg")]
    took_kib = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert took_kib < 40 << 10, "decoded it takes 120 MB"


def test_a_good_episode_has_no_flag(flags_of):
    assert flags_of() == []


@pytest.mark.parametrize(
    ("spoil", "name", "where", "value"),
    [
        (still(100), FlagName.IDLE, "", 0.8),
        (crawl(0.9), FlagName.IDLE, "", 1.0),
        (gap(3.5), FlagName.STALL, "", 3.5 / FPS),
        (frozen(40, 75), FlagName.CAMERA_FROZEN, "wrist", 35 / FPS),
        (frozen(0, 40), FlagName.CAMERA_FROZEN, "wrist", 40 / FPS),
        (frozen(80, TICKS), FlagName.CAMERA_FROZEN, "wrist", 39 / FPS),
        (dark(70), FlagName.CAMERA_DARK, "front", 2.0),
    ],
    ids=["still", "slower than 1 unit/s", "gap", "frozen", "frozen first", "frozen to the end", "dark"],
)
def test_a_defect_is_flagged_alone_with_its_place_and_size(flags_of, spoil, name, where, value):
    (flag,) = flags_of(spoil)
    assert (flag["name"], flag["where"]) == (name, where)
    assert flag["value"] == pytest.approx(value, rel=0.06, abs=0.5 if name == FlagName.CAMERA_DARK else 0)


@pytest.mark.parametrize(
    "spoil",
    [still(60), crawl(1.1), gap(2.5), frozen(40, 68), dark(50), dark(TICKS, brightness=24)],
    ids=["still less than half", "faster than 1 unit/s", "gap", "frozen", "dark less than half", "not quite dark"],
)
def test_what_is_short_of_a_limit_is_not_flagged(flags_of, spoil):
    assert flags_of(spoil) == []


def test_of_several_gaps_the_longest_counts(flags_of):
    def spoil(file: h5py.File) -> None:
        times = file["time/monotonic_ns"][...]
        for first, periods in ((20, 4), (60, 7), (90, 5)):
            times[first:] += (periods - 1) * PERIOD_NS
        file["time/monotonic_ns"][...] = times

    (flag,) = flags_of(spoil)
    assert (flag["name"], flag["unit"]) == (FlagName.STALL, "s")
    assert flag["value"] == pytest.approx(7 / FPS, rel=1e-4)
    assert flag["threshold"] == pytest.approx(signals.STALL_PERIODS / FPS, rel=1e-4)


def test_at_another_rate_the_gap_allowed_is_another(flags_of):
    assert [flag["name"] for flag in flags_of(gap(2.5), fps=50.0)] == [FlagName.STALL]
    assert flags_of(gap(3.5), fps=25.0) == []
