"""An episode as a recording of Rerun's. Runs in the confined process alone.

| entity | content |
|---|---|
| camera/<name> | each picture once, its bytes as recorded |
| joints/<name>/observed, sent, requested | values in the file's own unit |
| tick/lateness_ns, inference_ns, held, intervention | numbers of each tick |
| events | beginning, takeovers, holds, gaps, end |

Timelines: `tick`, `elapsed` (monotonic, since the first tick) and `wall` (the robot's own clock, steps included). The
recording's properties hold the file's attributes, and `monotonic_begin_ns`.
"""

from itertools import batched
from pathlib import Path
from typing import Any

import numpy as np
import rerun as rr
import rerun.blueprint as rrb
from rerun.experimental import RrdReader

from lefleet_server.exports.recorded import Picture, Recorded

_APPLICATION = "lefleet"
_PICTURES = 16
"""In one piece of the file: what is in memory at a time, and what a viewer reads at a time."""


def write(episode: Recorded, path: Path) -> None:
    """The whole file. Raises OSError when some of it could not be written."""
    rr.set_strict_mode(True)  # otherwise what cannot be logged is a warning that nobody reads
    recording = rr.RecordingStream(_APPLICATION, recording_id=episode.said["episode_id"])
    recording.save(path, default_blueprint=_blueprint(episode))
    log = _Log(recording, episode)
    log.write()
    recording.flush()
    recording.disconnect()
    # Rerun tells nobody when the disk is full or the file too large: what is missing is missing.
    found = sum(chunk.num_rows for chunk in RrdReader(path).stream() if not chunk.is_static)
    if found != log.rows:
        raise OSError(
            f"{log.rows - found} of {log.rows} rows could not be written; is the disk full, or the file too large?"
        )


class _Log:
    def __init__(self, recording: rr.RecordingStream, episode: Recorded) -> None:
        self._recording, self._episode = recording, episode
        self._wall_ns = episode.columns["time/wall_ns"].astype("datetime64[ns]")
        self._elapsed_ns = episode.elapsed_ns.astype("timedelta64[ns]")
        self.rows = 0

    def write(self) -> None:
        self._recording.send_recording_name(self._episode.said["episode_id"])
        about = self._episode.provenance() | {"monotonic_begin_ns": str(self._episode.numbers.monotonic_ns[0])}
        self._recording.send_property("episode", rr.AnyValues(drop_untyped_nones=True, **about))
        self._log_numbers()
        self._log_events()
        for camera in self._episode.numbers.cameras:
            for some in batched(self._episode.pictures(camera), _PICTURES):
                self._log_pictures(camera, some)
                self._recording.flush()  # what was sent waits in memory

    def _log_numbers(self) -> None:
        numbers, columns = self._episode.numbers, self._episode.columns
        for n, joint in enumerate(numbers.joints):
            for name, values in (
                ("observed", numbers.qpos),
                ("sent", numbers.action),
                ("requested", numbers.requested),
            ):
                self._log_scalars(["joints", joint, name], values[:, n])
        for name in ("time/lateness_ns", "time/inference_ns", "held", "intervention"):
            if name in columns:
                self._log_scalars(["tick", name.removeprefix("time/")], columns[name].astype(np.float64))

    def _log_scalars(self, entity: list[str], values: Any) -> None:
        self._send(entity, np.arange(self._episode.ticks), rr.Scalars.columns(scalars=values))

    def _log_events(self) -> None:
        events = self._episode.events()
        texts = rr.TextLog.columns(
            text=[event.text for event in events], level=["WARN" if event.is_warning else "INFO" for event in events]
        )
        self._send(["events"], [event.tick for event in events], texts)

    def _log_pictures(self, camera: str, some: tuple[tuple[int, Picture], ...]) -> None:
        jpegs = [picture.jpeg for _, picture in some]
        columns = rr.EncodedImage.columns(blob=jpegs, media_type=["image/jpeg"] * len(jpegs))
        self._send(["camera", camera], [tick for tick, _ in some], columns)

    def _send(self, entity: list[str], ticks: Any, columns: Any) -> None:
        times = [
            rr.TimeColumn("tick", sequence=ticks),
            rr.TimeColumn("elapsed", duration=self._elapsed_ns[ticks]),
            rr.TimeColumn("wall", timestamp=self._wall_ns[ticks]),
        ]
        self.rows += len(ticks)
        self._recording.send_columns(rr.new_entity_path(entity), indexes=times, columns=columns)


def _blueprint(episode: Recorded) -> rrb.Blueprint:
    numbers = episode.numbers
    cameras = [
        rrb.Spatial2DView(name=camera, origin=rr.new_entity_path(["camera", camera])) for camera in numbers.cameras
    ]
    plots = [
        rrb.TimeSeriesView(name=f"{joint} ({unit})", origin=rr.new_entity_path(["joints", joint]))
        for joint, unit in zip(numbers.joints, numbers.units, strict=True)
    ]
    rows: list[Any] = [rrb.Horizontal(*cameras)] if cameras else []
    rows += [rrb.Grid(*plots), rrb.TextLogView(name="events", origin="events")]
    return rrb.Blueprint(rrb.Vertical(*rows), rrb.TimePanel(timeline="elapsed"))
