"""The courier killed, or told to stop, in the middle of an upload: nothing is lost, nothing is stored twice."""

import hashlib
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from lefleet_agent import credential
from lefleet_agent.spool import State
from lefleet_server.app import create_app
from lefleet_server.config import Settings

pytestmark = pytest.mark.faults

KILLS = 6


@pytest.fixture
def server(server_settings, run_app) -> str:
    return run_app(create_app(Settings(**server_settings), dashboard=False), server_settings["port"])


@pytest.mark.parametrize(("how", "status"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, 0)])
def test_a_courier_ended_again_and_again_in_the_middle_of_uploads_delivers_each_episode_once(
    server, server_settings, enrolled, agent_command, wait_until, how, status
):
    side = enrolled(server, upload_chunk_bytes=64 * 1024)
    episodes = [side.record(ticks=150, height=480, width=640) for _ in range(2)]
    files = {episode: side.spool.get(episode).path for episode in episodes}
    digests = {episode: hashlib.sha256(path.read_bytes()).hexdigest() for episode, path in files.items()}
    incoming = Settings(**server_settings).incoming_dir
    chance = random.Random(5)  # noqa: S311 - moments to kill at

    interrupted = 0
    for _ in range(KILLS):
        before = arrived(incoming)
        courier = subprocess.Popen(agent_command("courier", "--config", side.config))
        wait_until(lambda courier=courier: catches(courier.pid, signal.SIGTERM), 60)
        # In the middle: some of this run's bytes have arrived, and an upload is still open.
        wait_until(lambda before=before: arrived(incoming) not in (0, before) or side.spool.next_waiting() is None, 60)
        time.sleep(chance.uniform(0, 0.1))
        courier.send_signal(how)
        assert courier.wait(30) == status
        interrupted += arrived(incoming) > 0
    assert interrupted, "no end fell into an upload: the files are too small to prove anything"

    courier = subprocess.Popen(agent_command("courier", "--config", side.config))
    try:
        wait_until(lambda: side.spool.next_waiting() is None, 120)
    finally:
        courier.terminate()
        assert courier.wait(30) == 0
    assert {side.spool.get(episode).state for episode in episodes} == {State.ACKNOWLEDGED}
    blobs = [path for path in Settings(**server_settings).blobs_dir.rglob("*") if path.is_file()]
    assert sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in blobs) == sorted(digests.values())
    assert arrived(incoming) == 0
    assert credential.read(side.settings.state_dir, "robot-1").token not in str(courier.args)


def arrived(incoming) -> int:
    """Bytes of unfinished uploads on the server's disk."""
    if not incoming.exists():
        return 0
    return sum(path.stat().st_size for path in incoming.iterdir() if path.is_file())


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler for the signal: before, it would end as any does."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:")]
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)
