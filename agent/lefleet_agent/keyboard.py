"""Keys at the terminal that `lefleet-agent run` or `record` was started from. Nothing is read where there is none.

A thread of its own reads them and leaves the same files as the commands and a pedal do, so no key costs a tick.
"""

import contextlib
import os
import select
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import structlog

from lefleet_agent.verdict import Verdict, Word, begin_episode, leave

log = structlog.get_logger()

LOOK_S = 0.2
KEYS = {"s": Word.SUCCESS, "f": Word.FAILURE, "e": Word.UNKNOWN, "r": Word.REDO}
BEGIN_KEYS = {"b", "\n", "\r"}
HELP = (
    "keys: s success, f failure, e end without a verdict, r end and do it again (does not count); "
    "b or Enter begins an episode that waits for it; Ctrl-C ends"
)


@contextlib.contextmanager
def listening(run: Path, tell: Callable[[str], None]) -> Iterator[None]:
    """Obey keys meanwhile, if standard input is a terminal. `run`: control's run folder. `tell`: for people."""
    fd = _terminal()
    if fd is None:
        yield
        return
    end = threading.Event()
    thread = threading.Thread(target=_listen, args=(fd, run, end), name="keyboard", daemon=True)
    tell(HELP)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(5 * LOOK_S)


def _terminal() -> int | None:
    try:
        fd = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or none at all
        return None
    return fd if os.isatty(fd) else None


def _listen(fd: int, run: Path, end: threading.Event) -> None:
    before = None
    try:
        while not end.is_set():
            if not _in_front(fd):  # whoever reads or sets a terminal from the background is stopped by the kernel
                end.wait(LOOK_S)
                continue
            if before is None:
                before = termios.tcgetattr(fd)
                tty.setcbreak(fd, termios.TCSANOW)
            if select.select([fd], [], [], LOOK_S)[0]:
                keys = os.read(fd, 64)
                if not keys:
                    return
                _obey(keys.decode(errors="replace"), run)
    except (OSError, termios.error) as error:
        log.warning("keys are no longer read", reason=str(error))
    finally:
        if before is not None and _in_front(fd):
            with contextlib.suppress(termios.error):  # the terminal is gone, and its settings with it
                termios.tcsetattr(fd, termios.TCSANOW, before)


def _in_front(fd: int) -> bool:
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:  # not the terminal that controls this process: nobody is stopped for reading it
        return True


def _obey(keys: str, run: Path) -> None:
    for key in keys:
        try:
            if word := KEYS.get(key.lower()):
                leave(run, Verdict(word, "at the keyboard"))
            elif key.lower() in BEGIN_KEYS:
                begin_episode(run)
        except OSError as error:
            log.error("a key had no effect", key=key, reason=str(error))
