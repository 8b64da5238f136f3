"""What `run.py` was asked for."""

from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Options:
    rounds: int
    quick: bool
    """Seconds in all, to see that everything works; the numbers mean nothing."""
    slow: bool
    """Also what takes minutes and is far from the best anyway."""
    folder: Path
    """Where data is written: on a disk, not in memory."""
    checkout: Path | None
    """The copy of the repository whose demo is measured; None: this one, or a fresh copy of it."""
    from_clean: bool | None
    """Whether the demo is started afresh and stopped again; None: unless it runs."""
    port: int
    """First port of a demo started afresh."""
