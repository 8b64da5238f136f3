"""Has a reader's libraries loaded, and forks a confined child for each file: `python -m ... MODULE SOCKET`.

Started by `readers.Readers`. A message on the socket is a JSON list of arguments with a descriptor for the answer; the
child runs `MODULE.main(arguments)` with that as standard output and reads one file. What it writes is followed by END
and its exit status. This process never opens a file of a stranger, so none can change what the next one meets.

Only the standard library is imported here, beside MODULE.
"""

import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

END = struct.Struct("!4si")
"""Ends an answer: MARK and the exit status, negative for a signal. MARK never begins JSON's last eight bytes."""
MARK = b"\0end"
READY = b"ready\n"
_MOST_REQUEST_BYTES = 64 << 10
_LIBC, _PDEATHSIG = ctypes.CDLL(None), 1

type Main = Callable[[list[str]], int]


@dataclass(frozen=True, slots=True)
class Child:
    pid: int
    pidfd: int
    answer: socket.socket

    def kill(self) -> None:
        """With all that it started, which is in its process group."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        with suppress(ProcessLookupError, PermissionError):  # it had not made itself a group yet
            os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Tells its end. Kills first: while it is not waited for, its number is nobody else's."""
        self.kill()
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        with suppress(OSError):  # nobody waits for the answer any more
            self.answer.sendall(END.pack(MARK, status))
        self.answer.close()
        os.close(self.pidfd)


def serve(main: Main, control: socket.socket) -> None:
    """Until the other end of `control` is closed, which ends the children too."""
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    children: set[Child] = set()
    while True:
        for key, _ in selector.select():
            if key.fileobj is control:
                child = _begin(main, control)
                if child is None:
                    for each in children:
                        each.reap()
                    return
                children.add(child)
                selector.register(child.pidfd, selectors.EVENT_READ, child)
                selector.register(child.answer, selectors.EVENT_READ, child)
            elif key.data in children and key.fileobj is key.data.answer:
                selector.unregister(key.data.answer)
                key.data.kill()  # whoever asked has gone
            elif key.data in children:
                children.discard(key.data)
                selector.unregister(key.data.pidfd)
                with suppress(KeyError):
                    selector.unregister(key.data.answer)
                key.data.reap()


def _begin(main: Main, control: socket.socket) -> Child | None:
    """None at the end."""
    request, descriptors, _, _ = socket.recv_fds(control, _MOST_REQUEST_BYTES, 1)
    if not request:
        return None
    answer = socket.socket(fileno=descriptors[0])
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = _run(main, json.loads(request), answer)
        finally:
            os._exit(status)
    return Child(pid, os.pidfd_open(pid), answer)


def _run(main: Main, arguments: list[str], answer: socket.socket) -> int:
    """In the child, which keeps nothing of its parent's but memory."""
    _LIBC.prctl(_PDEATHSIG, signal.SIGKILL)  # a parent that is killed reaps nobody
    os.setsid()
    os.dup2(answer.fileno(), sys.stdout.fileno())
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    gc.enable()
    status = main(arguments)
    sys.stdout.flush()
    return status


def _main(module: str, descriptor: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server, which ends this process
    main: Main = importlib.import_module(module).main
    # The collector would write to every object's head, and so copy the memory that children share.
    gc.collect()
    gc.freeze()
    gc.disable()
    os.write(sys.stdout.fileno(), READY)
    serve(main, socket.socket(fileno=descriptor))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
