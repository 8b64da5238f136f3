"""Mutants of a real episode file: whatever is in it, the confined process answers, and opens no other file."""

import asyncio
import json
import random

import h5py
import pytest

from lefleet_server.episodes import bounded

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
