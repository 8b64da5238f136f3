import dataclasses
import hashlib
import json
import re
import resource
import time
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lefleet_agent.episode import CameraImage, Outcome
from lefleet_agent.recording import episode_file
from lefleet_agent.recording.contents import NothingRecordedError, noted
from lefleet_agent.recording.messages import EpisodeEnd

DOCS = Path(__file__).resolve().parents[2] / "docs" / "episode-format.md"
END = EpisodeEnd(Outcome.SUCCESS, False, "task done", frames_dropped=2, ended_wall_ns=1_700_000_001_000_000_000)
TICKS = 10


def build(journal: Path, otherwise: EpisodeEnd | None = None) -> Path:
    part = journal.with_suffix(".h5.part")
    final = journal.with_suffix(".h5")
    episode_file.build(journal, part, otherwise)
    episode_file.publish(part, final)
    assert not part.exists()
    return final


@pytest.fixture
def info(make_info):
    return make_info()


@pytest.fixture
def path(make_journal, info) -> Path:
    return build(make_journal(TICKS, end=END, info=info))


def test_three_lines_of_h5py_and_opencv_read_a_picture(path, make_frames):
    with h5py.File(path) as file:
        picture = cv2.imdecode(file["/observations/images/front"][7], cv2.IMREAD_COLOR)
    seen = make_frames(TICKS)[7].observation.images["front"].rgb
    assert picture.shape == seen.shape
    assert np.abs(picture[..., ::-1].astype(int) - seen).mean() < 3, "RGB became BGR or the wrong picture"


@pytest.mark.parametrize("camera", ["front", "wrist"])
def test_a_byte_range_is_the_picture(path, camera):
    """Plain open, seek and read give the very JPEG that h5py gives."""
    with h5py.File(path) as file:
        images = file[f"/observations/images/{camera}"]
        rows, offset, width = images[:], images.id.get_offset(), images.shape[1]
        lengths = file[f"/observations/image_bytes/{camera}"][:]
    with path.open("rb") as file:
        for tick in range(TICKS):
            file.seek(offset + tick * width)
            jpeg = file.read(lengths[tick])
            assert jpeg[:2] == b"\xff\xd8"
            assert jpeg[-2:] == b"\xff\xd9"
            assert jpeg == rows[tick][: lengths[tick]].tobytes()
            assert not rows[tick][lengths[tick] :].any()
            np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1), cv2.imdecode(rows[tick], 1))


def test_every_dataset_is_one_range_of_the_file(path):
    with h5py.File(path) as file:
        for name, dataset in datasets(file).items():
            assert dataset.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS, name
            assert dataset.compression is None
            with path.open("rb") as plain:
                plain.seek(dataset.id.get_offset())
                assert plain.read(dataset.nbytes) == dataset[:].tobytes(), name


def test_every_tick_is_there_as_it_was(path, make_frames):
    frames = make_frames(TICKS)
    with h5py.File(path) as file:
        equal = np.testing.assert_array_equal
        equal(file["/observations/qpos"], [frame.observation.joints for frame in frames])
        equal(file["/observations/environment"], [frame.observation.environment for frame in frames])
        equal(file["/action"], [frame.sent for frame in frames])
        equal(file["/action_requested"], [frame.requested for frame in frames])
        equal(file["/time/monotonic_ns"], [frame.tick_monotonic_ns for frame in frames])
        equal(file["/time/wall_ns"], [frame.tick_wall_ns for frame in frames])
        equal(file["/time/read_monotonic_ns"], [frame.observation.read_monotonic_ns for frame in frames])
        equal(file["/time/lateness_ns"], [frame.lateness_ns for frame in frames])
        equal(file["/time/inference_ns"], [frame.inference_ns for frame in frames])
        for camera in ("front", "wrist"):
            images = [frame.observation.images[camera] for frame in frames]
            equal(file[f"/observations/image_seq/{camera}"], [image.seq for image in images])
            equal(file[f"/observations/image_monotonic_ns/{camera}"], [image.taken_monotonic_ns for image in images])
            equal(file[f"/observations/image_wall_ns/{camera}"], [image.taken_wall_ns for image in images])


def test_a_slow_camera_repeats_its_picture(path):
    with h5py.File(path) as file:
        rows, numbers = file["/observations/images/front"][:], file["/observations/image_seq/front"][:]
    assert list(numbers) == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4]
    assert (rows[0] == rows[2]).all()
    assert (rows[2] != rows[3]).any()


def test_it_says_how_it_came_about(path, info):
    with h5py.File(path) as file:
        attrs = dict(file.attrs)
    assert attrs["lefleet_format"] == "1"
    assert attrs["episode_id"] == info.episode_id
    assert attrs["robot_id"] == "robot-1"
    assert list(attrs["joint_names"]) == list(info.robot.joint_names)
    assert list(attrs["joint_units"]) == ["degrees"] * 5 + ["percent"]
    assert list(attrs["cameras"]) == ["front", "wrist"]
    assert json.loads(attrs["camera_fingerprints"]) == {"front": "usb-1", "wrist": "usb-2"}
    assert json.loads(attrs["policy_files"]) == info.policy.files
    assert (attrs["policy_repo"], attrs["policy_commit"]) == (info.policy.repo, info.policy.commit)
    assert (attrs["outcome"], bool(attrs["interrupted"]), attrs["end_reason"]) == ("success", False, "task done")
    assert (attrs["frames"], attrs["frames_dropped"]) == (TICKS, 2)
    assert attrs["control_hz_held"] == pytest.approx(30)
    assert attrs["ended_wall_ns"] == END.ended_wall_ns
    assert attrs["seed"] == 7
    assert attrs["sim"].dtype == np.bool_


def test_openpi_and_act_find_what_they_read(path):
    """The steps of openpi's converter and of act-plus-plus' dataset, in our words."""
    with h5py.File(path, "r") as episode:
        cameras = [key for key in episode["/observations/images"].keys() if "depth" not in key]  # noqa: SIM118
        assert cameras == ["front", "wrist"]
        assert episode.attrs.get("compress", False)
        for camera in cameras:
            assert episode[f"/observations/images/{camera}"].ndim != 4
            assert cv2.imdecode(episode[f"/observations/images/{camera}"][3], 1).ndim == 3
        assert episode["/observations/qpos"][3].shape == episode["/observations/qvel"][3].shape == (6,)
        assert episode["/action"][()].dtype == np.float32
        lengths = episode["/compress_len"][()]
        assert lengths.shape == (2, TICKS)
        np.testing.assert_array_equal(lengths[1], episode["/observations/image_bytes/wrist"])


def test_velocity_is_the_joints_difference_a_second(path):
    with h5py.File(path) as file:
        qvel = file["/observations/qvel"][:]
    assert not qvel[0].any()
    np.testing.assert_allclose(qvel[1:], 30 / 7, rtol=1e-3)


def test_a_journal_without_an_end_is_an_interrupted_episode(make_journal):
    with h5py.File(build(make_journal(4))) as file:
        assert bool(file.attrs["interrupted"])
        assert file.attrs["outcome"] == "unknown"
        assert file.attrs["end_reason"] == "recovered after a crash"
        assert file.attrs["ended_wall_ns"] == file["/time/wall_ns"][-1]


def test_the_reason_of_a_recovery_names_the_damage(make_journal):
    journal = make_journal(10)
    data = bytearray(journal.read_bytes())
    data[-100] ^= 1
    journal.write_bytes(data)
    with h5py.File(build(journal)) as file:
        assert file.attrs["frames"] == 9
        assert re.search(r"journal wrong checksum at byte \d+ of \d+", file.attrs["end_reason"])


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_journal_never_makes_an_unreadable_file(make_journal, seed):
    """Cut, zeroed or flipped anywhere: a shorter episode, or none."""
    journal = make_journal(12, end=END)
    data = journal.read_bytes()
    with h5py.File(build(journal)) as file:
        whole = {name: dataset[:] for name, dataset in datasets(file).items() if "images/" not in name}
        pictures = [cv2.imdecode(row, 1) for row in file["/observations/images/wrist"]]
    chance = np.random.default_rng(seed)
    for _ in range(12):
        damaged = bytearray(data)
        place = int(chance.integers(len(data)))
        match int(chance.integers(3)):
            case 0:
                del damaged[place:]
            case 1:
                damaged[place : place + 4096] = bytes(min(4096, len(data) - place))
            case 2:
                damaged[place] ^= 1 << int(chance.integers(8))
        journal.write_bytes(damaged)
        try:
            built = build(journal)
        except NothingRecordedError:
            continue
        with h5py.File(built) as file:
            ticks = int(file.attrs["frames"])
            for name, values in whole.items():
                shape = values.shape[1] if name == "/compress_len" else len(values)
                kept = file[name][:].T if name == "/compress_len" else file[name][:]
                expected = values.T if name == "/compress_len" else values
                assert shape == 12
                np.testing.assert_array_equal(kept, expected[:ticks], err_msg=name)
            for row, picture in zip(file["/observations/images/wrist"], pictures, strict=False):
                np.testing.assert_array_equal(cv2.imdecode(row, 1), picture)


def test_a_journal_without_a_tick_makes_no_file(make_journal):
    journal = make_journal(0, end=END)
    part = journal.with_suffix(".h5.part")
    with pytest.raises(NothingRecordedError, match="holds no tick") as caught:
        episode_file.build(journal, part)
    assert not caught.value.damaged
    journal.write_bytes(b"\0" * 1000)
    with pytest.raises(NothingRecordedError, match="no MCAP file") as caught:
        episode_file.build(journal, part)
    assert caught.value.damaged
    assert not part.exists()


def test_the_same_journal_makes_the_same_bytes(make_journal):
    journal = make_journal(5, end=END)
    assert build(journal).read_bytes() == build(journal).read_bytes()


def test_a_full_disk_leaves_no_part_behind(make_journal):
    journal = make_journal(TICKS, end=END)
    part = journal.with_suffix(".h5.part")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (100, 5000, 30_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(OSError, match=r"[Ff]ile too large"):
                episode_file.build(journal, part)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not part.exists()
    build(journal)


def test_a_camera_that_had_no_picture_is_marked(make_journal, make_frames):
    frames = make_frames(6)
    for tick in (0, 1, 4):
        images = {"front": frames[tick].observation.images["front"]}
        frames[tick] = dataclasses.replace(
            frames[tick], observation=dataclasses.replace(frames[tick].observation, images=images)
        )
    with h5py.File(build(make_journal(frames=frames, end=END))) as file:
        assert [bool(n) for n in file["/observations/image_bytes/wrist"]] == [False, False, True, True, False, True]
        assert not file["/observations/images/wrist"][4].any()
        assert cv2.imdecode(file["/observations/images/wrist"][5], 1) is not None


def test_an_episode_without_policy_seed_environment_or_end_is_still_one(make_info, make_journal, robot, make_frames):
    info = make_info(policy=None, seed=None)
    with h5py.File(build(make_journal(1, info=info))) as file:
        assert file.attrs["policy_repo"] == ""
        assert json.loads(file.attrs["policy_files"]) == {}
        assert "seed" not in file.attrs
        assert file.attrs["control_hz_held"] == 0


floats = st.floats(width=32, allow_nan=True, allow_infinity=True)
joints = arrays(np.float32, 6, elements=floats)
times = st.integers(-(2**63), 2**63 - 1)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(vectors=st.lists(st.tuples(joints, joints, joints, times, times), min_size=1, max_size=12))
def test_vectors_and_times_come_back_bit_for_bit(vectors, make_frames, make_journal):
    frames = [
        dataclasses.replace(
            frame,
            observation=dataclasses.replace(frame.observation, joints=seen),
            requested=wanted,
            sent=sent,
            tick_monotonic_ns=monotonic,
            lateness_ns=lateness,
        )
        for frame, (seen, wanted, sent, monotonic, lateness) in zip(make_frames(len(vectors)), vectors, strict=True)
    ]
    with h5py.File(build(make_journal(frames=frames, end=END))) as file:
        for name, index in {"/observations/qpos": 0, "/action_requested": 1, "/action": 2}.items():
            assert file[name][:].tobytes() == np.stack([row[index] for row in vectors]).tobytes()
        assert file["/time/monotonic_ns"][:].tolist() == [row[3] for row in vectors]
        assert file["/time/lateness_ns"][:].tolist() == [row[4] for row in vectors]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(numbers=st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=12))
def test_the_picture_of_each_tick_is_the_one_it_names(numbers, make_frames, make_journal, robot):
    """Whatever order a camera's numbers come in: a picture's brightness tells which it is."""
    camera = robot.cameras["wrist"]
    frames = []
    for frame, number in zip(make_frames(len(numbers)), numbers, strict=True):
        rgb = np.full((camera.height, camera.width, 3), number % 256, np.uint8)
        images = {**frame.observation.images, "wrist": CameraImage(number, 0, 0, rgb)}
        frames.append(dataclasses.replace(frame, observation=dataclasses.replace(frame.observation, images=images)))
    with h5py.File(build(make_journal(frames=frames, end=END))) as file:
        for number, row, seq in zip(
            numbers, file["/observations/images/wrist"], file["/observations/image_seq/wrist"], strict=True
        ):
            assert seq == number
            assert abs(int(cv2.imdecode(row, 1).mean()) - number % 256) <= 2


def test_the_summary_is_what_the_spool_needs(path):
    summary = episode_file.read_summary(path)
    assert (summary.outcome, summary.interrupted, summary.frames) == (Outcome.SUCCESS, False, TICKS)
    assert summary.ended_wall_ns == END.ended_wall_ns


def datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    found: dict[str, h5py.Dataset] = {}
    file.visititems(lambda name, item: found.update({f"/{name}": item}) if isinstance(item, h5py.Dataset) else None)
    return found


def documented(title: str) -> dict[str, list[str]]:
    """The rows of the table under a heading: first cell to the others."""
    section = DOCS.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:3] == "| `"
    ]
    return {row[0].strip("` |"): row[1:] for row in rows}


def test_the_documented_datasets_are_those_in_the_file(path):
    with h5py.File(path) as file:
        real = {}
        for name, dataset in datasets(file).items():
            name, camera = re.sub(r"/(front|wrist)$", "/<camera>", name), name.rsplit("/")[-1]  # noqa: PLW2901
            lengths = file.get(f"/observations/image_bytes/{camera}")
            letters = {TICKS: "T", 6: "D", 2: "C", 3: "E", int(lengths[:].max()) if lengths else -1: "P"}
            real[name] = [", ".join(letters[size] for size in dataset.shape), dataset.dtype.str.strip("<|")]
    assert real == {name: cells[:2] for name, cells in documented("Datasets").items()}


def test_the_documented_attributes_are_those_in_the_file(path):
    kinds = {str: "string", np.bool_: "bool", np.float64: "float", np.int64: "int", np.ndarray: "strings"}
    with h5py.File(path) as file:
        real = {name: kinds[type(value)] for name, value in file.attrs.items()}
    written = {name: cells[0].replace("JSON", "string") for name, cells in documented("Attributes").items()}
    assert real == written


def test_the_documented_readers_run(path, tmp_path, monkeypatch):
    code = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "episode.h5").write_bytes(path.read_bytes())
    names: dict[str, object] = {}
    for block in code:
        exec(block.replace("12", "7"), names)  # noqa: S102 - our own documentation
    np.testing.assert_array_equal(cv2.imdecode(np.frombuffer(names["jpeg"], np.uint8), 1), names["picture"])


@pytest.mark.parametrize(("led", "stretches"), [("", 0), ("0123456789", 1), ("01589", 3), ("3", 1)])
def test_each_takeover_by_a_person_is_counted_once(make_journal, make_frames, led, stretches):
    frames = [
        dataclasses.replace(frame, intervention=str(tick) in led) for tick, frame in enumerate(make_frames(TICKS))
    ]
    path = build(make_journal(end=END, frames=frames))
    with h5py.File(path) as file:
        assert file.attrs["interventions"] == stretches
        assert [str(tick) for tick in np.flatnonzero(file["/intervention"][:])] == list(led)
    assert episode_file.read_summary(path).interventions == stretches


def test_the_documented_way_to_the_corrections_finds_them(make_journal, make_frames, monkeypatch):
    frames = [
        dataclasses.replace(frame, intervention=tick in (2, 3, 4, 7, 8), held=tick == 4)
        for tick, frame in enumerate(make_frames(TICKS))
    ]
    path = build(make_journal(end=END, frames=frames))
    monkeypatch.chdir(path.parent)
    path.rename("episode.h5")
    example = DOCS.read_text().split("## Corrections")[1].split("```python\n")[1].split("```")[0]
    names: dict = {}
    exec(example, names)  # noqa: S102 - our own page
    assert names["stretches"] == [(2, 4), (7, 9)]
    assert [len(each) for each in names["corrections"]] == [2, 2]


def test_what_its_writer_remembers_makes_the_same_file_as_reading_the_journal(make_journal, notes, tmp_path):
    journal = make_journal(TICKS, end=END)
    remembered = tmp_path / "remembered.h5"
    digest = episode_file.write(journal, remembered, noted(notes[journal], END))
    time.sleep(1)  # HDF5 would note the second in which a dataset was made
    assert remembered.read_bytes() == build(journal).read_bytes()
    assert digest == hashlib.sha256(remembered.read_bytes()).hexdigest()
