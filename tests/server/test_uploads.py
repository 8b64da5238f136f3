"""Episodes on their way in: whatever happens, one valid file becomes one episode, and a wrong one leaves nothing."""

import asyncio
import hashlib
from dataclasses import replace
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest
from sqlalchemy import delete, func, select, update

from lefleet_server.app import _sweep
from lefleet_server.episodes import bounded, ingest, stores
from lefleet_server.episodes.models import Episode, Upload

every_store = pytest.mark.parametrize("store", ["local", "s3", "azure"])
"""Of tests that are about the store. Elsewhere one object store speaks for all: what differs is below them."""


@pytest.fixture(params=["local", "s3"])
def store(request) -> str:
    return request.param


@pytest.fixture
def leftovers(services, stored):
    """What is on disk and in the tables: (incoming files, blobs, uploads, episodes)."""

    async def count() -> tuple[int, int, int, int]:
        async with services.db.session() as session:
            rows = [await session.scalar(select(func.count()).select_from(t)) for t in (Upload, Episode)]
        return len(stored("incoming")), len(stored("blobs")), *rows

    return count


async def receipt(robot, data: bytes):
    return await robot.http.get(f"/api/v1/robot/receipts/{hashlib.sha256(data).hexdigest()}")


@every_store
async def test_an_upload_becomes_an_episode_with_a_receipt(robot, operator, episode_file, leftovers, services):
    path = episode_file()
    data = path.read_bytes()
    assert (await receipt(robot, data)).status_code == 404
    answer = await robot.upload(path)
    assert answer.status_code == 204
    assert answer.headers["upload-offset"] == str(len(data))
    proof = (await receipt(robot, data)).json()
    assert proof["sha256"] == hashlib.sha256(data).hexdigest()
    assert (proof["episode_id"], proof["bytes"]) == (path.stem, len(data))
    async with services.blobs.local(proof["sha256"]) as stored:
        assert stored.read_bytes() == data
    assert await leftovers() == (0, 1, 0, 1)
    assert b"lefleet_episodes_received_total 1.0" in services.metrics.render()
    episode = (await operator.get(f"/api/v1/episodes/{path.stem}")).json()
    assert (episode["frames"], episode["outcome"], episode["hz_held"]) == (12, "success", 29.97)
    assert episode["meta"]["policy_files"] == {"config.json": "0" * 64}


@every_store
async def test_an_upload_resumes_where_it_stopped(robot, episode_file):
    path = episode_file()
    data = path.read_bytes()
    url = (await robot.announce(data, path.stem)).headers["location"]
    assert (await robot.send(url, data[:1000])).headers["upload-offset"] == "1000"
    head = await robot.http.head(url, headers={"Tus-Resumable": "1.0.0"})
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("1000", str(len(data)))
    assert (await robot.send(url, data[1000:], 1000)).status_code == 204
    assert (await receipt(robot, data)).status_code == 200


@every_store
async def test_announcing_the_same_bytes_again_goes_on_with_the_open_upload(robot, episode_file, leftovers):
    path = episode_file()
    data = path.read_bytes()
    first = await robot.announce(data, path.stem)
    await robot.send(first.headers["location"], data[:500])
    again = await robot.announce(data, path.stem)
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["upload-offset"] == "500"
    assert (await leftovers())[0] == 1


async def test_a_wrong_offset_is_refused_and_tells_the_right_one(robot, episode_file):
    path = episode_file()
    data = path.read_bytes()
    url = (await robot.announce(data, path.stem)).headers["location"]
    await robot.send(url, data[:100])
    for offset in (0, 99, 101):
        answer = await robot.send(url, data[offset:], offset)
        assert answer.status_code == 409
        assert answer.headers["upload-offset"] == "100"
        assert answer.json()["errors"][0]["field"] == "Upload-Offset"


@pytest.mark.parametrize(
    ("changes", "status", "field"),
    [
        ({"Tus-Resumable": "0.2.0"}, 412, "Tus-Resumable"),
        ({"Upload-Length": "-1"}, 422, "Upload-Length"),
        ({"Upload-Length": "0"}, 422, "Upload-Length"),
        ({"Upload-Length": "9" * 18}, 413, "Upload-Length"),
        ({"Upload-Metadata": "sha256 AAAA"}, 422, "sha256"),
        ({"Upload-Metadata": "sha256 ****"}, 422, "Upload-Metadata"),
    ],
)
async def test_a_wrong_announcement_names_the_field(robot, leftovers, changes, status, field):
    answer = await robot.announce(b"data", "0" * 32, **changes)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert field in [error["field"] for error in answer.json()["errors"]]
    assert await leftovers() == (0, 0, 0, 0)


async def test_a_piece_of_the_wrong_type_or_too_long_is_refused(robot, episode_file):
    path = episode_file()
    data = path.read_bytes()
    url = (await robot.announce(data, path.stem)).headers["location"]
    headers = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0"}
    assert (await robot.http.patch(url, headers=headers, content=data)).status_code == 415
    assert (await robot.send(url, data + b"more")).status_code == 413
    assert (await robot.send(url, data)).status_code == 204


@pytest.mark.parametrize("part", ["first", "middle", "last"])
async def test_a_file_with_a_flipped_bit_is_refused_and_leaves_nothing(robot, episode_file, leftovers, part):
    path = episode_file()
    data = bytearray(path.read_bytes())
    url = (await robot.announce(bytes(data), path.stem)).headers["location"]
    data[{"first": 0, "middle": len(data) // 2, "last": -1}[part]] ^= 1
    answer = await robot.send(url, bytes(data))
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "sha256"
    assert await leftovers() == (0, 0, 0, 0)


async def test_a_truncated_file_is_refused_and_leaves_nothing(robot, episode_file, leftovers):
    path = episode_file()
    path.write_bytes(path.read_bytes()[:-2000])
    answer = await robot.upload(path)
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("/invalid-episode")
    assert await leftovers() == (0, 0, 0, 0)


def _replace(name, data=None, **options):
    def edit(file: h5py.File) -> None:
        new = file[name][:] if data is None else data
        del file[name]
        file.create_dataset(name, data=new, **options)

    return edit


def _external(file: h5py.File) -> None:
    del file["observations/qpos"]
    file["observations/qpos"] = h5py.ExternalLink("/etc/hostname", "/x")


def _overlong(file: h5py.File) -> None:
    file["observations/image_bytes/front"][3] = 10**9


def _dark(file: h5py.File) -> None:
    file["observations/images/wrist"][5, 0] = 0


SPOILED = {
    "chunked": (_replace("observations/images/front", chunks=(1, 10)), {}, "observations/images/front"),
    "compressed": (_replace("action", compression="gzip"), {}, "action"),
    "wrong type": (_replace("action", dtype="<f8"), {}, "action"),
    "too short": (_replace("action", data=np.zeros((3, 6), "<f4")), {}, "action"),
    "missing": (lambda file: file.__delitem__("time/lateness_ns"), {}, "time/lateness_ns"),
    "link out of the file": (_external, {}, "observations/qpos"),
    "picture longer than its row": (_overlong, {}, "observations/image_bytes/front"),
    "no JPEG": (_dark, {}, "observations/images/wrist"),
    "format 2": (None, {"lefleet_format": "2"}, "lefleet_format"),
    "another robot": (None, {"robot_id": "robot-2"}, "robot_id"),
    "unknown outcome": (None, {"outcome": "won"}, "outcome"),
    "no rate": (None, {"fps": float("nan")}, "fps"),
    "undecodable task": (None, {"task": np.bytes_(b"\xff\xfe")}, "task"),
    "no interrupted": (lambda file: file.attrs.__delitem__("interrupted"), {}, "interrupted"),
    "climbing camera": (None, {"cameras": ["..", "wrist"]}, "cameras"),
    "wrong frames": (None, {"frames": 13}, "frames"),
}


@pytest.mark.parametrize("name", SPOILED)
async def test_an_invalid_episode_is_refused_by_field_and_leaves_nothing(robot, episode_file, leftovers, name):
    edit, attributes, field = SPOILED[name]
    answer = await robot.upload(episode_file(edit, **attributes))
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["field"] == field
    assert await leftovers() == (0, 0, 0, 0)


async def test_random_damage_never_costs_more_than_the_file(robot, episode_file, leftovers, services):
    rng = np.random.default_rng(5)
    whole = episode_file()
    for _ in range(6):
        data = bytearray(whole.read_bytes())
        for place in rng.integers(0, 4096, 40):
            data[place] = rng.integers(256)
        whole.with_name("damaged.h5").write_bytes(data)
        created = await robot.announce(bytes(data), whole.stem)
        answer = await robot.send(created.headers["location"], bytes(data))
        assert answer.status_code in {204, 409, 422}, answer.text
        assert (await leftovers())[0] == 0


async def test_an_episode_that_is_not_the_announced_one_is_refused(robot, episode_file, leftovers):
    path = episode_file()
    data = path.read_bytes()
    url = (await robot.announce(data, "0" * 32)).headers["location"]
    answer = await robot.send(url, data)
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "episode_id")
    assert await leftovers() == (0, 0, 0, 0)


async def test_stored_bytes_are_not_taken_again(robot, episode_file, leftovers):
    path = episode_file()
    await robot.upload(path)
    answer = await robot.announce(path.read_bytes(), path.stem)
    assert answer.status_code == 409
    assert answer.json()["type"].endswith("/already-stored")
    assert await leftovers() == (0, 1, 0, 1)


async def test_another_file_for_a_stored_episode_is_refused(robot, episode_file, leftovers):
    path = episode_file()
    await robot.upload(path)
    answer = await robot.upload(episode_file(episode_id=path.stem, seed=8))
    assert answer.status_code == 409
    assert answer.json()["type"].endswith("/episode-exists")
    assert await leftovers() == (0, 1, 0, 1)


async def test_a_robot_learns_which_of_its_episodes_are_not_stored(robot, enrol, episode_file):
    path = episode_file()
    await robot.upload(path)
    stored = hashlib.sha256(path.read_bytes()).hexdigest()

    async def missing(client, *digests: str):
        return await client.http.post("/api/v1/robot/receipts/missing", json={"sha256": digests})

    assert (await missing(robot, "0" * 64, stored, "f" * 64)).json() == {"sha256": ["0" * 64, "f" * 64]}
    assert (await missing(robot, stored)).json() == {"sha256": []}
    assert (await missing(robot)).json() == {"sha256": []}
    other = await enrol("robot-2")
    assert (await missing(other, stored)).json() == {"sha256": [stored]}, "another robot's is none of its own"
    await other.http.aclose()
    for wrong in (["0"], ["0" * 64] * 1001):
        answer = await missing(robot, *wrong)
        assert answer.status_code == 422 and answer.json()["errors"][0]["field"].startswith("sha256")


async def test_a_robot_sees_neither_uploads_nor_receipts_of_another(robot, enrol, episode_file):
    other = await enrol("robot-2")
    path = episode_file()
    data = path.read_bytes()
    url = (await robot.announce(data, path.stem)).headers["location"]
    tus = {"Tus-Resumable": "1.0.0"}
    assert (await other.http.head(url, headers=tus)).status_code == 404
    assert (await other.send(url, data)).status_code == 404
    assert (await other.http.delete(url, headers=tus)).status_code == 404
    await robot.send(url, data)
    assert (await receipt(other, data)).status_code == 404
    assert (await other.announce(data, path.stem)).status_code == 422
    await other.http.aclose()


async def test_the_same_bytes_sent_twice_at_once_become_one_episode(robot, episode_file, leftovers):
    path = episode_file(ticks=200)
    answers = await asyncio.gather(*(robot.upload(path) for _ in range(4)))
    assert {answer.status_code for answer in answers} <= {204, 404, 409, 423}
    assert 204 in {answer.status_code for answer in answers}
    assert await leftovers() == (0, 1, 0, 1)


@every_store
async def test_two_pieces_cannot_interleave(robot, episode_file, services):
    path = episode_file()
    data = path.read_bytes()
    url = (await robot.announce(data, path.stem)).headers["location"]
    async with services.incoming.locked(url.rsplit("/", 1)[1]):
        answer = await robot.send(url, data)
        assert answer.status_code == 423
        assert answer.headers["retry-after"] == "1"
    assert (await robot.send(url, data)).status_code == 204


@every_store
async def test_a_terminated_upload_leaves_nothing(robot, episode_file, leftovers):
    path = episode_file()
    url = (await robot.announce(path.read_bytes(), path.stem)).headers["location"]
    assert (await robot.http.delete(url, headers={"Tus-Resumable": "1.0.0"})).status_code == 204
    assert await leftovers() == (0, 0, 0, 0)


async def test_what_was_complete_when_the_server_died_is_finished_by_asking_for_its_offset(
    robot, episode_file, services, leftovers
):
    path = episode_file()
    data = path.read_bytes()
    url = (await robot.announce(data, path.stem)).headers["location"]
    async with services.incoming.locked(url.rsplit("/", 1)[1]) as part:
        await part.append(data)
    head = await robot.http.head(url, headers={"Tus-Resumable": "1.0.0"})
    assert (head.status_code, head.headers["upload-offset"]) == (200, str(len(data)))
    assert (await receipt(robot, data)).status_code == 200
    assert await leftovers() == (0, 1, 0, 1)


async def test_the_sweep_finishes_complete_uploads_and_removes_expired_ones(
    robot, episode_file, services, leftovers, stored, age
):
    done, old = episode_file(), episode_file()
    urls = [(await robot.announce(p.read_bytes(), p.stem)).headers["location"] for p in (done, old)]
    for url, data in zip(urls, (done.read_bytes(), b"a beginning"), strict=True):
        async with services.incoming.locked(url.rsplit("/", 1)[1]) as part:
            await part.append(data)
    async with services.db.transaction() as session:
        await session.execute(update(Upload).values(created_at=datetime.fromtimestamp(0, UTC)))
    for path in stored("incoming"):
        age(path)
    await ingest.sweep(services)
    assert (await receipt(robot, done.read_bytes())).status_code == 200
    assert await leftovers() == (0, 1, 0, 1)


async def test_the_sweep_removes_bytes_that_belong_to_no_upload_but_no_young_ones(
    robot, episode_file, services, leftovers, stored, age
):
    for path in (episode_file(), episode_file()):
        url = (await robot.announce(path.read_bytes(), path.stem)).headers["location"]
        async with services.incoming.locked(url.rsplit("/", 1)[1]) as part:
            await part.append(b"a beginning")
    age(stored("incoming")[0])
    async with services.db.transaction() as session:
        await session.execute(delete(Upload))
    await ingest.sweep(services)
    assert await leftovers() == (1, 0, 0, 0)


async def test_a_robot_cannot_open_uploads_without_end(robot, services):
    answers = [
        await robot.announce(str(number).encode(), f"{number:032x}")
        for number in range(services.settings.max_open_uploads + 1)
    ]
    assert [answer.status_code for answer in answers[:-1]] == [201] * services.settings.max_open_uploads
    assert answers[-1].status_code == 429


async def test_options_tell_what_the_server_can(anonymous):
    answer = await anonymous.options("/api/v1/robot/uploads")
    assert answer.status_code == 204
    assert answer.headers["tus-extension"] == "creation,termination"


class Busy:
    """A Reader that gets to no file."""

    async def ask(self, *arguments: object, timeout_s: float, most_bytes: int = 0) -> bytes:
        raise bounded.LateError(f"could not be read within {timeout_s:g} s")


async def test_what_a_busy_server_could_not_check_is_kept_and_finished_later(
    robot, episode_file, services, app, leftovers
):
    path = episode_file()
    data = path.read_bytes()
    url = (await robot.announce(data, path.stem)).headers["location"]
    app.state.services = replace(services, reader=Busy())
    answer = await robot.send(url, data)
    assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)
    assert await leftovers() == (1, 0, 1, 0)
    app.state.services = services
    assert (await robot.http.head(url, headers={"Tus-Resumable": "1.0.0"})).status_code == 200
    assert (await receipt(robot, data)).status_code == 200


@pytest.mark.parametrize("store", ["s3"])
async def test_a_part_that_the_store_lost_is_asked_for_again(robot, episode_file, services, leftovers):
    path = episode_file()
    data = path.read_bytes()
    url = (await robot.announce(data, path.stem)).headers["location"]
    assert (await robot.send(url, data[:1000])).status_code == 204
    await services.incoming.remove(url.rsplit("/", 1)[1])
    answer = await robot.send(url, data[1000:], 1000)
    assert (answer.status_code, "retry-after" in answer.headers) == (503, True), answer.text
    assert await leftovers() == (0, 0, 0, 0)
    assert (await robot.upload(path)).status_code == 204


@pytest.mark.parametrize("store", ["local"])
async def test_one_upload_that_cannot_be_finished_holds_up_no_other(robot, episode_file, services, leftovers):
    """Its place on the disk is a folder, which cannot be read."""
    ids = []
    for path in [episode_file() for _ in range(3)]:
        url = (await robot.announce(path.read_bytes(), path.stem)).headers["location"]
        ids.append(url.rsplit("/", 1)[1])
        async with services.incoming.locked(ids[-1]) as part:
            await part.append(path.read_bytes())
    place = services.incoming.path(ids[0])
    place.unlink()
    place.mkdir()
    changes = {ids[0]: {"length": place.stat().st_size}, ids[1]: {"holder": ""}, ids[2]: {"holder": ""}}
    async with services.db.transaction() as session:  # the rows come in the order in which they were last written
        for upload_id, values in changes.items():
            await session.execute(update(Upload).where(Upload.id == upload_id).values(values))
        assert list(await session.scalars(select(Upload.id))) == ids
    await ingest.sweep(services)
    assert await leftovers() == (0, 2, 1, 2)


class Failing:
    """An Incoming that fails in a way that nobody foresaw."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def idle(self, older_than_s: float) -> set[str]:
        self.asked.set()
        raise RuntimeError("nobody foresaw this")


async def test_the_sweep_goes_on_whatever_happens(services):
    failing = Failing()
    task = asyncio.create_task(_sweep(replace(services, incoming=failing)))
    await failing.asked.wait()
    done, _ = await asyncio.wait([task], timeout=0.2)
    assert not done, "it waits for its next turn"
    task.cancel()


@pytest.mark.parametrize("store", ["local"])
async def test_more_bodies_than_memory_are_asked_to_come_again_unread(robot, episode_file, services, app, leftovers):
    path = episode_file()
    data = path.read_bytes()
    url = (await robot.announce(data, path.stem)).headers["location"]
    with services.reception.room(services.settings.upload_memory_bytes):
        answer = await robot.send(url, data)
        assert (answer.status_code, int(answer.headers["retry-after"]) > 0) == (503, True)
        assert "upload_memory_bytes" in answer.json()["detail"]
        assert services.incoming.path(url.rsplit("/", 1)[1]).stat().st_size == 0
    assert (await robot.send(url, data)).status_code == 204


async def test_what_was_received_gives_its_memory_back(robot, episode_file, services):
    for data in (b"not an episode", episode_file().read_bytes()):
        url = (await robot.announce(data, "0" * 32)).headers["location"]
        assert (await robot.send(url, data)).status_code == 422
    with services.reception.room(1), services.reception.room(services.settings.upload_memory_bytes - 1):
        pass


async def test_a_full_disk_is_507_and_nothing_is_taken(robot, services, app):
    full = services.settings.model_copy(update={"min_free_bytes": 1 << 60})
    app.state.services = replace(services, incoming=stores.build(full, services.db, "full").incoming)
    answer = await robot.announce(b"data", "0" * 32)
    assert answer.status_code == 507
    assert "min_free_bytes" in answer.json()["detail"]
