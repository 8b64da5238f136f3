"""This robot's credential: one file that only its owner may read."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path


class NotEnrolledError(Exception):
    """There is no credential yet; the message says how to get one."""


@dataclass(frozen=True, slots=True)
class Credential:
    robot_id: str
    server_url: str
    token: str = field(repr=False)


def read(state_dir: Path, robot_id: str) -> Credential:
    """Raises NotEnrolledError, also when the file belongs to another robot."""
    path = state_dir / "credential.json"
    try:
        credential = Credential(**json.loads(path.read_text()))
    except FileNotFoundError:
        raise NotEnrolledError(
            f"{robot_id} is not enrolled: run `lefleet-server enrol-code {robot_id}` on the server, "
            "then `lefleet-agent enrol` here"
        ) from None
    except (ValueError, TypeError) as error:
        raise NotEnrolledError(f"{path}: not a credential ({error}); delete it and enrol again") from error
    if credential.robot_id != robot_id:
        raise NotEnrolledError(f"{path} belongs to {credential.robot_id}, not to {robot_id}; enrol again")
    return credential


def write(state_dir: Path, credential: Credential) -> None:
    """Replace the file whole, mode 0600."""
    state_dir.mkdir(parents=True, exist_ok=True)
    part = state_dir / "credential.json.part"
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(asdict(credential), file)
        file.flush()
        os.fsync(file.fileno())
    part.rename(state_dir / "credential.json")
