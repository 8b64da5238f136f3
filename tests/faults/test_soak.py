"""A few of the power cuts and kills that `soak.py` makes by hundreds; it compares every tick that comes back."""

import pytest
import soak

pytestmark = pytest.mark.faults


def test_a_power_cut_at_any_moment_takes_nothing_that_was_synced(tmp_path):
    seen = soak.cut_power(50, tmp_path / "cuts", seed=1)
    assert seen["recovered"] > 5
    assert seen["whole episode"] > 5, "the publication was cut too"


def test_a_killed_recorder_loses_no_tick_that_it_took_from_the_ring(tmp_path):
    seen = soak.kill_recorder(10, tmp_path / "kills", seed=1)
    assert seen["recovered"] + seen["whole episode"] + seen["killed before the first tick"] == 10
