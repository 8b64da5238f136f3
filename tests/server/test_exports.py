"""Exports for Rerun and Foxglove, read back by their own readers: every tick, every picture's bytes, every value."""

import asyncio
import hashlib
import math
import os
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import h5py
import numpy as np
import psutil
import pytest
from exported import DATASETS, Mcap, Rrd, datasets, pictures
from sqlalchemy import text
from starlette.requests import ClientDisconnect
from workers import Vanishing, analyse

from lefleet_server.accounts.models import Role
from lefleet_server.episodes import stores
from lefleet_server.episodes.models import Episode
from lefleet_server.episodes.service import get_episode
from lefleet_server.exports import Format
from lefleet_server.exports.exporter import Exporter
from lefleet_server.exports.routes import unless_gone
from lefleet_server.problems import Invalid, NoSpace, Unavailable

API = "/api/v1"
JOINTS = ["pan", "lift", "elbow", "flex", "roll", "gripper"]
SECOND_NS = 10**9


def address(episode: str, kind: str) -> str:
    return f"{API}/episodes/{episode}/export.{kind}"


def slow(file: h5py.File) -> None:
    """`front` has no picture at two ticks, then one for every three; `wrist` has new ones under one number."""
    rows, lengths = file["observations/images/front"], file["observations/image_bytes/front"]
    numbers = file["observations/image_seq/front"]
    for tick in range(2, len(lengths)):
        first = tick - (tick - 2) % 3
        rows[tick], lengths[tick], numbers[tick] = rows[first], lengths[first], first
    lengths[:2] = 0
    file["observations/image_seq/wrist"][:] = 7


def led(file: h5py.File) -> None:
    """A person leads at 3 to 5, the arm is held at 8, half a second is missing before 10, the clock is set at 6."""
    ticks = len(file["time/monotonic_ns"])
    file["intervention"] = np.array([3 <= tick < 6 for tick in range(ticks)], "u1")
    file["held"] = np.array([tick == 8 for tick in range(ticks)], "u1")
    file["time/monotonic_ns"][10:] += SECOND_NS // 2
    file["time/wall_ns"][6:] -= 3600 * SECOND_NS


def edited(*edits: Callable[[h5py.File], None]) -> Callable[[h5py.File], None]:
    def edit(file: h5py.File) -> None:
        for each in edits:
            each(file)

    return edit


@pytest.fixture
def uploaded(robot, episode_file):
    async def upload(edit: Callable[[h5py.File], None] | None = None, **attributes: object) -> Path:
        path = episode_file(edit, **attributes)
        (await robot.upload(path)).raise_for_status()
        return path

    return upload


@pytest.mark.parametrize("store", ["local", "s3"])
async def test_an_mcap_holds_every_tick_every_picture_and_the_files_values(operator, uploaded, stored):
    path = await uploaded(edited(slow, led))
    answer = (await operator.get(address(path.stem, "mcap"))).raise_for_status()
    assert answer.headers["content-type"] == "application/mcap"
    assert answer.headers["content-disposition"] == f'attachment; filename="robot-1-{path.stem}.mcap"'
    assert stored("making") == [], "nothing is kept"
    found, data = Mcap(answer.content), datasets(path)
    ticks = len(data["action"])
    times = data["time/wall_ns"][0] + data["time/monotonic_ns"] - data["time/monotonic_ns"][0]
    for name, dataset in DATASETS.items():
        values = [[message[joint] for joint in JOINTS] for message in found.messages(f"/joints/{name}")]
        assert np.array_equal(np.array(values, "<f4"), data[dataset])
        assert [message.log_time for message, _ in found.topics[f"/joints/{name}"]] == times.tolist()
        assert [message.sequence for message, _ in found.topics[f"/joints/{name}"]] == list(range(ticks))
    for tick, message in enumerate(found.messages("/tick")):
        for clock in ("monotonic", "wall"):
            assert message[clock]["sec"] * SECOND_NS + message[clock]["nsec"] == data[f"time/{clock}_ns"][tick]
        assert (message["tick"], message["held"], message["intervention"]) == (tick, tick == 8, 3 <= tick < 6)
        for name in ("lateness_ns", "inference_ns"):
            assert message[name] == data[f"time/{name}"][tick]
    for camera, expected in pictures(path).items():
        got = found.topics[f"/camera/{camera}"]
        assert found.schemas[f"/camera/{camera}"] == "foxglove.CompressedImage"
        assert [(message.sequence, image.data) for message, image in got] == expected
        for message, image in got:
            age_ns = message.log_time - image.timestamp.ToNanoseconds()
            taken_ns = data[f"observations/image_monotonic_ns/{camera}"][message.sequence]
            assert age_ns == data["time/monotonic_ns"][message.sequence] - taken_ns
            assert (image.format, image.frame_id) == ("jpeg", camera)
    assert [tick for tick, _ in pictures(path)["front"]] == [2, 5, 8, 11]
    assert len(pictures(path)["wrist"]) == ticks, "equal numbers hide no picture"
    assert found.schemas["/joint_states"] == "foxglove.JointStates"
    states = found.messages("/joint_states")
    assert [joint.name for joint in states[0].joints] == JOINTS[:5], "a percent is no angle"
    angles = [[math.degrees(joint.position) for joint in state.joints] for state in states]
    assert np.allclose(angles, data["observations/qpos"][:, :5], rtol=1e-12)


async def test_an_mcap_is_the_same_each_time_and_goes_on_where_it_was(operator, uploaded, stored):
    path = await uploaded(led)
    whole = (await operator.get(address(path.stem, "mcap"))).raise_for_status()
    etag = f'"{hashlib.sha256(whole.content).hexdigest()}"'
    assert whole.headers["etag"] == etag
    rest = await operator.get(address(path.stem, "mcap"), headers={"Range": "bytes=1000-", "If-Range": etag})
    assert (rest.status_code, rest.headers["etag"], rest.content) == (206, etag, whole.content[1000:])
    assert rest.headers["content-range"] == f"bytes 1000-{len(whole.content) - 1}/{len(whole.content)}"
    few = await operator.get(address(path.stem, "mcap"), headers={"Range": "bytes=5-9", "If-Range": etag})
    assert few.content == whole.content[5:10]
    for more in ({}, {"If-Range": '"another"'}):
        again = await operator.get(address(path.stem, "mcap"), headers={"Range": "bytes=1000-"} | more)
        assert (again.status_code, again.content) == (200, whole.content)
    wrong = {"Range": f"bytes={len(whole.content)}-", "If-Range": etag}
    assert (await operator.get(address(path.stem, "mcap"), headers=wrong)).status_code == 416
    assert stored("making") == []


async def test_an_rrd_is_another_file_each_time_and_comes_whole(operator, uploaded):
    path = await uploaded()
    first = (await operator.get(address(path.stem, "rrd"))).raise_for_status()
    assert first.headers["etag"] == f'"{hashlib.sha256(first.content).hexdigest()}"'
    headers = {"Range": "bytes=1000-", "If-Range": first.headers["etag"]}
    again = await operator.get(address(path.stem, "rrd"), headers=headers)
    assert (again.status_code, again.headers["etag"]) == (200, f'"{hashlib.sha256(again.content).hexdigest()}"')


@pytest.mark.parametrize("store", ["local", "s3"])
async def test_an_rrd_holds_every_tick_every_picture_and_the_files_values(operator, uploaded, stored, tmp_path):
    path = await uploaded(edited(slow, led))
    answer = (await operator.get(address(path.stem, "rrd"))).raise_for_status()
    assert answer.headers["content-disposition"] == f'attachment; filename="robot-1-{path.stem}.rrd"'
    assert stored("making") == [], "nothing is kept"
    found, data = Rrd(answer.content, tmp_path), datasets(path)
    assert (found.recording_id, found.blueprints) == (path.stem, 1)
    ticks = range(len(data["action"]))
    elapsed = (data["time/monotonic_ns"] - data["time/monotonic_ns"][0]).tolist()
    times = [(tick, elapsed[tick], int(data["time/wall_ns"][tick])) for tick in ticks]
    for name, dataset in DATASETS.items():
        for number, joint in enumerate(JOINTS):
            rows = found.rows(f"/joints/{joint}/{name}", "Scalars:scalars")
            assert [row[:3] for row in rows] == times
            assert np.array_equal(np.array([row[3] for row in rows], "<f4"), data[dataset][:, number])
    for name in ("time/lateness_ns", "time/inference_ns", "held", "intervention"):
        rows = found.rows(f"/tick/{name.removeprefix('time/')}", "Scalars:scalars")
        assert [row[3] for row in rows] == data[name].tolist()
    for camera, expected in pictures(path).items():
        rows = found.rows(f"/camera/{camera}", "EncodedImage:blob")
        assert [row[:3] for row in rows] == [times[tick] for tick, _ in expected]
        assert [bytes(row[3]) for row in rows] == [jpeg for _, jpeg in expected]
        assert {row[3] for row in found.rows(f"/camera/{camera}", "EncodedImage:media_type")} == {"image/jpeg"}


async def test_both_tell_what_happened_and_where_it_came_from(operator, uploaded, tmp_path):
    path = await uploaded(led, interrupted=True, outcome="failure", end_reason="recovered after a crash")
    mcap = Mcap((await operator.get(address(path.stem, "mcap"))).content)
    rrd = Rrd((await operator.get(address(path.stem, "rrd"))).content, tmp_path)
    expected = [
        (0, f"Episode {path.stem} begins: lift the block (lefleet/act {'c' * 40})"),
        (3, "A person takes over"),
        (6, "A person hands back"),
        (8, "The arm is held"),
        (9, "The arm goes on"),
        (10, "No tick for 0.533 s"),
        (11, "Episode is interrupted: failure, recovered after a crash"),
    ]
    assert [(message.sequence, log.message) for message, log in mcap.topics["/events"]] == expected
    assert [row[0::3] for row in rrd.rows("/events", "TextLog:text")] == expected
    assert [row[0] for row in rrd.rows("/events", "TextLog:level") if row[3] == "WARN"] == [10, 11]
    assert [log.level for log in mcap.messages("/events")] == [2, 2, 2, 2, 2, 3, 3]
    for attributes in (mcap.attributes, rrd.attributes()):
        assert attributes["policy_commit"] == "c" * 40
        assert attributes["policy_files"] == '{"config.json": "' + "0" * 64 + '"}'
        assert (attributes["calibration_fingerprint"], attributes["interrupted"]) == ("c0", "true")
        assert attributes["joint_names"] == '["pan", "lift", "elbow", "flex", "roll", "gripper"]'


def blind(file: h5py.File) -> None:
    for camera in ("front", "wrist"):
        file[f"observations/image_bytes/{camera}"][:] = 0


@pytest.mark.parametrize(("edit", "cameras"), [(blind, ["front", "wrist"]), (None, [])])
async def test_an_episode_without_pictures_has_its_numbers(operator, uploaded, tmp_path, edit, cameras):
    path = await uploaded(edit, **({} if cameras else {"cameras": np.array([], "S1")}))
    mcap = Mcap((await operator.get(address(path.stem, "mcap"))).raise_for_status().content)
    assert [topic for topic in mcap.topics if topic.startswith("/camera")] == []
    assert len(mcap.messages("/joints/sent")) == 12
    rrd = Rrd((await operator.get(address(path.stem, "rrd"))).raise_for_status().content, tmp_path)
    assert [entity for entity in rrd.entities if entity.startswith("/camera")] == []
    assert len(rrd.rows("/joints/pan/sent", "Scalars:scalars")) == 12
    assert "held" not in mcap.messages("/tick")[0], "what the first agents did not record is not made up"


async def test_names_that_are_no_words_keep_their_place(operator, uploaded, tmp_path):
    names = ["a/b", "..", "ü {x}", "#", "a b", "/"]
    path = await uploaded(None, joint_names=names)
    mcap = Mcap((await operator.get(address(path.stem, "mcap"))).raise_for_status().content)
    values = [[message[joint] for joint in names] for message in mcap.messages("/joints/sent")]
    assert np.array_equal(np.array(values, "<f4"), datasets(path)["action"])
    rrd = Rrd((await operator.get(address(path.stem, "rrd"))).raise_for_status().content, tmp_path)
    assert len([entity for entity in rrd.entities if entity.endswith("/sent")]) == len(names)


async def test_a_quarantined_episode_is_refused_with_the_reason(operator, uploaded, services, settings):
    def spoil(file: h5py.File) -> None:
        file["observations/qpos"][3, 2] = np.nan

    path = await uploaded(spoil)
    for kind in Format:
        early = await operator.get(address(path.stem, kind))
        assert (early.status_code, "elbow is nan at tick 3" in early.json()["detail"]) == (422, True)
    await analyse(services, settings)
    for kind in Format:
        answer = await operator.get(address(path.stem, kind))
        assert (answer.status_code, "elbow is nan at tick 3" in answer.json()["detail"]) == (409, True)


async def test_what_is_not_there_is_told(operator, uploaded, services, person):
    path = await uploaded()
    assert (await operator.get(address("0" * 32, "mcap"))).status_code == 404
    assert (await operator.get(address(path.stem, "csv"))).status_code == 422
    await services.blobs.remove(await sha256_of(services, path.stem))
    lost = await operator.get(address(path.stem, "rrd"))
    assert (lost.status_code, "not in the store" in lost.json()["detail"]) == (404, True)
    admin = await person(Role.ADMIN)
    (await admin.delete(f"{API}/episodes/{path.stem}", params={"reason": "a test"})).raise_for_status()
    assert (await operator.get(address(path.stem, "mcap"))).status_code == 410


async def sha256_of(services, episode: str) -> str:
    async with services.db.session() as session:
        return str(await session.scalar(text("SELECT sha256 FROM episodes WHERE id = :id"), {"id": episode}))


async def test_a_crafted_file_is_refused_or_exported_and_nothing_else(operator, uploaded, services, stored):
    path = await uploaded(led)
    blob = services.blobs.path(await sha256_of(services, path.stem))
    original = path.read_bytes()
    draw = random.Random(5)  # noqa: S311 - no secret
    answers = []
    for turn in range(16):
        mutant = bytearray(original)
        for _ in range(draw.choice([1, 20, 300])):
            mutant[draw.randrange(min(len(mutant), 20_000) if turn % 2 else len(mutant))] = draw.randrange(256)
        blob.chmod(0o600)
        blob.write_bytes(mutant[: len(mutant) // 2] if turn == 7 else mutant)
        answer = await operator.get(address(path.stem, "mcap" if turn % 4 else "rrd"))
        answers.append(answer.status_code)
        if answer.status_code == 422:
            assert answer.json()["detail"].startswith(f"no {'mcap' if turn % 4 else 'rrd'} can be made")
    assert set(answers) <= {200, 422}, answers
    assert 422 in answers
    assert stored("making") == []


async def test_a_link_out_of_the_file_is_not_followed(operator, uploaded, services, tmp_path):
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = np.ones(12, "u1")
    path = await uploaded()
    blob = services.blobs.path(await sha256_of(services, path.stem))
    blob.chmod(0o600)
    with h5py.File(blob, "r+") as file:
        file["held"] = h5py.ExternalLink(str(other), "secret")
    answer = (await operator.get(address(path.stem, "mcap"))).raise_for_status()
    assert "held" not in Mcap(answer.content).messages("/tick")[0]


async def test_an_export_that_grows_too_large_is_given_up(operator, uploaded, services, stored):
    def long_names(file: h5py.File) -> None:
        names = np.array([f"{number}{'x' * 9000}" for number in range(6)], h5py.string_dtype())
        del file.attrs["joint_names"]
        file.attrs["joint_names"] = names

    path = await uploaded(long_names, ticks=600)
    answer = await operator.get(address(path.stem, "mcap"))
    assert (answer.status_code, "File too large: of a file" in answer.json()["detail"]) == (422, True)
    assert stored("making") == []


@pytest.fixture
async def episode(uploaded, services) -> Episode:
    path = await uploaded()
    async with services.db.session() as session:
        return await get_episode(session, path.stem)


class Endless:
    """A store of a file whose reading never ends: nobody writes into the pipe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        os.mkfifo(path)

    @asynccontextmanager
    async def local(self, sha256: str) -> AsyncIterator[Path]:
        yield self._path


def makers() -> list[psutil.Process]:
    return [each for each in psutil.Process().children(recursive=True) if "exports.process" in " ".join(each.cmdline())]


@pytest.fixture
def stuck(settings, tmp_path) -> Callable[..., Exporter]:
    blobs = Endless(tmp_path / "endless")
    return lambda timeout_s=60.0: Exporter(blobs, stores.making(settings), 1, timeout_s)


async def make(exporter: Exporter, episode: Episode) -> None:
    async with exporter.made(episode, Format.MCAP):
        raise AssertionError("there is nothing to make")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - another process has no event
            await asyncio.sleep(0.02)


async def test_a_file_that_hangs_is_given_up_and_its_turn_is_free_again(stuck, episode, stored):
    one = stuck(timeout_s=2)
    for _ in range(2):
        with pytest.raises(Invalid, match=r"MB\) could not be read within 2 s; take its HDF5"):
            await make(one, episode)
    assert (makers(), stored("making")) == ([], [])


async def test_who_comes_while_others_are_made_is_asked_to_come_again(stuck, episode, stored):
    one = stuck()
    task = asyncio.create_task(make(one, episode))
    await until(lambda: bool(makers()))
    with pytest.raises(Unavailable, match="exports_at_once = 1") as refused:
        await make(one, episode)
    assert refused.value.headers == {"Retry-After": "5"}
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not makers())
    assert stored("making") == []


async def test_nothing_is_made_for_a_client_that_has_gone(stuck, episode, stored):
    async def is_gone() -> bool:
        return bool(makers())

    with pytest.raises(ClientDisconnect):
        await unless_gone(is_gone, make(stuck(), episode))
    assert (makers(), stored("making")) == ([], [])


async def test_a_client_that_goes_before_the_first_byte_leaves_no_file(app, operator, uploaded, stored):
    path = await uploaded()
    gone = asyncio.Event()

    requests = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict:
        if requests:
            return requests.pop()
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict) -> None:
        gone.set()
        raise OSError("the connection is closed")

    cookies = "; ".join(f"{name}={value}" for name, value in operator.cookies.items())
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": address(path.stem, "mcap"),
        "raw_path": address(path.stem, "mcap").encode(),
        "query_string": b"",
        "headers": [(b"host", b"server"), (b"cookie", cookies.encode())],
        "client": ("127.0.0.1", 1234),
        "server": ("server", 80),
        "scheme": "http",
    }
    with pytest.raises((OSError, RuntimeError)):
        await app(scope, receive, send)
    assert gone.is_set(), "it was made and about to be sent"
    assert stored("making") == []


async def test_a_file_that_the_host_cannot_read_is_no_fault_of_the_file(services, settings, episode):
    exporter = Exporter(Vanishing(services.blobs.root), stores.making(settings), 1, 60)
    with pytest.raises(Unavailable, match=r"cannot be .* try again in \d+ s"):
        await make(exporter, episode)


async def test_a_full_disk_makes_nothing(services, settings, episode):
    full = settings.model_copy(update={"min_free_bytes": 1 << 60})
    exporter = Exporter(services.blobs, stores.making(full), 1, 60)
    with pytest.raises(NoSpace, match="min_free_bytes"):
        await make(exporter, episode)
