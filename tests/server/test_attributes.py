"""How much a file may say about itself: what is larger is refused by name, in the process that reads, and left out of
lists."""

import struct
from pathlib import Path

import h5py
import numpy as np
import pytest

from lefleet_server.episodes import service
from lefleet_server.episodes.attributes import MOST_BYTES, MOST_ELEMENTS


@pytest.fixture
def laid_out(episode_file, tmp_path):
    """In another layout of HDF5: `earliest` has no checksums, so a test may write into it; `latest` has large ones."""

    def write(libver: str, **attributes: object) -> Path:
        new = episode_file()
        path = tmp_path / libver / new.name
        path.parent.mkdir()
        with h5py.File(new) as source, h5py.File(path, "w", libver=libver) as file:
            for name in source:
                source.copy(name, file)
            file.attrs.update(dict(source.attrs) | attributes)
        return path

    return write


def _many(file: h5py.File) -> None:
    for number in range(1100):
        file.attrs[f"n{number}"] = number


def _altogether(file: h5py.File) -> None:
    for number in range(20):
        file.attrs[f"text{number:02}"] = "x" * 60_000


TOO_MUCH = {
    "a long text": (lambda file: file.attrs.create("note", "x" * 100_000), "note", "has 100000 bytes"),
    "a long text in JSON": (lambda file: file.attrs.create("extra", "x" * 100_000), "extra", "has 100000 bytes"),
    "many strings": (lambda file: file.attrs.create("note", ["a"] * 2000), "note", "has 2000 strings"),
    "more than all may have": (_altogether, "text17", "they may have 1048576"),
    "many": (_many, "attributes", "a file may have 1024"),
    "records": (
        lambda file: file.attrs.create("note", np.zeros(2, [("a", "i4")])),
        "note",
        "has a type this server does not know",
    ),
}


@pytest.mark.parametrize("name", TOO_MUCH)
async def test_too_much_is_refused_by_name(robot, episode_file, stored, name):
    edit, field, message = TOO_MUCH[name]
    answer = await robot.upload(episode_file(edit))
    assert answer.status_code == 422, answer.text
    error = answer.json()["errors"][0]
    assert error["field"] == field and message in error["message"]
    assert not stored("incoming") and not stored("blobs")


async def test_a_large_attribute_is_refused_without_being_read(robot, laid_out):
    path = laid_out("latest", weights=np.zeros(60 << 17))
    error = (await robot.upload(path)).json()["errors"][0]
    assert error["field"] == "weights" and f"has {60 << 20} bytes in the file" in error["message"]


async def test_strings_that_are_all_the_same_long_one_are_refused(robot, laid_out):
    """256 MiB in a file of one: each element of the array refers to the same object."""
    count = 256
    path = laid_out("earliest", note=["x" * (1 << 20)] + ["y"] * (count - 1))
    data = bytearray(path.read_bytes())
    long, short = struct.pack("<I", 1 << 20), struct.pack("<I", 1)
    at = next(at for at in range(len(data) - 32) if data[at : at + 4] == long and data[at + 16 : at + 20] == short)
    data[at : at + 16 * count] = data[at : at + 16] * count
    path.write_bytes(data)
    with h5py.File(path) as file:
        assert [len(each) for each in file.attrs["note"]] == [1 << 20] * count
    answer = await robot.upload(path)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == "note"
    assert f"an attribute may have {MOST_BYTES}" in answer.json()["errors"][0]["message"]


async def test_what_is_just_small_enough_is_kept(robot, operator, episode_file):
    path = episode_file(note="ä" * (MOST_BYTES // 2), labels=["a"] * MOST_ELEMENTS, numbers=np.arange(1000.0))
    assert (await robot.upload(path)).status_code == 204
    meta = (await operator.get(f"/api/v1/episodes/{path.stem}")).json()["meta"]
    assert (meta["note"], meta["labels"]) == ("ä" * (MOST_BYTES // 2), ["a"] * MOST_ELEMENTS)
    assert meta["numbers"][-1] == 999.0


async def test_an_attribute_whose_name_is_no_text_is_refused(robot, episode_file):
    path = episode_file(marked=1)
    path.write_bytes(path.read_bytes().replace(b"marked\0", b"m\xffrked\0"))
    answer = await robot.upload(path)
    assert (answer.status_code, answer.json()["type"].rsplit("/")[-1]) == (422, "invalid-episode"), answer.text


def test_lists_leave_the_other_attributes_where_they_are():
    listed = str(service.matching(service.EpisodeFilter()))
    assert "episodes.task" in listed and "episodes.meta" not in listed
