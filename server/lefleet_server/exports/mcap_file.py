"""An episode as MCAP, with Foxglove's well-known schemas where there are any. Runs in the confined process alone.

| topic | schema | content |
|---|---|---|
| /camera/<name> | foxglove.CompressedImage | each picture once, its bytes as recorded |
| /joint_states | foxglove.JointStates | joints as read, in rad; those that are no angles are left out |
| /joints/observed, /joints/sent, /joints/requested | lefleet.Joints | joint: value in the file's own unit |
| /tick | lefleet.Tick | number, both clocks, lateness, inference time, held, intervention |
| /events | foxglove.Log | beginning, takeovers, holds, gaps, end |

The metadata record `lefleet.episode` holds the file's attributes.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from foxglove_schemas_protobuf.CompressedImage_pb2 import CompressedImage
from foxglove_schemas_protobuf.JointState_pb2 import JointState
from foxglove_schemas_protobuf.JointStates_pb2 import JointStates
from foxglove_schemas_protobuf.Log_pb2 import Log
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from mcap.writer import CompressionType, Writer
from mcap_protobuf.schema import register_schema

from lefleet_server import __version__
from lefleet_server.exports.recorded import Event, Picture, Recorded

METADATA = "lefleet.episode"
_RADIANS = {"degrees": math.pi / 180, "deg": math.pi / 180, "radians": 1.0, "rad": 1.0}
_SECOND_NS = 10**9
_TIME = {"type": "object", "title": "time", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}}
_TICK = {
    "tick": {"type": "integer"},
    "monotonic": _TIME | {"description": "Since the robot's boot; JavaScript holds no 64-bit integers."},
    "wall": _TIME | {"description": "The robot's own clock, steps included."},
    "lateness_ns": {"type": "integer"},
    "inference_ns": {"type": "integer"},
    "held": {"type": "boolean"},
    "intervention": {"type": "boolean"},
}
type Topic = int


def write(episode: Recorded, path: Path) -> None:
    """The whole file. Raises OSError when it cannot be written."""
    with path.open("r+b") as output:
        # Pictures are what is large, and they are compressed already.
        writer = Writer(output, compression=CompressionType.NONE)
        writer.start(library=f"lefleet-server {__version__}")
        writer.add_metadata(METADATA, episode.provenance())
        _Topics(writer, episode).write()
        writer.finish()  # type: ignore[no-untyped-call]


class _Topics:
    def __init__(self, writer: Writer, episode: Recorded) -> None:
        self._writer, self._episode = writer, episode
        numbers = episode.numbers
        joints = zip(numbers.joints, numbers.units, strict=True)
        schema = self._json_schema("lefleet.Joints", {j: {"type": "number", "description": u} for j, u in joints})
        self._rows = {
            writer.register_channel(f"/joints/{name}", "json", schema): values
            for name, values in (
                ("observed", numbers.qpos),
                ("sent", numbers.action),
                ("requested", numbers.requested),
            )
        }
        self._tick = writer.register_channel("/tick", "json", self._json_schema("lefleet.Tick", _TICK))
        self._log = self._channel("/events", register_schema(writer, Log))
        self._states = self._channel("/joint_states", register_schema(writer, JointStates))
        image = register_schema(writer, CompressedImage)
        self._cameras = {camera: self._channel(f"/camera/{camera}", image) for camera in numbers.cameras}

    def write(self) -> None:
        pictures, events = self._episode.all_pictures(), iter(self._episode.events())
        picture, event = next(pictures, None), next(events, None)
        for tick in range(self._episode.ticks):
            at_ns = self._episode.at_ns(int(self._episode.numbers.monotonic_ns[tick]))
            while picture is not None and picture[0] == tick:
                self._add(self._cameras[picture[1].camera], tick, at_ns, _image(picture[1]))
                picture = next(pictures, None)
            self._add_numbers(tick, at_ns)
            while event is not None and event.tick == tick:
                self._add(self._log, tick, at_ns, _log(event, at_ns))
                event = next(events, None)

    def _add_numbers(self, tick: int, at_ns: int) -> None:
        for topic, values in self._rows.items():
            named = zip(self._episode.numbers.joints, values[tick].tolist(), strict=True)
            self._add(topic, tick, at_ns, {joint: value if math.isfinite(value) else None for joint, value in named})
        self._add(self._states, tick, at_ns, self._joint_states(tick, at_ns))
        self._add(self._tick, tick, at_ns, dict(self._about(tick)))

    def _joint_states(self, tick: int, at_ns: int) -> JointStates:
        numbers = self._episode.numbers
        return JointStates(
            timestamp=_timestamp(at_ns),
            joints=[
                JointState(name=joint, position=float(numbers.qpos[tick, n]) * _RADIANS[unit])
                for n, (joint, unit) in enumerate(zip(numbers.joints, numbers.units, strict=True))
                if unit in _RADIANS
            ],
        )

    def _about(self, tick: int) -> Iterator[tuple[str, Any]]:
        columns = self._episode.columns
        yield "tick", tick
        for name in ("monotonic", "wall"):
            seconds, rest = divmod(int(columns[f"time/{name}_ns"][tick]), _SECOND_NS)
            yield name, {"sec": seconds, "nsec": rest}
        for name in ("lateness_ns", "inference_ns"):
            yield name, int(columns[f"time/{name}"][tick])
        for name in ("held", "intervention"):
            if name in columns:
                yield name, bool(columns[name][tick])

    def _add(self, topic: Topic, tick: int, at_ns: int, message: Message | Mapping[str, Any]) -> None:
        data = message.SerializeToString() if isinstance(message, Message) else json.dumps(message).encode()
        self._writer.add_message(topic, log_time=at_ns, publish_time=at_ns, data=data, sequence=tick)

    def _channel(self, topic: str, schema: int) -> Topic:
        return self._writer.register_channel(topic, "protobuf", schema)

    def _json_schema(self, name: str, properties: Mapping[str, Any]) -> int:
        schema = {"type": "object", "title": name, "properties": properties}
        found: int = self._writer.register_schema(name, "jsonschema", json.dumps(schema).encode())
        return found


def _image(picture: Picture) -> CompressedImage:
    return CompressedImage(
        timestamp=_timestamp(picture.taken_ns), frame_id=picture.camera, format="jpeg", data=picture.jpeg
    )


def _log(event: Event, at_ns: int) -> Log:
    level = Log.Level.WARNING if event.is_warning else Log.Level.INFO
    return Log(timestamp=_timestamp(at_ns), level=level, message=event.text, name="lefleet")


def _timestamp(at_ns: int) -> Timestamp:
    seconds, rest = divmod(at_ns, _SECOND_NS)
    return Timestamp(seconds=seconds, nanos=rest)
