"""A short turn of what `server_soak.py` does for hours: kills of everything during uploads, then all is compared."""

import proxies
import pytest
import server_soak
from one_host import House
from several_hosts import Hosts

pytestmark = pytest.mark.faults


def test_kills_of_api_worker_and_database_during_uploads_lose_nothing_that_has_a_receipt(open_folder):
    seen = server_soak.soak(House(open_folder), 90, seed=1, every=15)
    assert set(seen["kills"]) == {"postgres", "serve", "worker"}
    assert_kills_were_felt_and_outlived(seen)


@pytest.mark.timeout(900)
@pytest.mark.skipif(not proxies.find("caddy"), reason="caddy is missing; `python3 ansible/demo/packages.py test`")
def test_kills_on_several_hosts_that_share_no_disk_lose_nothing_that_has_a_receipt(open_folder):
    hosts = Hosts(open_folder)
    seen = server_soak.soak(hosts, 24, seed=2, every=6)
    assert set(seen["kills"]) == {"postgres", "serve", "worker", "store"}
    assert_kills_were_felt_and_outlived(seen)
    assert hosts.left_on_hosts() == []


def assert_kills_were_felt_and_outlived(seen):
    felt = sum(seen["sent away or cut off, and tried again"].values())
    assert felt >= sum(seen["kills"].values()), "the kills came while nobody uploaded"
    at_work = [name for name in seen["ended by themselves"] if name.endswith("at work")]
    assert not at_work, "a program that met a fault ended instead of waiting"
