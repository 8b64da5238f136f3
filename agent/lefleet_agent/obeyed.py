"""Which of the server's wishes this robot obeyed last, of each kind: `wishes.json` in the state folder."""

import json
from pathlib import Path

from lefleet_agent.files import publish

ESTOP, REST, TASK, REBOOT = "estop", "rest", "task", "reboot"
"""The kinds. A word about an episode is none of them: it names its episode, and is not kept."""


class Obeyed:
    """One number of each kind, on the disk and (should that be full) in this process."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "wishes.json"
        self._kept: dict[str, int] = {}

    def numbers(self) -> dict[str, int]:
        """By kind; 0 when no wish was obeyed yet, or none that the disk knows of. Raises OSError."""
        read = self._read()
        return {kind: max(self._kept.get(kind, 0), read.get(kind, 0)) for kind in (ESTOP, REST, TASK, REBOOT)}

    def keep(self, number: int, kind: str = ESTOP) -> None:
        """Durable when it returns. Raises OSError."""
        self._kept[kind] = number
        publish(self._path, json.dumps(self._read() | self._kept).encode())

    def _read(self) -> dict[str, int]:
        try:
            return {str(kind): int(number) for kind, number in json.loads(self._path.read_text()).items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError):
            return {}  # what it held is gone, and the next wish replaces it
