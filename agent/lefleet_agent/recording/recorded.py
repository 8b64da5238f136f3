"""An episode read back, as far as playing it again needs it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lefleet_agent.episode import Floats


class EpisodeFileError(Exception):
    """This is no episode file that can be read; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class RecordedEpisode:
    """Rows are ticks, as recorded; a dropped tick has none."""

    episode_id: str
    robot_id: str
    joint_names: tuple[str, ...]
    joint_units: tuple[str, ...]
    calibration_fingerprint: str
    task: str
    fps: float
    seed: int | None
    simulated: bool
    joints: Floats
    """Shape (ticks, joints), as are the next two."""
    sent: Floats
    requested: Floats
    deadlines_ns: npt.NDArray[np.int64]
    """When each tick was due, monotonic."""

    def rows(self) -> npt.NDArray[np.int64]:
        """Which row plays in each period of 1 / fps: a row stays for the ticks that were dropped after it."""
        due = np.rint((self.deadlines_ns - self.deadlines_ns[0]) * 1e-9 * self.fps).astype(np.int64)
        return np.searchsorted(due, np.arange(due[-1] + 1), side="right") - 1
