import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lefleet_agent.control.safety import Freshness, Limits, UnsafeActionError, clamp, stale
from lefleet_agent.episode import CameraImage, Observation

JOINTS = ("pan", "lift", "gripper")
LIMITS = Limits(
    low=np.array([-90, -45, 0], np.float32),
    high=np.array([90, 45, 100], np.float32),
    slew_per_tick=np.array([5, 5, 20], np.float32),
)
anything = arrays(np.float32, 3, elements=st.floats(width=32))
inside = st.builds(
    lambda x: (LIMITS.low + x * (LIMITS.high - LIMITS.low)).astype(np.float32),
    arrays(np.float32, 3, elements=st.floats(0, 1, width=32)),
)


@given(wanted=anything, last=inside)
def test_whatever_is_asked_for_is_refused_or_sent_inside_range_and_slew(wanted, last):
    try:
        sent = clamp(wanted, last, LIMITS, JOINTS)
    except UnsafeActionError:
        assert not np.isfinite(wanted).all()
        return
    assert np.isfinite(wanted).all()
    assert (sent >= LIMITS.low).all() and (sent <= LIMITS.high).all()
    assert (np.abs(sent - last) <= LIMITS.slew_per_tick + 1e-4).all()


@given(last=inside)
def test_an_action_inside_every_limit_is_sent_unchanged(last):
    np.testing.assert_array_equal(clamp(last, last, LIMITS, JOINTS), last)


@given(wanted=anything, last=anything)
def test_wherever_the_arm_is_nothing_sent_is_further_from_there_than_the_slew_limit(wanted, last):
    try:
        sent = clamp(wanted, last, LIMITS, JOINTS)
    except UnsafeActionError:
        assert not (np.isfinite(wanted).all() and np.isfinite(last).all())
        return
    assert np.isfinite(sent).all()
    slack = np.maximum(1e-4, np.abs(last) * 1e-6)  # the rounding of float32
    assert (np.abs(sent - last) <= LIMITS.slew_per_tick + slack).all()
    beyond = np.maximum(np.maximum(LIMITS.low - sent, sent - LIMITS.high), 0)
    was_beyond = np.maximum(np.maximum(LIMITS.low - last, last - LIMITS.high), 0)
    assert (beyond <= was_beyond).all()


def test_a_position_outside_the_range_comes_back_without_a_jump():
    outside = np.array([170, 0, 50], np.float32)
    assert clamp(outside, outside, LIMITS, JOINTS)[0] == 165
    assert clamp(np.array([-90, 0, 50], np.float32), outside, LIMITS, JOINTS)[0] == 165


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_the_joints_name(bad):
    wanted = np.array([0, bad, 0], np.float32)
    with pytest.raises(UnsafeActionError, match="lift"):
        clamp(wanted, np.zeros(3, np.float32), LIMITS, JOINTS)


def test_a_wrong_number_of_joints_is_refused():
    with pytest.raises(UnsafeActionError, match="3 joints"):
        clamp(np.zeros(7, np.float32), np.zeros(3, np.float32), LIMITS, JOINTS)


def test_an_arm_that_gives_no_position_is_refused():
    with pytest.raises(UnsafeActionError, match="the arm says it is at gripper = nan"):
        clamp(np.zeros(3, np.float32), np.array([0, 0, np.nan], np.float32), LIMITS, JOINTS)


def seen(joints_ns: int = 0, **images_ns: int) -> Observation:
    images = {name: CameraImage(1, ns, 0, np.zeros((2, 2, 3), np.uint8)) for name, ns in images_ns.items()}
    return Observation(np.zeros(3, np.float32), images, joints_ns)


@pytest.mark.parametrize(
    ("observation", "why"),
    [
        (seen(joints_ns=800_000_000), "joints were last read 0.2 s ago"),
        (seen(10**9), "camera front has given no picture yet"),
        (seen(10**9, front=0), "camera front gave its last picture 1.0 s ago"),
        (seen(10**9, front=10**9, wrist=0), None),
        (seen(10**9, front=600_000_000), None),
    ],
)
def test_what_is_too_old_or_missing_is_not_acted_on(observation, why):
    found = stale(observation, 1_010_000_000, ("front",), Freshness(joints_s=0.2, image_s=0.5))
    assert found is None if why is None else found is not None and why in found
