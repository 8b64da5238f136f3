"""A journal may have been written by another version of the agent: its ticks are read by the layout it names."""

import json

import numpy as np
import pytest

from lefleet_agent.recording.ticks import decode, layout, tick_dtype


def test_ticks_of_today_come_back_as_they_were(robot):
    ticks = np.zeros(3, tick_dtype(robot))
    ticks["number"], ticks["joints"], ticks["images"]["seq"] = [0, 1, 2], 7, 9
    np.testing.assert_array_equal(decode(ticks.tobytes(), layout(robot), robot), ticks)


def test_ticks_of_an_older_agent_are_whole_and_what_they_did_not_have_is_0(robot):
    old = np.dtype([field for field in tick_dtype(robot).descr if field[0] not in ("held", "send_ns")])
    written = np.ones(2, old)
    written["sent"] = np.arange(12).reshape(2, 6)
    read = decode(written.tobytes(), json.dumps(old.descr), robot)
    np.testing.assert_array_equal(read["sent"], written["sent"])
    np.testing.assert_array_equal(read["images"], written["images"])
    assert not read["held"].any() and not read["send_ns"].any() and (read["number"] == 1).all()


def test_bytes_that_are_no_ticks_of_that_layout_are_an_error(robot):
    with pytest.raises(ValueError, match="buffer size"):
        decode(bytes(tick_dtype(robot).itemsize + 1), layout(robot), robot)
