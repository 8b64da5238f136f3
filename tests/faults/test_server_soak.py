"""A short turn of what `server_soak.py` does for hours: kills of everything during uploads, then all is compared."""

import pytest
import server_soak

pytestmark = pytest.mark.faults


def test_kills_of_api_worker_and_database_during_uploads_lose_nothing_that_has_a_receipt(open_folder):
    seen = server_soak.soak(150, open_folder, seed=1, every=25)
    assert set(seen["kills"]) == {"postgres", "serve", "worker"}
    assert sum(seen["sent away or cut off, and tried again"].values()) > 10, "the kills came while nobody uploaded"
    at_work = [name for name in seen["ended by themselves"] if name.endswith("at work")]
    assert not at_work, "a program that met a fault ended instead of waiting"
