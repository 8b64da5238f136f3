"""The server's clock is set: hours ahead, more than a year ahead, back, while robots upload and people look."""

import itertools
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from killable import wait_for
from one_host import House
from server_soak import A_FILMED_ONE_OF, check
from small_episodes import write_episode

pytestmark = pytest.mark.faults

AT_EACH_TIME = 16
JUMPS = ("+3h", "-3h", "+400d", "-1d", "+0")
LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


class Clock:
    """What programs with this environment take for the time; the monotonic clock stays right, as it does in life."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # Files keep the kernel's times, so that to a server that is ahead all of them look old.
            "NO_FAKE_STAT": "1",
            "FAKETIME_DISABLE_SHM": "1",
        }

    @property
    def program(self) -> str:
        """`lefleet-server`, by the right clock itself: it becomes another user, who may not open what root shares."""
        return f"""
import runpy
from lefleet_server import postgres
bare = postgres._environment
postgres._environment = lambda account: bare(account) | {self.environment!r}
runpy.run_module("lefleet_server", run_name="__main__", alter_sys=True)
"""

    def set(self, offset: str) -> None:
        self._file.write_text(offset)
        time.sleep(1.5)


@pytest.mark.skipif(LIBRARY is None, reason="libfaketime is missing; `python3 ansible/demo/packages.py test`")
def test_a_server_whose_clock_is_set_during_uploads_loses_nothing_and_goes_on_by_itself(open_folder):
    clock, noise, numbers = Clock(open_folder), np.random.default_rng(1), itertools.count()
    house = House(open_folder, clock.environment)
    house.postgres.program = ["-c", clock.program]
    with house.running(), house.admin() as admin:
        robots = [house.robot(admin, f"robot-{number}") for number in range(2)]
        threads = [threading.Thread(target=robot.run, daemon=True) for robot in robots]
        for thread in threads:
            thread.start()

        def bring(episodes: int) -> None:
            for number in itertools.islice(numbers, episodes):
                robot, camera = robots[number % len(robots)], number % A_FILMED_ONE_OF == 0
                robot.add(write_episode(robot.spool.folder, robot.robot_id, noise, camera=camera))

        for offset in JUMPS:
            bring(AT_EACH_TIME // 2)
            clock.set(offset)
            bring(AT_EACH_TIME // 2)
            wait_for(lambda: not any(robot.spool.stats().waiting_episodes for robot in robots), 120, "receipts come")
            wait_for(house.no_job_waits, 120, f"the workers do their jobs at {offset}")
            assert [httpx.get(f"{url}/readyz", timeout=10).status_code for url in house.urls] == [200, 200]
            assert look(house, admin) == (401 if offset == "+400d" else 200), f"the session at {offset}"
        for robot in robots:
            robot.finish()
        for thread in threads:
            thread.join(60)
        ahead = house.postgres.ask("SELECT 1 FROM episodes WHERE received_at > now() + interval '399 days'")
        assert len(ahead) >= AT_EACH_TIME // 2, "the clock was not ahead"
        check(house, admin, robots, AT_EACH_TIME * len(JUMPS))
        for robot in robots:
            robot.close()
    assert not any(program.ended for program in house.all), "a program ended by itself"


def look(house: House, admin: httpx.Client) -> int:
    """How the session is answered. One that is over says so, and the next log-in holds."""
    told = admin.get("/api/v1/robots").status_code
    house.log_in(admin)
    assert len(admin.get("/api/v1/robots").raise_for_status().json()["items"]) == 2
    return told
