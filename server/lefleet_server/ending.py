"""How a program ends whose object store may still be at work in threads of its own."""

import atexit
import os
import sys
from collections.abc import Callable


def run(command: Callable[[], object]) -> None:
    """Run it to its exit status, and end the process without taking Python apart.

    A request that was given up goes on in obstore's threads. One that calls into a Python that finalizes is made to
    exit there, which Rust answers with an abort: the status would be 134, whatever the command did.
    """
    status = 1

    def end() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)

    # The first to be registered runs last: Python has waited for its own threads and children then.
    atexit.register(end)
    try:
        command()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        raise
