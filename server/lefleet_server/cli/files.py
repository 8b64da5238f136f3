"""What a command writes where a person said."""

import sys
from collections.abc import Iterable
from pathlib import Path

from lefleet_server.cli.failures import Failure


def save(path: Path, data: bytes) -> None:
    """The whole file, or (`-`) to standard output."""
    save_pieces(path, [data])


def save_pieces(path: Path, pieces: Iterable[bytes]) -> None:
    """As `save`, of what comes in pieces. What breaks off leaves no file of this name."""
    if str(path) == "-":
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            file.writelines(pieces)
        part.replace(path)
    except OSError as error:
        raise Failure(f"{path}: cannot be written: {error.strerror}") from error
