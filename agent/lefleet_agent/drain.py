"""Asking control to rest: it ends its episode in its own time and begins no other while anyone asks for that.

A request is a file `drain/<who>` in the state folder, so it outlives restarts of control and of the machine. Each asks
for itself: a service that drains control before it restarts it must not wake a robot that a person put to rest.
"""

from pathlib import Path

from lefleet_agent.files import fsync_folder


class Drain:
    """The requests of one robot."""

    def __init__(self, state_dir: Path) -> None:
        self._folder = state_dir / "drain"

    def request(self, who: str) -> bool:
        """Ask; False when `who` asks already. Durable when it returns."""
        path = self._folder / who
        if path.exists():
            return False
        self._folder.mkdir(parents=True, exist_ok=True)
        path.touch()
        fsync_folder(self._folder)
        return True

    def withdraw(self, who: str) -> bool:
        """Ask no longer; False when `who` did not ask."""
        path = self._folder / who
        if not path.exists():
            return False
        path.unlink(missing_ok=True)
        fsync_folder(self._folder)
        return True

    def asked_by(self) -> list[str]:
        """Everyone who asks, sorted; control begins no episode while there is one."""
        try:
            return sorted(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            return []
