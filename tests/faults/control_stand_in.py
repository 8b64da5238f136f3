"""A control process for the fault tests: records one endless episode and tells what it handed over.

Usage: control_stand_in.py STATE_DIR EPISODE_ID. Prints `recorder PID`, then a line for each tick taken.
"""

import signal
import sys
import time
from pathlib import Path

from lefleet_agent.episode import EpisodeInfo, Frame
from lefleet_agent.recording.handle import RecorderConfig, RecorderHandle
from lefleet_agent.robots.fake import FakeRobot


def main() -> None:
    # A test run started in the background of a script ignores SIGINT, and hands that down.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    robot = FakeRobot("robot-1")
    handle = RecorderHandle(RecorderConfig(Path(sys.argv[1]), robot.info, sync_period_s=0.1))
    handle.start()
    print("recorder", handle.pid, flush=True)
    handle.sink.begin(
        EpisodeInfo(sys.argv[2], robot.info, None, "task", 200.0, "0", time.time_ns(), time.monotonic_ns())
    )
    while True:
        seen = robot.observe()
        sent = robot.send(seen.joints + 1)
        now_ns = time.monotonic_ns()
        if handle.sink.add(Frame(seen, sent, sent, now_ns, time.time_ns(), 0, 0)):
            print(int(sent[0]), flush=True)
        time.sleep(0.005)


if __name__ == "__main__":
    main()
