"""What the policy is asked to do: the setting `task`, until people ask for something else."""

from pathlib import Path

import structlog

from lefleet_agent.files import fsync_folder, publish

log = structlog.get_logger()


class Task:
    """Called, it says what to do. What people asked for lies in the state folder, so that it outlives restarts."""

    def __init__(self, state_dir: Path, default: str) -> None:
        self._path = state_dir / "task"
        self._default = default
        self._last = default

    def __call__(self) -> str:
        """As last seen where the disk is gone."""
        try:
            self._last = self._path.read_text(encoding="utf-8") or self._default
        except FileNotFoundError:
            self._last = self._default
        except (OSError, UnicodeDecodeError) as error:
            log.warning("what people asked for cannot be read; the task stays", task=self._last, reason=str(error))
        return self._last

    def ask_for(self, text: str | None) -> None:
        """From the next episode on; None: the setting counts again. Durable when it returns. Raises OSError."""
        if text:
            publish(self._path, text.encode())
        elif self._path.exists():
            self._path.unlink()
            fsync_folder(self._path.parent)
