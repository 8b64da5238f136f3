"""What takes the last change of labels back: kept on this machine, readable by nobody else, until the next change.

The API's answers as they came: sent back, they undo the change where nobody made another since.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lefleet_server.cli.failures import Failure
from lefleet_server.cli.output import Item, note


@dataclass(frozen=True, slots=True)
class Last:
    url: str
    at: str
    labels: Sequence[Item]


class Kept:
    """Of one command, which may send several requests: each is kept as soon as it is answered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._begun = False

    def add(self, labels: Sequence[Item]) -> None:
        """One that changed nothing does not take the place of the last that did."""
        if not labels:
            return
        lines: list[Item] = [*labels]
        if not self._begun:
            lines = [{"url": self._url, "at": datetime.now(UTC).isoformat()}, *labels]
        how = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if self._begun else os.O_TRUNC)
        path = place()
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(path, how, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - opened with its mode
                file.writelines(json.dumps(line) + "\n" for line in lines)
            self._begun = True
        except OSError as error:
            # The labels are changed: that they cannot be undone from here is no failure of that.
            note(f"{path}: cannot be written, so `lefleet episodes undo` will not know of this: {error.strerror}")


def load() -> Last:
    """Raises Failure when nothing is kept."""
    path = place()
    try:
        first, *labels = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return Last(first["url"], first["at"], labels)
    except FileNotFoundError:
        raise Failure("no labels were changed from here that are not undone yet") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Failure(f"{path}: is not what `lefleet episodes label` writes; remove it") from error


def forget() -> None:
    place().unlink(missing_ok=True)


def place(environment: Mapping[str, str] = os.environ) -> Path:
    """By the XDG base directory specification (a relative folder is ignored, as it says)."""
    folder = Path(environment.get("XDG_STATE_HOME", ""))
    return (folder if folder.is_absolute() else Path.home() / ".local" / "state") / "lefleet" / "last-labels.jsonl"
