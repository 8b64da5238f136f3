"""What a process that reads files of strangers gives up first: memory, time, writing, network, programs."""

import ctypes
import errno
import platform
import resource
import struct
from pathlib import Path

MOST_CPU_S = 600
"""A net under the caller's own limit of wall time."""
_MEMORY_BYTES = 4 << 30
"""Beside the file itself, which may be mapped whole."""

DISK_FULL = 75
"""Exit status of such a process that had no space to write (sysexits' EX_TEMPFAIL): no fault of its file."""

# Linux numbers: (AUDIT_ARCH, socket, connect, execve, execveat, ptrace).
_DENIED = {
    "x86_64": (0xC000003E, 41, 42, 59, 322, 101),
    "aarch64": (0xC00000B7, 198, 203, 221, 281, 117),
}
_NO_NEW_PRIVS, _SET_SECCOMP, _MODE_FILTER = 38, 22, 2
_LOAD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_ALLOW, _ERRNO_EPERM = 0x7FFF0000, 0x00050001


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def is_disk_full(error: Exception) -> bool:
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}


def confine(file: Path, written_bytes: int = 0) -> None:
    """Limits this process for good. It may write files of at most `written_bytes` each; 0: none."""
    size = file.stat().st_size if file.is_file() else 0
    for what, most in (
        (resource.RLIMIT_AS, _MEMORY_BYTES + size),
        (resource.RLIMIT_FSIZE, written_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))
    # At the hard limit SIGKILL comes, which could be anybody's; SIGXCPU says that it was the file.
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S + 10))
    forbid_network_and_programs()


def forbid_network_and_programs() -> bool:
    """Makes socket, connect, execve and ptrace fail with EPERM; False where this kernel or CPU cannot."""
    numbers = _DENIED.get(platform.machine())
    if numbers is None:
        return False
    arch, *denied = numbers
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 0, len(denied) + 1, arch), (_LOAD, 0, 0, 0)]
    steps += [(_EQUAL, len(denied) - n, 0, number) for n, number in enumerate(denied)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _ERRNO_EPERM)]
    program = _Program(len(steps), b"".join(struct.pack("HBBI", *step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    return bool(libc.prctl(_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0) == 0)
