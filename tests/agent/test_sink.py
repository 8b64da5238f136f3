import dataclasses
import os

import numpy as np
import pytest

from lefleet_agent.episode import Outcome
from lefleet_agent.recording.messages import decode_end, decode_info
from lefleet_agent.recording.ring import Kind
from lefleet_agent.recording.sink import RecorderError, Sink


def drain(ring) -> int:
    count = 0
    while ring.take() is not None:
        ring.release()
        count += 1
    return count


def new_images(slot) -> list[bool]:
    return [bool(int(slot.header["new_images"]) >> index & 1) for index in range(len(slot.images))]


def test_a_tick_arrives_with_all_it_holds(ring, sink, make_frames):
    frame = make_frames(1)[0]
    assert sink.add(frame)
    slot = ring.take()
    assert slot.kind is Kind.TICK
    assert int(slot.tick["lateness_ns"]) == frame.lateness_ns
    assert int(slot.tick["tick_wall_ns"]) == frame.tick_wall_ns
    np.testing.assert_array_equal(slot.tick["joints"], frame.observation.joints)
    np.testing.assert_array_equal(slot.tick["environment"], frame.observation.environment)
    np.testing.assert_array_equal(slot.tick["sent"], frame.sent)
    for view, image in zip(slot.images, frame.observation.images.values(), strict=True):
        np.testing.assert_array_equal(view, image.rgb)


def test_a_picture_travels_once(ring, sink, make_frames):
    for frame in make_frames(4):
        sink.add(frame)
    masks = []
    for _ in range(4):
        masks.append(new_images(ring.take()))
        ring.release()
    assert masks == [[True, True], [False, True], [False, True], [True, True]]


def test_each_episode_carries_its_own_pictures(ring, sink, make_frames, make_info):
    frame = make_frames(1)[0]
    sink.begin(make_info())
    sink.add(frame)
    drain(ring)
    sink.begin(make_info())
    sink.add(frame)
    ring.take()
    ring.release()
    assert new_images(ring.take()) == [True, True]


def test_a_full_ring_drops_and_counts_and_never_loses_a_picture(ring, sink, make_frames):
    frames = make_frames(12)
    assert [sink.add(frame) for frame in frames] == [True] * 8 + [False] * 4
    assert sink.dropped_total == 4
    drain(ring)
    # The front camera's picture of tick 9 was to come with the dropped ones.
    assert sink.add(frames[11])
    slot = ring.take()
    assert new_images(slot) == [True, True]
    assert int(slot.tick["number"]) == 12
    assert int(slot.tick["dropped"]) == 4
    assert int(slot.header["dropped_total"]) == 4


def test_drops_at_the_end_are_told_with_the_end(ring, sink, make_frames, make_info):
    sink.begin(make_info())
    results = [sink.add(frame) for frame in make_frames(10)]
    drain(ring)
    sink.end(Outcome.FAILURE, interrupted=False, reason="time limit")
    end = decode_end(ring.take().message)
    assert end.frames_dropped == results.count(False) == 3
    assert (end.outcome, end.interrupted, end.reason) == (Outcome.FAILURE, False, "time limit")


def test_an_episode_description_arrives_unchanged(ring, sink, make_info):
    info = make_info(extra={"why": "é"})
    sink.begin(info)
    slot = ring.take()
    assert slot.kind is Kind.BEGIN
    assert decode_info(slot.message) == info


def test_a_policy_may_have_thousands_of_files(ring, sink, make_info):
    info = make_info()
    policy = dataclasses.replace(info.policy, files={f"shard-{n:05}.safetensors": "f" * 64 for n in range(2000)})
    info = dataclasses.replace(info, policy=policy)
    sink.begin(info)
    assert decode_info(ring.take().message) == info


def test_a_picture_of_the_wrong_size_is_refused_and_harms_nothing(ring, sink, make_frames):
    good = make_frames(1)[0]
    small = dataclasses.replace(good.observation.images["wrist"], rgb=np.zeros((8, 8, 3), np.uint8))
    images = {**good.observation.images, "wrist": small}
    bad = dataclasses.replace(good, observation=dataclasses.replace(good.observation, images=images))
    with pytest.raises(ValueError, match="broadcast"):
        sink.add(bad)
    assert sink.add(good)
    assert new_images(ring.take()) == [True, True]
    ring.release()
    assert ring.take() is None


def test_an_episode_of_another_robot_is_refused(sink, make_info, robot):
    with pytest.raises(ValueError, match="another"):
        sink.begin(make_info(robot=dataclasses.replace(robot, robot_id="another")))


def test_a_recorder_that_takes_nothing_is_named(sink, make_frames, make_info):
    for frame in make_frames(8):
        sink.add(frame)
    with pytest.raises(RecorderError, match="took nothing"):
        sink.end(Outcome.UNKNOWN, interrupted=False, reason="", wait_s=0.01)


def test_a_dead_recorder_is_found_at_once(ring, robot, make_info):
    reader, writer = os.pipe()
    sink = Sink(robot)
    sink.attach(ring, reader)
    os.close(writer)  # what the kernel does with a dead recorder's end
    with pytest.raises(RecorderError, match="died"):
        sink.begin(make_info(), wait_s=60)
    os.close(reader)


def test_without_a_recorder_news_is_dropped_and_an_episode_refused(robot, make_info, make_frames):
    sink = Sink(robot)
    assert not sink.status({"state": "error"})
    assert not sink.preview(make_frames(1)[0].observation)
    with pytest.raises(RecorderError, match="start"):
        sink.begin(make_info())


def test_an_unknown_state_is_a_mistake_of_the_caller(sink):
    with pytest.raises(ValueError, match="dancing"):
        sink.status({"state": "dancing"})
