"""What a process that reads files of strangers gives up first: memory, time, writing, network, programs."""

import ctypes
import errno
import platform
import resource
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MOST_CPU_S = 600
"""A net under the caller's own limits."""
_MEMORY_BYTES = 4 << 30
"""Beside the file itself, which may be mapped whole."""

DISK_FULL = 75
"""Exit status of such a process that had no space to write (sysexits' EX_TEMPFAIL): no fault of its file."""

_MACHINES = {
    errno.EIO,
    errno.EREMOTEIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.ENODEV,
    errno.ENXIO,
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.EAGAIN,
    errno.EBUSY,
}

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


def is_machines_fault(error: Exception) -> bool:
    """Whether the machine failed that reads the file: another day, or another machine, can read it.

    What HDF5 says of a wrong file is an OSError too, without a number.
    """
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno in _MACHINES)


def why_not(error: Exception, done: str) -> str:
    return f"cannot be {done}: {type(error).__name__}: {error}"[:500]


def told(error: Exception, done: str) -> dict[str, str]:
    """What such a process prints of what it met: why, as `failed` where it is the machine's fault, else as `error`."""
    return {"failed" if is_machines_fault(error) else "error": why_not(error, done)}


@contextmanager
def memory_left(size_bytes: int) -> Iterator[None]:
    """While the block lasts this process may take so many bytes more, then MemoryError comes.

    Only in a confined one: another's threads would meet the limit too.
    """
    now, most = resource.getrlimit(resource.RLIMIT_AS)
    if most == resource.RLIM_INFINITY:
        yield
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (min(now, pages * resource.getpagesize() + size_bytes), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (now, most))


def confine(file: Path, written_bytes: int = 0, cpu_s: int = MOST_CPU_S) -> None:
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
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 10))
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
