"""The real recorder process, fed by this one."""

import dataclasses
import itertools
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable

import cv2
import h5py
import numpy as np
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from lefleet_agent.episode import ArmHealth, MotorHealth, Outcome
from lefleet_agent.recording.arm_health import HealthTeller
from lefleet_agent.recording.handle import RecorderConfig, RecorderHandle
from lefleet_agent.recording.sink import RecorderError
from lefleet_agent.spool import Spool, SpooledEpisode


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def handle(robot, state):
    handle = RecorderHandle(RecorderConfig(state, robot, ring_slots=8, sync_period_s=0.05, retry_period_s=0.05))
    handle.start()
    yield handle
    handle.close()


def wait_until(condition: Callable[[], object]) -> None:
    """Until it holds; the test's own time limit ends a wait that is in vain."""
    while not condition():
        time.sleep(0.01)


def feed(sink, frames) -> None:
    """Add every frame, waiting for room as control never would."""
    for frame in frames:
        while not sink._ring.has_room:
            select.select([sink._ring.free], [], [])
        assert sink.add(frame)


def episode(state, episode_id: str) -> SpooledEpisode:
    spool = Spool(state / "spool")
    wait_until(lambda: spool.get(episode_id))
    return spool.get(episode_id)


def attributes(found: SpooledEpisode) -> dict[str, object]:
    with h5py.File(found.path) as file:
        return dict(file.attrs)


def control(state) -> dict:
    return json.loads((state / "run" / "control.json").read_text())


def wait_for_control(folder, **values) -> dict:
    wait_until((folder / "run" / "control.json").exists)
    wait_until(lambda: all(control(folder)[name] == value for name, value in values.items()))
    return control(folder)


def metrics(state) -> dict[str, float]:
    text = (state / "run" / "control.prom").read_text()
    return {
        sample.name + "".join(f"{{{value}}}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_an_episode_ends_in_the_spool(handle, state, make_info, make_frames):
    info = make_info()
    handle.sink.begin(info)
    feed(handle.sink, make_frames(40))
    handle.sink.end(Outcome.SUCCESS, interrupted=False, reason="task done")
    found = episode(state, info.episode_id)
    assert (found.outcome, found.interrupted) == (Outcome.SUCCESS, False)
    attrs = attributes(found)
    assert attrs["episode_id"] == info.episode_id
    assert (attrs["frames"], attrs["frames_dropped"]) == (40, 0)
    with h5py.File(found.path) as file:
        expected = np.stack([frame.sent for frame in make_frames(40)])
        np.testing.assert_array_equal(file["/action"], expected)
    wait_until(lambda: not list((state / "journal").iterdir()))


def test_episodes_follow_each_other(handle, state, make_info, make_frames):
    infos = [make_info() for _ in range(3)]
    for info in infos:
        handle.sink.begin(info)
        feed(handle.sink, make_frames(5))
        handle.sink.end(Outcome.FAILURE, interrupted=False, reason="time limit")
    for info in infos:
        assert attributes(episode(state, info.episode_id))["frames"] == 5


def test_an_episode_without_end_is_interrupted_by_the_next(handle, state, make_info, make_frames):
    first, second = make_info(), make_info()
    handle.sink.begin(first)
    feed(handle.sink, make_frames(3))
    handle.sink.begin(second)
    attrs = attributes(episode(state, first.episode_id))
    assert bool(attrs["interrupted"])
    assert attrs["end_reason"] == "the next episode began"


def test_closing_publishes_what_runs(handle, state, make_info, make_frames):
    info = make_info()
    handle.sink.begin(info)
    feed(handle.sink, make_frames(3))
    pid = handle.pid
    handle.close()
    assert not psutil.pid_exists(pid)
    found = Spool(state / "spool").get(info.episode_id)
    assert found.interrupted
    assert attributes(found)["frames"] == 3
    assert control(state)["state"] == "stopped"
    with pytest.raises(RecorderError, match="does not run"):
        handle.sink.begin(make_info())


def test_drops_are_counted_in_the_file_and_in_the_metric(handle, state, make_info, make_frames):
    """A recorder that stands still, as behind a disk that hangs: control goes on and counts."""
    info = make_info()
    handle.sink.begin(info)
    feed(handle.sink, make_frames(10))
    os.kill(handle.pid, signal.SIGSTOP)
    dropped = [handle.sink.add(frame) for frame in make_frames(30, first=10)].count(False)
    os.kill(handle.pid, signal.SIGCONT)
    handle.sink.end(Outcome.UNKNOWN, interrupted=False, reason="time limit")
    attrs = attributes(episode(state, info.episode_id))
    assert dropped >= 22
    assert attrs["frames"] == 40 - dropped
    assert attrs["frames_dropped"] == dropped
    wait_until(lambda: metrics(state)["lefleet_frames_dropped_total"] == dropped)
    assert control(state)["frames_dropped"] == dropped


def test_signals_to_the_group_do_not_end_it(handle, state, make_info, make_frames):
    info = make_info()
    handle.sink.begin(info)
    feed(handle.sink, make_frames(3))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(handle.pid, number)
    feed(handle.sink, make_frames(3, first=3))
    handle.sink.end(Outcome.SUCCESS, interrupted=False, reason="task done")
    assert attributes(episode(state, info.episode_id))["frames"] == 6
    assert handle.alive


@pytest.mark.faults
def test_a_killed_recorder_is_started_again_and_its_episode_recovered(handle, state, make_info, make_frames):
    first, second = make_info(), make_info()
    handle.sink.begin(first)
    feed(handle.sink, make_frames(20))
    wait_for_control(state, episode_id=first.episode_id, episode={"ticks": 20, "dropped": 0} | started(first))
    os.kill(handle.pid, signal.SIGKILL)
    wait_until(lambda: not handle.alive)
    frames = make_frames(20, first=20)
    assert [handle.sink.add(frame) for frame in frames].count(False) >= 12, "control ticks on without a recorder"
    with pytest.raises(RecorderError, match="died"):
        handle.sink.end(Outcome.SUCCESS, interrupted=False, reason="task done")

    handle.ensure_alive()
    handle.sink.begin(second)
    feed(handle.sink, make_frames(4))
    handle.sink.end(Outcome.SUCCESS, interrupted=False, reason="task done")
    assert attributes(episode(state, second.episode_id))["frames"] == 4
    found = episode(state, first.episode_id)
    assert found.interrupted
    assert attributes(found)["frames"] == 20
    assert attributes(found)["end_reason"].startswith("recovered after a crash")


def started(info) -> dict[str, int]:
    return {"started_wall_ns": info.started_wall_ns}


def test_a_control_that_hangs_is_seen_though_its_recorder_writes_on(handle, state):
    handle.status({"state": "idle", "detail": ""})
    first = wait_for_control(state, state="idle")
    wait_until(lambda: control(state)["wall_ns"] > first["wall_ns"])
    assert control(state)["alive_until_monotonic_ns"] == first["alive_until_monotonic_ns"], "nothing was heard since"
    handle.status({"state": "idle", "detail": ""})
    wait_until(lambda: control(state)["alive_until_monotonic_ns"] > first["alive_until_monotonic_ns"])


@pytest.fixture
def watching(robot, state):
    config = RecorderConfig(state, robot, ring_slots=8, sync_period_s=0.05, retry_period_s=0.05, before_event_s=1.0)
    handle = RecorderHandle(config)
    handle.start()
    yield handle
    handle.close()


def watch(handle, frames) -> None:
    for frame in frames:
        while not handle.sink._ring.has_room:
            select.select([handle.sink._ring.free], [], [])
        assert handle.watch(frame)


def test_the_second_before_an_event_becomes_an_episode(watching, state, make_info, make_frames):
    info = make_info(policy=None)
    watch(watching, make_frames(61))
    watching.preview(make_frames(1)[0].observation)
    wait_until(lambda: watching.save_before("collision", info))
    found = episode(state, info.episode_id)
    attrs = attributes(found)
    assert (found.outcome, found.interrupted, attrs["frames"]) == (Outcome.UNKNOWN, False, 31)
    assert json.loads(attrs["extra"]) == {"before_event": "collision"}
    assert attrs["end_reason"] == "the seconds before: collision"
    with h5py.File(found.path) as file:
        np.testing.assert_array_equal(file["/action"], np.stack([frame.sent for frame in make_frames(31, first=30)]))
        assert file["/observations/image_bytes/front"][:].all(), "also where the picture is older than the first tick"
        picture = cv2.imdecode(file["/observations/images/front"][1], 1)[..., ::-1]
    seen = make_frames(1, first=31)[0].observation.images["front"].rgb
    assert np.abs(picture.astype(int) - seen).mean() < 3
    assert attrs["started_wall_ns"] == make_frames(1, first=30)[0].tick_wall_ns


def test_an_episode_and_what_was_watched_before_it_stay_apart(watching, state, make_info, make_frames):
    first, second, third = make_info(), make_info(), make_info()
    watch(watching, make_frames(10))
    watching.sink.begin(first)
    feed(watching.sink, make_frames(5, first=10))
    watching.sink.end(Outcome.SUCCESS, interrupted=False, reason="task done")
    wait_until(lambda: watching.save_before("nothing was watched since", second))
    watch(watching, make_frames(4, first=15))
    wait_until(lambda: watching.save_before("stopped by hand", third))
    assert attributes(episode(state, third.episode_id))["frames"] == 4
    assert attributes(episode(state, first.episode_id))["frames"] == 5
    assert Spool(state / "spool").get(second.episode_id) is None


def test_nothing_is_watched_unless_it_is_asked_for(handle, make_info, make_frames):
    assert not handle.watch(make_frames(1)[0])
    assert not handle.save_before("collision", make_info())


def test_control_json_tells_how_the_robot_is(handle, robot, state, make_info, make_frames):
    policy = {"repo": "lab/act-cube", "commit": "c" * 40, "digest": "d" * 64, "type": "act"}
    handle.status({"state": "running", "detail": "", "task": "Pick up the cube", "policy": policy})
    info = make_info()
    handle.sink.begin(info)
    feed(handle.sink, make_frames(30))
    now = wait_for_control(state, episode_id=info.episode_id, state="running")
    wait_until(lambda: control(state)["episode"]["ticks"] == 30)
    now = control(state)
    assert set(now) == {
        *("format", "robot_id", "wall_ns", "control_pid", "recorder_pid", "cameras", "state", "detail", "task"),
        *(
            "policy",
            "arm",
            "calibration_fingerprint",
            "joints",
            "loop",
            "episode_id",
            "episode",
            "frames_dropped",
            "recording_error",
            "alive_until_monotonic_ns",
        ),
    }
    assert now["robot_id"] == "robot-1"
    assert now["cameras"] == ["front", "wrist"]
    assert now["calibration_fingerprint"] == robot.calibration_fingerprint
    joints = [round(float(value), 2) for value in make_frames(30)[-1].observation.joints]
    assert now["joints"] == {"names": list(robot.joint_names), "units": list(robot.joint_units), "values": joints}
    assert now["policy"] == policy
    assert (now["control_pid"], now["recorder_pid"]) == (os.getpid(), handle.pid)
    assert now["recording_error"] is None
    assert now["loop"]["ticks"] == 30
    # Lateness of tick n is n µs (see conftest).
    assert now["loop"]["lateness_ms_max"] == pytest.approx(0.029)
    assert now["loop"]["lateness_ms_p50"] == pytest.approx(0.0145, abs=0.001)
    assert set(now["loop"]) == {"hz", "lateness_ms_p50", "lateness_ms_p99", "lateness_ms_max", "ticks", "late"}

    handle.sink.end(Outcome.SUCCESS, interrupted=False, reason="task done")
    handle.status({"state": "idle", "detail": "task done", "task": "Pick up the cube", "policy": policy})
    after = wait_for_control(state, state="idle", episode_id=None)
    assert after["episode"] is None
    assert after["loop"] == now["loop"]


@pytest.mark.parametrize("way", ["previewed", "watched"])
def test_where_the_arm_is_is_told_between_episodes_as_long_as_somebody_reads_it(
    way, watching, state, robot, make_frames
):
    frame = make_frames(1, first=7)[0]
    assert watching.watch(frame) if way == "watched" else watching.preview(frame.observation)
    wait_until((state / "run" / "control.json").exists)
    wait_until(lambda: control(state)["joints"])
    names, units, values = control(state)["joints"].values()
    assert (names, units) == (list(robot.joint_names), list(robot.joint_units))
    assert values == [round(float(value), 2) for value in frame.observation.joints]
    told_ns = control(state)["wall_ns"]
    wait_until(lambda: control(state)["joints"] is None)
    assert control(state)["wall_ns"] > told_ns, "the recorder lives, and knows that this was a while ago"


def test_an_arms_health_travels_with_ticks_pictures_and_states(handle, state, make_info, make_frames):
    motor = MotorHealth(41.0, 12.1, -0.2, 0.3, ("voltage",))
    health = ArmHealth({"gripper": motor}, {"gripper": 3}, 100, 2, 0)
    teller = HealthTeller(handle, lambda: health)
    teller.status({"state": "running", "detail": "", "task": "", "policy": None})
    wait_until((state / "run" / "control.json").exists)
    wait_until(lambda: control(state)["arm"] is not None)
    assert control(state)["arm"]["motors"]["gripper"]["alarms"] == ["voltage"]
    health = dataclasses.replace(health, errors={"gripper": 4})
    info = make_info()
    teller.begin(info)
    for frame in make_frames(30):
        select.select([handle.sink._ring.free], [], [])
        teller.add(frame)
    teller.end(Outcome.SUCCESS, interrupted=False, reason="")
    wait_until(lambda: metrics(state).get("lefleet_motor_errors_total{gripper}") == 4)
    assert metrics(state)["lefleet_motor_temperature_celsius{gripper}"] == 41
    assert control(state)["state"] == "running", "the health alone changes no state"


def test_metrics_tell_the_same(handle, state, make_info, make_frames):
    handle.status({"state": "running", "detail": "", "task": "", "policy": {"repo": "lab/act", "commit": "abc"}})
    info = make_info()
    handle.sink.begin(info)
    feed(handle.sink, make_frames(30))
    handle.sink.end(Outcome.FAILURE, interrupted=False, reason="time limit")
    episode(state, info.episode_id)
    wait_until(lambda: metrics(state).get("lefleet_spool_episodes"))
    found = metrics(state)
    assert found["lefleet_control_ticks_total{on_time}"] == 30
    assert found["lefleet_control_lateness_seconds_count"] == 30
    assert found["lefleet_policy_inference_seconds_count"] == 15
    assert found["lefleet_camera_frames_total{front}{new}"] == 10
    assert found["lefleet_camera_frames_total{front}{repeated}"] == 20
    assert found["lefleet_camera_frames_total{wrist}{new}"] == 30
    assert found["lefleet_camera_age_seconds{front}"] == pytest.approx(0.02)
    assert found["lefleet_episodes_total{failure}"] == 1
    assert found["lefleet_spool_episodes"] == 1
    assert found["lefleet_spool_bytes"] == episode(state, info.episode_id).bytes
    assert found["lefleet_robot_state{running}"] == 1
    assert found["lefleet_robot_state{idle}"] == 0
    assert found["lefleet_release_info{abc}{lab/act}"] == 1
    assert next(value for name, value in found.items() if name.startswith("lefleet_disk_free_bytes{/")) > 0


def test_the_newest_pictures_can_be_seen_while_recording_and_while_not(handle, state, make_info, make_frames):
    folder = state / "run" / "preview"
    idle, running = (make_frames(1, first=tick)[0].observation.images["front"].rgb for tick in (0, 24))
    wait_until(lambda: handle.sink.preview(make_frames(1)[0].observation) and len(list(folder.glob("*.jpg"))) == 2)
    wait_until(lambda: looks_like(folder / "front.jpg", idle))
    handle.sink.begin(make_info())
    numbers = itertools.count(100)

    def newer_picture_is_seen() -> bool:
        frame = make_frames(1, first=24)[0]
        image = dataclasses.replace(frame.observation.images["front"], seq=next(numbers))
        observation = dataclasses.replace(frame.observation, images={"front": image})
        return handle.sink.add(dataclasses.replace(frame, observation=observation)) and looks_like(
            folder / "front.jpg", running
        )

    wait_until(newer_picture_is_seen)


def looks_like(path, rgb) -> bool:
    picture = cv2.imread(str(path))
    return bool(np.abs(picture[..., ::-1].astype(int) - rgb).mean() < 3)


def test_a_full_disk_costs_the_rest_of_one_episode(handle, state, make_info, make_frames):
    """A file-size limit stands for the full disk: the same failing write, half done, and no root needed."""
    first, second = make_info(), make_info()
    handle.sink.begin(first)
    feed(handle.sink, make_frames(10))
    wait_for_control(state, episode_id=first.episode_id, episode={"ticks": 10, "dropped": 0} | started(first))
    (journal,) = (state / "journal").glob("*.mcap")
    limit_files(handle.pid, journal.stat().st_size + 1000)
    feed(handle.sink, make_frames(10, first=10))
    handle.sink.end(Outcome.SUCCESS, interrupted=False, reason="task done")
    wait_until(lambda: control(state)["recording_error"])
    assert "File too large" in control(state)["recording_error"]
    assert handle.alive

    limit_files(handle.pid, resource.RLIM_INFINITY)
    handle.sink.begin(second)
    feed(handle.sink, make_frames(5))
    handle.sink.end(Outcome.SUCCESS, interrupted=False, reason="task done")
    assert attributes(episode(state, second.episode_id))["frames"] == 5
    attrs = attributes(episode(state, first.episode_id))
    assert (attrs["frames"], attrs["frames_dropped"], bool(attrs["interrupted"])) == (10, 10, True)
    assert attrs["end_reason"].startswith("recording failed: journal")
    wait_for_control(state, recording_error=None)


def test_an_episode_whose_journal_cannot_begin_is_counted_and_the_next_one_recorded(
    handle, state, make_info, make_frames
):
    limit_files(handle.pid, 1000)
    handle.sink.begin(make_info())
    feed(handle.sink, make_frames(5))
    handle.sink.end(Outcome.SUCCESS, interrupted=False, reason="task done")
    wait_until((state / "run" / "control.json").exists)
    wait_for_control(state, frames_dropped=5)
    assert "File too large" in control(state)["recording_error"]
    second = make_info()
    limit_files(handle.pid, resource.RLIM_INFINITY)
    handle.sink.begin(second)
    feed(handle.sink, make_frames(5))
    handle.sink.end(Outcome.SUCCESS, interrupted=False, reason="task done")
    assert attributes(episode(state, second.episode_id))["frames"] == 5
    assert Spool(state / "spool").stats().waiting_episodes == 1


def limit_files(pid: int, size_bytes: int) -> None:
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, hard))


def test_nothing_named_is_left_in_shared_memory(handle):
    """The ring has no name, so a killed process cannot leave it behind."""
    maps = open(f"/proc/{os.getpid()}/maps").read()  # noqa: SIM115, PTH123
    assert "memfd:lefleet-ring" in maps


def test_a_recorder_that_cannot_start_is_said(robot, tmp_path):
    (tmp_path / "state").write_text("a file where the folder belongs")
    handle = RecorderHandle(RecorderConfig(tmp_path / "state", robot))
    with pytest.raises(RecorderError, match="exited with 1;"):
        handle.start()
    handle.close()


def test_control_does_not_load_what_only_the_recorder_needs():
    import subprocess
    import sys

    code = "import sys, lefleet_agent.recording.handle; print([m for m in ('h5py', 'cv2', 'mcap') if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"
