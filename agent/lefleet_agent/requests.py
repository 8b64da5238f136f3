"""What people and services ask of control, each by a file `<kind>/<who>` in the state folder, so that it outlives
restarts of control and of the machine, and needs no server.

Each asks for itself: a service that drains control before it restarts it must not wake a robot that a person put to
rest, and an emergency stop ends only when everyone who asked for it is content.
"""

from pathlib import Path

from lefleet_agent.files import fsync_folder

DASHBOARD = "dashboard"
"""Asks for what people want through the server."""


class Requests:
    """The requests of one kind at one robot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def request(self, who: str) -> bool:
        """Ask; False when `who` asks already. Durable when it returns."""
        path = self.folder / who
        if path.exists():
            return False
        self.folder.mkdir(parents=True, exist_ok=True)
        path.touch()
        fsync_folder(self.folder)
        return True

    def withdraw(self, who: str) -> bool:
        """Ask no longer; False when `who` did not ask."""
        path = self.folder / who
        if not path.exists():
            return False
        path.unlink(missing_ok=True)
        fsync_folder(self.folder)
        return True

    def asked_by(self) -> list[str]:
        """Everyone who asks, sorted."""
        try:
            return sorted(path.name for path in self.folder.iterdir())
        except FileNotFoundError:
            return []


def drain(state_dir: Path) -> Requests:
    """Asking control to rest: it ends its episode in its own time and begins no other while anyone asks for that."""
    return Requests(state_dir / "drain")


def emergency_stop(state_dir: Path) -> Requests:
    """Asking the arm to hold still at its next tick, and to stay so while anyone asks for that."""
    return Requests(state_dir / "estop")


def takeover(state_dir: Path) -> Requests:
    """Asking control to let the arm follow the leader arm, while anyone asks for that."""
    return Requests(state_dir / "takeover")
