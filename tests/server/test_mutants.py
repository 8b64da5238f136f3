"""Mutants of a real episode file: whatever is in it, the confined process answers, and opens no other file."""

import asyncio
import json
import random

import h5py
import numpy as np
import pytest

from lefleet_server.episodes import bounded, validation
from lefleet_server.problems import Invalid

PROCESS = "lefleet_server.analysis.process"


def flipped(data: bytes, rng: random.Random) -> bytes:
    """Bits turned over, most of them in the structure, which lies at both ends; or an end cut off."""
    mutant = bytearray(data)
    if rng.random() < 0.2:
        return bytes(mutant[: rng.randrange(len(mutant))])
    for _ in range(rng.randint(1, 30)):
        near = rng.randrange(min(len(mutant), 8192)) if rng.random() < 0.7 else rng.randrange(len(mutant))
        mutant[near if rng.random() < 0.5 else -1 - near] ^= 1 << rng.randrange(8)
    return bytes(mutant)


async def verdict(path) -> dict:
    try:
        return json.loads(await bounded.ask(PROCESS, path, timeout_s=60))
    except bounded.FileFaultError as error:
        return {"error": str(error)}


async def test_a_mutant_is_valid_or_refused_with_a_reason(episode_file, tmp_path):
    data = episode_file().read_bytes()
    rng = random.Random(5)  # noqa: S311 - mutants, not secrets
    slots = asyncio.Semaphore(4)

    async def one(number: int) -> dict:
        path = tmp_path / f"mutant-{number}"
        path.write_bytes(flipped(data, rng))
        async with slots:
            return await verdict(path)

    found = await asyncio.gather(*(one(number) for number in range(100)))
    assert all("flags" in each or each["error"] for each in found)
    assert sum("error" in each for each in found) > 20


@pytest.mark.parametrize("link", [h5py.ExternalLink("/etc/hostname", "/x"), h5py.SoftLink("/action_requested")])
async def test_links_are_refused(episode_file, link):
    def edit(file):
        del file["action"]
        file["action"] = link

    assert "action" in (await verdict(episode_file(edit)))["error"]


async def test_a_huge_claim_costs_nothing(episode_file):
    def edit(file):
        del file["action"]
        file.create_dataset("action", shape=(2**40, 6), dtype="<f4", chunks=(1024, 6), compression="gzip")

    assert "contiguous" in (await verdict(episode_file(edit)))["error"]


def without(name):
    def edit(file):
        del file[name]

    return edit


def instead(name, **options):
    """Another dataset of that name."""

    def edit(file):
        del file[name]
        file.create_dataset(name, **options)

    return edit


def linked(name, to):
    def edit(file):
        if name in file:
            del file[name]
        file[name] = file[to] if isinstance(to, str) else to

    return edit


def attribute(name, value):
    def edit(file):
        file.attrs[name] = value

    return edit


def badly_named(file):
    space = h5py.h5s.create(h5py.h5s.SCALAR)
    h5py.h5a.create(file.id, b"not UTF-8: \xff", h5py.h5t.NATIVE_INT64, space)


def deep(file):
    group = file
    for _ in range(1000):
        group = group.create_group("g")


def odd_names(file):
    for name in ("\N{SNOWMAN}", " ", "..", "x" * 5000, "new\nline", "\x7f"):
        file.create_group(name)
        file.attrs[f"odd {name}"] = name


PAIR = np.dtype([("a", "<f4"), ("b", "<f4")])
NUMBERS = h5py.vlen_dtype("<f4")
LISTS = np.array([np.zeros(3, "<f4"), np.zeros(2, "<f4")], object)
# What is done to a file, and what is said of it; None: it is as good as before.
STRUCTURES = {
    "no times": (without("time"), "time/monotonic_ns: is missing"),
    "no observations": (without("observations"), "observations/qpos: is missing"),
    "no attribute cameras": (lambda file: file.attrs.pop("cameras"), "cameras: must be an array"),
    "a number for a group": (instead("time", data=3), "time/monotonic_ns: is missing"),
    "a group for numbers": (linked("action", "observations"), "action: is not a dataset"),
    "text for numbers": (instead("action", data=["a"] * 12), "action: has type"),
    "pairs for numbers": (instead("action", shape=(12, 6), dtype=PAIR), "action: has type"),
    "lists for numbers": (instead("action", shape=(12, 6), dtype=NUMBERS), "action: has type"),
    "integers for numbers": (instead("action", data=np.zeros((12, 6), "<i4")), "action: has type"),
    "the other byte order": (instead("action", data=np.zeros((12, 6), ">f4")), "action: has type"),
    "pairs for pictures": (instead("observations/images/front", shape=(12, 9), dtype=PAIR), "has type"),
    "one dimension more": (instead("action", data=np.zeros((12, 6, 1), "<f4")), "action: has shape"),
    "a single number": (instead("time/monotonic_ns", data=np.int64(1)), "time/monotonic_ns: has shape"),
    "no dataspace": (instead("action", data=h5py.Empty("<f4")), "action: has shape None"),
    "no ticks": (instead("time/monotonic_ns", shape=(0,), dtype="<i8"), "at least 1 is needed"),
    "pictures of no bytes": (instead("observations/images/front", shape=(12, 0), dtype="u1"), "has 0"),
    "more ticks than bytes": (instead("time/monotonic_ns", shape=(2**60,), dtype="<i8"), "outside the file"),
    "huge pictures": (instead("observations/images/front", shape=(12, 2**59), dtype="u1"), "outside the file"),
    "huge chunks": (instead("action", shape=(2**40, 6), dtype="<f4", chunks=(2**26, 6)), "one contiguous piece"),
    "huge and packed": (
        instead("observations/images/front", shape=(12, 2**50), dtype="u1", chunks=(1, 2**20), compression="gzip"),
        "one contiguous piece",
    ),
    "another file's bytes": (
        instead("time/wall_ns", shape=(12,), dtype="<i8", external=[("/etc/passwd", 0, 96)]),
        "one contiguous piece",
    ),
    "a link to itself": (linked("time", h5py.SoftLink("/time")), "time/monotonic_ns: is missing"),
    "a group in itself": (linked("observations/again", "observations"), None),
    "the whole as a part": (linked("time", "/"), "time/monotonic_ns: is missing"),
    "a mark that is no dataset": (linked("held", "observations"), "held: is not a dataset"),
    "a mark that leads to itself": (linked("held", h5py.SoftLink("/held")), "held: is missing"),
    "a thousand groups deep": (deep, None),
    "names of any characters": (odd_names, None),
    "an attribute whose name is no text": (badly_named, "is not UTF-8"),
    "an attribute of pairs": (attribute("extra", np.zeros(2, PAIR)), "extra"),
    "an attribute of lists": (lambda file: file.attrs.create("task", LISTS, dtype=NUMBERS), "task"),
    "an attribute of nothing": (attribute("task", h5py.Empty("<f4")), "task"),
    "an attribute of long doubles": (attribute("fps", np.longdouble(30)), "fps: has a type"),
    "a reference": (lambda file: file.attrs.create("task", file["time"].ref), "task"),
    "a camera outside": (attribute("cameras", ["../time", "wrist"]), "is not a camera's name"),
    "a camera without a name": (attribute("cameras", ["", "wrist"]), "cameras: must be an array"),
    "a camera that nobody can ask for": (attribute("cameras", ["wrist", "\N{SNOWMAN}"]), "is missing"),
    "frames of another kind": (attribute("frames", "12"), "frames"),
    "frames that no number is": (attribute("fps", float("nan")), "fps"),
}


async def test_an_odd_structure_is_valid_or_refused_by_name(episode_file):
    slots = asyncio.Semaphore(4)

    async def said(name: str) -> str | None:
        path = episode_file(STRUCTURES[name][0])
        async with slots:
            try:
                await validation.examine(bounded.Fresh(validation.READER), path, 60)
            except Invalid as refusal:
                return refusal.detail.encode().decode()  # as it goes over HTTP
            found = await verdict(path)
            return found.get("error")

    found = dict(zip(STRUCTURES, await asyncio.gather(*map(said, STRUCTURES)), strict=True))
    wrong = {name: found[name] for name, (_, words) in STRUCTURES.items() if (words or "") not in (found[name] or "")}
    assert wrong == {}
    assert {name for name in found if found[name] is None} == {n for n, (_, words) in STRUCTURES.items() if not words}
