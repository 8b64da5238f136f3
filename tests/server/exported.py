"""Exports and episode files, read by their own readers into the same form, for tests that compare them."""

import io
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import rerun.experimental as rerun
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory

DATASETS = {"observed": "observations/qpos", "sent": "action", "requested": "action_requested"}


def datasets(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def take(name: str, item: h5py.Dataset | h5py.Group) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[:]

    with h5py.File(path) as file:
        file.visititems(take)
    return found


def pictures(path: Path) -> dict[str, list[tuple[int, bytes]]]:
    """(tick, JPEG) by camera where a row differs from the row before."""
    found, data = {}, datasets(path)
    with h5py.File(path) as file:
        cameras = list(file.attrs["cameras"])
    for camera in cameras:
        rows = zip(data[f"observations/images/{camera}"], data[f"observations/image_bytes/{camera}"], strict=True)
        jpegs = [row[:length].tobytes() for row, length in rows]
        before = [b"", *jpegs]
        found[camera] = [(tick, jpeg) for tick, jpeg in enumerate(jpegs) if jpeg and jpeg != before[tick]]
    return found


class Mcap:
    def __init__(self, content: bytes) -> None:
        self.topics: dict[str, list[tuple[Any, Any]]] = {}
        """(message, decoded), in the order of the file."""
        self.schemas: dict[str, str] = {}
        reader = make_reader(io.BytesIO(content), validate_crcs=True)
        for schema, channel, message in reader.iter_messages(log_time_order=False):
            self.schemas[channel.topic] = schema.name
            self.topics.setdefault(channel.topic, []).append((message, _decoded(schema, channel, message)))
        (record,) = [each for each in reader.iter_metadata() if each.name == "lefleet.episode"]
        self.attributes: dict[str, str] = record.metadata

    def messages(self, topic: str) -> list[Any]:
        return [decoded for _, decoded in self.topics[topic]]


def _decoded(schema: Any, channel: Any, message: Any) -> Any:
    if channel.message_encoding == "json":
        found = json.loads(message.data)
        assert set(found) <= set(json.loads(schema.data)["properties"]), "the schema says what is there"
        return found
    return DecoderFactory().decoder_for("protobuf", schema)(message.data)


class Rrd:
    def __init__(self, content: bytes, folder: Path) -> None:
        path = folder / "read_back.rrd"
        path.write_bytes(content)
        reader = rerun.RrdReader(path)
        self.recording_id = reader.recordings()[0].recording_id
        self.blueprints = len(reader.blueprints())
        self._batches: dict[str, list[Any]] = {}
        for chunk in reader.stream():
            self._batches.setdefault(chunk.entity_path, []).append(chunk.to_record_batch())

    @property
    def entities(self) -> set[str]:
        return set(self._batches)

    def rows(self, entity: str, component: str) -> list[tuple[int, int, int, Any]]:
        """(tick, ns elapsed, ns by the wall clock, value), in the order of ticks."""
        found = []
        for batch in self._batches[entity]:
            times = [batch.column(name).cast("int64").to_pylist() for name in ("tick", "elapsed", "wall")]
            found += zip(*times, _single(batch.column(component)), strict=True)
        return sorted(found, key=lambda row: row[0])

    def attributes(self) -> dict[str, str]:
        found = {}
        for batch in self._batches["/__properties/episode"]:
            for name in batch.schema.names:
                if not name.endswith("RowId"):
                    found[name.rpartition(":")[2]] = _single(batch.column(name))[0]
        return found


def _single(column: Any) -> list[Any]:
    """Each row of a component is a list; ours have one value."""
    rows = column.to_pylist()
    assert all(len(row) == 1 for row in rows)
    return [row[0] for row in rows]
