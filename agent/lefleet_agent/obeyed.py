"""Which of the server's wishes this robot obeyed last: `wishes.json` in the state folder."""

import json
from pathlib import Path

from lefleet_agent.files import publish


class Obeyed:
    """One number, on the disk and (should that be full) in this process."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "wishes.json"
        self._kept = 0

    def number(self) -> int:
        """0 when no wish was obeyed yet, or none that the disk knows of. Raises OSError."""
        try:
            return max(self._kept, int(json.loads(self._path.read_text())["estop"]))
        except FileNotFoundError:
            return self._kept
        except (ValueError, TypeError, KeyError):
            return self._kept  # what it held is gone, and the next wish replaces it

    def keep(self, number: int) -> None:
        """Durable when it returns. Raises OSError."""
        self._kept = number
        publish(self._path, json.dumps({"estop": number}).encode())
