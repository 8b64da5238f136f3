"""Where the embedded PostgreSQL lies: written by the process that runs it, read by everything that connects."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DATABASE = "lefleet"
SUPERUSER = "lefleet"


@dataclass(frozen=True)
class Location:
    """Folders of one embedded PostgreSQL, and the password of its only account."""

    data_dir: Path
    socket_dir: Path
    password: str

    def connection_arguments(self) -> dict[str, Any]:
        """Keyword arguments for asyncpg.connect."""
        return {
            "host": str(self.socket_dir),
            "user": SUPERUSER,
            "password": self.password,
            "database": DATABASE,
        }


def read(postgres_dir: Path) -> Location:
    """The location of a cluster that was started at least once; FileNotFoundError before that."""
    try:
        found = json.loads(_location_file(postgres_dir).read_text(encoding="utf-8"))
        password = password_file(postgres_dir).read_text(encoding="ascii")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{error.filename} is not there: the embedded PostgreSQL in {postgres_dir} was never started; "
            "run `lefleet-server postgres`"
        ) from error
    return Location(Path(found["data_dir"]), Path(found["socket_dir"]), password)


def write(postgres_dir: Path, where: Location) -> None:
    """Publishes the location whole, so that a reader never sees half of it."""
    fields = {name: str(value) for name, value in asdict(where).items() if name != "password"}
    part = _location_file(postgres_dir).with_suffix(".part")
    part.write_text(json.dumps(fields), encoding="utf-8")
    part.replace(_location_file(postgres_dir))


def password_file(postgres_dir: Path) -> Path:
    """Mode 0600, owned by whoever runs the server; never readable by the PostgreSQL system user."""
    return postgres_dir / "password"


def _location_file(postgres_dir: Path) -> Path:
    return postgres_dir / "location.json"
