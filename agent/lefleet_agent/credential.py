"""This robot's credential: one file that only its owner may read."""

import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from lefleet_agent.files import fsync_folder


class NotEnrolledError(Exception):
    """There is no credential that can be used; the message says how to get one."""


@dataclass(frozen=True, slots=True)
class Credential:
    robot_id: str
    server_url: str
    token: str = field(repr=False)
    issued_wall_s: float | None = None
    """Seconds since 1970 by the server's clock; None in files from before it was kept."""
    previous: str = field(default="", repr=False)
    """The token before this one: void once this one was used, but what a server restored from a backup may know."""


def read(state_dir: Path, robot_id: str) -> Credential:
    """Raises NotEnrolledError, also when the file belongs to another robot; OSError when its disk cannot be read."""
    path = state_dir / "credential.json"
    try:
        credential = _parse(path.read_text())
    except FileNotFoundError:
        raise NotEnrolledError(
            f"{robot_id} is not enrolled: run `lefleet-server enrol-code {robot_id}` on the server, "
            "then `lefleet-agent enrol` here"
        ) from None
    except (ValueError, TypeError, AttributeError) as error:
        raise NotEnrolledError(f"{path}: not a credential ({error}); delete it and enrol again") from error
    if credential.robot_id != robot_id:
        raise NotEnrolledError(f"{path} belongs to {credential.robot_id}, not to {robot_id}; enrol again")
    return credential


def write(state_dir: Path, credential: Credential) -> None:
    """Replace the file whole, mode 0600. Durable when it returns: the server forgets the old one at the next request.

    Raises OSError.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    part = state_dir / "credential.json.part"
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        json.dump(asdict(credential), file)
        file.flush()
        os.fsync(file.fileno())
    part.rename(state_dir / "credential.json")
    fsync_folder(state_dir)


def _parse(text: str) -> Credential:
    """What a later release adds is left aside: going back to this one must not ask for another enrolment."""
    known = {each.name for each in fields(Credential)}
    found = Credential(**{name: value for name, value in json.loads(text).items() if name in known})
    for name in ("robot_id", "server_url", "token", "previous"):
        if not isinstance(getattr(found, name), str):
            raise TypeError(f"{name} is no text")
    if not isinstance(found.issued_wall_s, int | float | None):
        raise TypeError(f"issued_wall_s is {found.issued_wall_s!r}, not seconds")
    return found
