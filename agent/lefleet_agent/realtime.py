"""Real-time scheduling: the threads that a tick waits for run before everything else on the machine.

They sleep most of the time, and the kernel leaves others a twentieth of it whatever they do (sched_rt_runtime_us).
Processes and threads that these start are ordinary again. It takes root, CAP_SYS_NICE or a limit on rtprio of LIMIT.
"""

import os
from enum import IntEnum

import structlog

log = structlog.get_logger()


class Rank(IntEnum):
    """Above every ordinary thread, and each above the one before."""

    CAMERA = 1
    BUS = 2
    CONTROL = 3


LIMIT = max(Rank)
_claimed = False


def claim() -> bool:
    """For the thread of control, and for those of this process that `follow`; False where the kernel refuses."""
    global _claimed  # noqa: PLW0603 - one control process, one answer of the kernel
    try:
        _schedule(Rank.CONTROL)
    except PermissionError as error:
        log.warning(
            "control runs like any other program: ticks come late on a busy machine",
            error=str(error),
            remedy=f"a limit on rtprio of {LIMIT} (docker run --ulimit rtprio={LIMIT}, systemd LimitRTPRIO={LIMIT})",
        )
        return False
    _claimed = True
    return True


def follow(rank: Rank) -> None:
    """For a thread whose work control waits for, once control has claimed."""
    if _claimed:
        _schedule(rank)


def _schedule(rank: Rank) -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(rank))
