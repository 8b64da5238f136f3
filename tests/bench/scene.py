"""Pictures of two cameras over a table: texture, edges, moving parts and sensor noise, as an encoder meets them."""

import cv2
import numpy as np
import numpy.typing as npt

from lefleet_agent.episode import Pixels

HEIGHT, WIDTH = 480, 640
NOISE = 3.0
"""Standard deviation of a camera's noise, of 255."""


def film(count: int, seed: int = 0) -> dict[str, list[Pixels]]:
    """`count` pictures of each camera, shape (480, 640, 3), RGB."""
    random = np.random.default_rng(seed)
    table = _table(random)
    phases = np.linspace(0, 1, count, endpoint=False)
    return {
        "front": [_noisy(_front(table, phase), random) for phase in phases],
        "wrist": [_noisy(_wrist(table, phase), random) for phase in phases],
    }


def swing(tick: int, count: int) -> int:
    """Which of `count` pictures tick `tick` sees: forth and back, so that motion never jumps."""
    place = tick % (2 * count - 2)
    return place if place < count else 2 * count - 2 - place


def _table(random: np.random.Generator) -> Pixels:
    """Wood under a lamp, larger than a picture, with things lying on it."""
    height, width = HEIGHT + 160, WIDTH + 160
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    grain = sum(_smooth(random, height, width, cells) / (n + 1) for n, cells in enumerate((4, 16, 64, 200)))
    wood = 130 + 40 * grain + 10 * np.sin(x / 7 + 6 * _smooth(random, height, width, 6))
    lamp = 1.15 - 0.5 * np.hypot((x - width / 3) / width, (y - height / 3) / height)
    picture = np.stack([wood * lamp, wood * 0.82 * lamp, wood * 0.62 * lamp], axis=-1)
    table = np.ascontiguousarray(picture.clip(0, 255).astype(np.uint8))
    for _ in range(14):
        left, top = int(random.integers(40, width - 40)), int(random.integers(40, height - 40))
        colour = tuple(int(c) for c in random.integers(20, 235, 3))
        box = cv2.boxPoints(((float(left), float(top)), (46.0, 30.0), float(random.uniform(0, 90))))
        cv2.fillPoly(table, [box.astype(np.int32)], colour, cv2.LINE_AA)
        cv2.putText(table, "SO-101", (left - 20, top + 4), 0, 0.35, (250, 250, 250), 1, cv2.LINE_AA)
    return table.astype(np.uint8, copy=False)


def _smooth(random: np.random.Generator, height: int, width: int, cells: int) -> npt.NDArray[np.float32]:
    coarse = random.uniform(-1, 1, (cells, cells)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float32)


def _front(table: Pixels, phase: float) -> Pixels:
    """The camera stands still and the arm reaches over the table."""
    picture = np.ascontiguousarray(table[80 : 80 + HEIGHT, 80 : 80 + WIDTH])
    angle = 0.7 * np.sin(2 * np.pi * phase)
    joint = np.array([WIDTH / 2, 20.0])
    for length, bend, width, shade in ((170, 0.0, 44, 60), (150, 0.5, 34, 90), (80, -0.4, 22, 140)):
        angle += bend * np.cos(2 * np.pi * phase)
        tip = joint + length * np.array([np.sin(angle), np.cos(angle)])
        begin, end = ((int(p[0]), int(p[1])) for p in (joint, tip))
        cv2.line(picture, begin, end, (shade // 2, shade // 2, shade // 2), width + 6, cv2.LINE_AA)
        cv2.line(picture, begin, end, (230, shade + 90, 40), width, cv2.LINE_AA)
        cv2.circle(picture, end, width // 2, (45, 45, 50), -1, cv2.LINE_AA)
        joint = tip
    return picture


def _wrist(table: Pixels, phase: float) -> Pixels:
    """The camera moves with the gripper: the whole table slides by, the jaws stand still."""
    left, top = 80 + 78 * np.sin(2 * np.pi * phase), 80 + 70 * np.cos(2 * np.pi * phase)
    shift = np.array([[1, 0, -left], [0, 1, -top]], np.float32)
    picture = np.ascontiguousarray(cv2.warpAffine(table, shift, (WIDTH, HEIGHT)))
    opening = int(30 + 25 * np.sin(4 * np.pi * phase))
    for side in (-1, 1):
        x = WIDTH // 2 + side * opening
        jaw = np.array([[x, 330], [x + side * 40, 340], [x + side * 90, HEIGHT], [x + side * 20, HEIGHT]], np.int32)
        cv2.fillPoly(picture, [jaw], (60, 60, 66), cv2.LINE_AA)
    return picture.astype(np.uint8, copy=False)


def _noisy(picture: Pixels, random: np.random.Generator) -> Pixels:
    noise = random.standard_normal((HEIGHT, WIDTH, 1), np.float32) * NOISE
    return (picture + noise).clip(0, 255).astype(np.uint8)
