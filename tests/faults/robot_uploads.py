"""A robot's side of the server's soak: a real spool, emptied by the courier's own uploader at two API processes."""

import hashlib
import re
import threading
import time
from collections import Counter
from pathlib import Path

from lefleet_agent.courier.api import ServerApi
from lefleet_agent.courier.errors import ServerError
from lefleet_agent.courier.gate import Gate
from lefleet_agent.courier.losses import LossCheck
from lefleet_agent.courier.pace import PIECE_MIN_BYTES, Pieces, backoff_s
from lefleet_agent.courier.uploads import Uploader
from lefleet_agent.episode import Outcome
from lefleet_agent.spool import Spool

LOOK_S = 0.05
RETRY_FIRST_S, RETRY_MAX_S = 0.1, 1.0


class Robot:
    """Uploads from run() on, on the caller's thread, until `finish()` and its spool is empty.

    After each failure it turns to the next API process, as a proxy in front of them would let it.
    """

    def __init__(self, robot_id: str, token: str, urls: list[str], folder: Path) -> None:
        self.robot_id = robot_id
        self.spool = Spool(folder)
        self.seen: Counter[str] = Counter()
        """How often it was sent away, by the status or the kind of failure."""
        self._apis = [ServerApi(url, token, timeout_s=10) for url in urls]
        self._gate = Gate(None, lambda: False, lambda _: False, lambda: None)
        # The smallest pieces, so that most files need several and a kill finds them half sent.
        self._uploaders = [
            Uploader(api, self.spool, Pieces(PIECE_MIN_BYTES), self._gate, self._count) for api in self._apis
        ]
        self._last = threading.Event()

    def add(self, path: Path) -> None:
        """Puts a file of the spool's folder into the queue."""
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        self.spool.add(
            path.stem,
            path.name,
            sha256=sha256,
            size_bytes=path.stat().st_size,
            outcome=Outcome.SUCCESS,
            interrupted=False,
            ended_wall_ns=0,
        )

    def finish(self) -> None:
        self._last.set()

    def run(self) -> None:
        at = failures = 0
        while True:
            last = self._last.is_set()
            try:
                if self._uploaders[at].step():
                    failures = 0
                elif last:
                    return
                else:
                    self._last.wait(LOOK_S)
            except ServerError as error:
                failures += 1
                self.seen[_kind(error)] += 1
                at = (at + 1) % len(self._uploaders)
                time.sleep(backoff_s(failures, RETRY_FIRST_S, RETRY_MAX_S))

    def lost(self) -> int:
        """Asks each API process what it lacks of what has a receipt; how many episodes wait again."""
        again: list[int] = []
        for api in self._apis:
            LossCheck(api, self.spool, again.append).check()
        return sum(again)

    def close(self) -> None:
        for api in self._apis:
            api.close()
        self.spool.close()

    def _count(self, size_bytes: int, result: str) -> None:
        self.seen[f"pieces {result}"] += 1


def _kind(error: ServerError) -> str:
    status = re.search(r": (\d{3}) ", str(error))
    return f"answered {status[1]}" if status else "cut off"
