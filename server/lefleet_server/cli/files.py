"""What a command writes where a person said."""

import sys
from pathlib import Path

from lefleet_server.cli.failures import Failure


def save(path: Path, data: bytes) -> None:
    """The whole file, or (`-`) to standard output."""
    if str(path) == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        raise Failure(f"{path}: cannot be written: {error.strerror}") from error
