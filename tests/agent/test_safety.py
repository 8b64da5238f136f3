import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lefleet_agent.control.safety import Limits, UnsafeActionError, clamp

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


def test_a_position_outside_the_range_comes_back_without_leaving_it_again():
    outside = np.array([170, 0, 50], np.float32)
    sent = clamp(outside, outside, LIMITS, JOINTS)
    assert sent[0] == 90


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_is_refused_by_the_joints_name(bad):
    wanted = np.array([0, bad, 0], np.float32)
    with pytest.raises(UnsafeActionError, match="lift"):
        clamp(wanted, np.zeros(3, np.float32), LIMITS, JOINTS)


def test_a_wrong_number_of_joints_is_refused():
    with pytest.raises(UnsafeActionError, match="3 joints"):
        clamp(np.zeros(7, np.float32), np.zeros(3, np.float32), LIMITS, JOINTS)
