"""Cameras that freeze, vanish, drop and are late: control sees their age and never waits; real files through OpenCV."""

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from arm import Lab, eventually

from lefleet_agent.config_robots import VideoCamera
from lefleet_agent.robot import RobotError
from lefleet_agent.robots.camera import CameraError, CameraThread, FakeCamera
from lefleet_agent.robots.camera_opencv import OpenCvCamera, describe
from lefleet_agent.robots.lerobot import RealArm
from lefleet_agent.robots.so101_follower import FeetechArm


@pytest.fixture
def source() -> FakeCamera:
    return FakeCamera()


@pytest.fixture
def thread(source) -> Iterator[CameraThread]:
    thread = CameraThread("front", source, 48, 64, reopen_s=0.05)
    thread.start()
    thread.wait(5)
    yield thread
    thread.stop()


def newest(thread: CameraThread):
    image = thread.image()
    assert image is not None
    return image


def age_s(thread: CameraThread) -> float:
    return (time.monotonic_ns() - newest(thread).taken_monotonic_ns) * 1e-9


def test_the_newest_picture_is_at_hand_and_pictures_count_up(thread):
    seqs = []
    for _ in range(30):
        start = time.monotonic()
        seqs.append(newest(thread).seq)
        assert time.monotonic() - start < 0.01
        time.sleep(0.01)
    assert seqs == sorted(seqs) and len(set(seqs)) > 5
    assert age_s(thread) < 0.5
    assert abs(newest(thread).taken_wall_ns - time.time_ns()) < 1e9


def test_a_frozen_camera_keeps_its_number_and_its_time_and_is_opened_again(source, thread):
    source.frozen.set()
    time.sleep(0.1)
    before = newest(thread)
    time.sleep(0.5)
    assert newest(thread) is before and age_s(thread) > 0.5
    assert source.opened > 1
    source.frozen.clear()
    assert eventually(lambda: newest(thread).seq > before.seq and age_s(thread) < 0.2)


def test_a_camera_that_vanishes_comes_back_by_itself_and_goes_on_counting(source, thread):
    source.unplugged = True
    time.sleep(0.2)
    before = newest(thread).seq
    source.unplugged = False
    assert eventually(lambda: newest(thread).seq > before)


def test_a_camera_that_is_still_gone_at_the_next_start_is_told_and_not_shown_as_it_was(source, thread):
    before = newest(thread).seq
    thread.stop()
    source.unplugged = True
    thread.start()
    with pytest.raises(CameraError, match="camera front: /dev/fake: there is no such device"):
        thread.wait(0.3)
    assert thread.image() is None
    source.unplugged = False
    thread.wait(5)
    assert newest(thread).seq > before


def test_a_late_picture_carries_the_time_it_was_taken(source, thread):
    source.late_s = 0.3
    seq = newest(thread).seq
    assert eventually(lambda: newest(thread).seq > seq + 1)
    assert age_s(thread) >= 0.3


def test_dropped_pictures_are_seen_as_age(source, thread):
    before = newest(thread)
    source.drops = 15
    time.sleep(0.15)
    assert newest(thread).seq - before.seq < 4
    assert eventually(lambda: source.drops == 0 and newest(thread).seq > before.seq)


def test_a_picture_of_another_size_is_an_error_that_names_both(source):
    thread = CameraThread("front", source, 480, 640)
    thread.start()
    with pytest.raises(CameraError, match="camera front: gives pictures of 64x48, the settings say 640x480"):
        thread.wait(0.5)
    thread.stop()


@pytest.fixture
def lab(tmp_path) -> Iterator[Lab]:
    with Lab.plugged(tmp_path) as lab:
        yield lab


def test_observing_never_waits_for_a_camera(lab, source):
    thread = CameraThread("front", source, 48, 64)
    info = describe(VideoCamera(path="/dev/fake", width=64, height=48))
    robot = RealArm(
        "robot-1", "so101_follower", FeetechArm(lab.settings(), "robot-1"), {"front": (thread, info)}, 50, 1
    )
    robot.connect()
    assert robot.info.cameras == {"front": info}
    source.frozen.set()
    time.sleep(0.3)
    start = time.monotonic()
    seen = robot.observe()
    assert time.monotonic() - start < 0.05
    assert seen.read_monotonic_ns - seen.images["front"].taken_monotonic_ns > 0.2e9
    robot.disconnect()


def test_a_camera_that_is_not_there_is_refused_by_name_path_and_remedy(tmp_path, lab):
    settings = VideoCamera(path=str(tmp_path / "video7"))
    info = describe(settings)
    cameras = {"wrist": (CameraThread("wrist", OpenCvCamera(settings), info.height, info.width), info)}
    robot = RealArm("robot-1", "so101_follower", FeetechArm(lab.settings(), "robot-1"), cameras, 50, 1, 0.3)
    with pytest.raises(RobotError, match=r"camera wrist: .*video7: there is no such device; is the camera plugged in"):
        robot.connect()


@pytest.fixture
def film(tmp_path) -> Path:
    """Ten pictures, MJPG, 64x48 at 30 a second: red on the left, blue on the right."""
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 30, (64, 48))
    bgr = np.zeros((48, 64, 3), np.uint8)
    bgr[:, :32, 2], bgr[:, 32:, 0] = 255, 255
    for _ in range(10):
        writer.write(bgr)
    writer.release()
    return path


def test_opencv_gives_rgb_of_the_size_asked_for(film):
    source = OpenCvCamera(VideoCamera(path=str(film), width=64, height=48), cv2.CAP_ANY)
    source.open()
    shot = source.read()
    assert shot.rgb.shape == (48, 64, 3)
    assert shot.rgb[24, 8, 0] > 200 and shot.rgb[24, 8, 2] < 60
    assert 0 <= time.monotonic_ns() - shot.taken_monotonic_ns < 1e9
    source.close()


def test_pictures_are_turned_clockwise(film):
    settings = VideoCamera(path=str(film), width=64, height=48, turn_degrees=90)
    source = OpenCvCamera(settings, cv2.CAP_ANY)
    source.open()
    shot, info = source.read(), describe(settings)
    assert shot.rgb.shape[:2] == (info.height, info.width) == (64, 48)
    assert shot.rgb[8, 24, 0] > 200 and shot.rgb[8, 24, 2] < 60, "what was left is on top"
    source.close()


@pytest.mark.parametrize(
    ("change", "told"), [({"width": 640}, "640x48"), ({"fps": 60}, "60/s"), ({"fourcc": "YUYV"}, "YUYV")]
)
def test_a_camera_that_does_not_do_what_was_asked_is_refused_with_both(film, change, told):
    settings = VideoCamera(**{"path": str(film), "width": 64, "height": 48} | change)
    source = OpenCvCamera(settings, cv2.CAP_ANY)
    with pytest.raises(CameraError, match=f"{told}.*made that MJPG 64x48 at 30/s; `v4l2-ctl"):
        source.open()
    source.close()


def test_a_film_that_ends_is_a_camera_that_gives_no_picture(film):
    source = OpenCvCamera(VideoCamera(path=str(film), width=64, height=48), cv2.CAP_ANY)
    source.open()
    with pytest.raises(CameraError, match="gives no picture"):
        for _ in range(12):
            source.read()
    source.close()


def test_what_identifies_a_camera_changes_with_its_place_and_settings():
    first = VideoCamera(path="/dev/lefleet/camera-front")
    changes = ({}, {"path": "/dev/lefleet/camera-wrist"}, {"fps": 15.0}, {"turn_degrees": 180})
    prints = {describe(first.model_copy(update=change)).fingerprint for change in changes}
    assert len(prints) == 4
    assert dataclasses.astuple(describe(first))[:3] == (480, 640, 30.0)
