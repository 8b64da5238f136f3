"""Fewer triangles for the same look: STL meshes cut by vertex clustering (Rossignac and Borrel, 1993)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

_STL_HEADER_BYTES = 84
_STL_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attributes", "<u2")])


@dataclass(frozen=True, slots=True)
class Mesh:
    vertices: npt.NDArray[np.float64]
    """Shape (n, 3), metres."""
    faces: npt.NDArray[np.int64]
    """Shape (m, 3), indices into `vertices`."""


def read_stl(path: Path) -> npt.NDArray[np.float32]:
    """Triangles of a binary STL, shape (n, 3, 3). Raises ValueError where the file is not one."""
    data = path.read_bytes()
    count = int.from_bytes(data[80:_STL_HEADER_BYTES], "little")
    if len(data) != _STL_HEADER_BYTES + count * _STL_TRIANGLE.itemsize:
        raise ValueError(f"{path.name} is not a binary STL of {count} triangles: it has {len(data)} bytes")
    corners: npt.NDArray[np.float32] = np.frombuffer(data, _STL_TRIANGLE, count, _STL_HEADER_BYTES)["corners"]
    return corners


def decimate(triangles: npt.NDArray[np.float32], cell_m: float) -> Mesh:
    """All corners inside one cell of a grid become their mean; triangles that collapse go."""
    corners = triangles.reshape(-1, 3).astype(np.float64)
    cells = np.round((corners - corners.min(0)) / cell_m).astype(np.int64)
    _, x, y = cells.max(0) + 1
    keys = (cells[:, 0] * x + cells[:, 1]) * y + cells[:, 2]
    unique, cluster = np.unique(keys, return_inverse=True)
    counts = np.bincount(cluster)
    means = np.stack([np.bincount(cluster, corners[:, axis]) / counts for axis in range(3)], axis=1)
    faces = cluster.reshape(-1, 3)
    distinct = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    # The same face with its corners turned round the circle is the same face.
    first = np.argmin(faces, axis=1)[:, None]
    turned = np.take_along_axis(faces, (first + np.arange(3)) % 3, axis=1)[distinct]
    order = (turned[:, 0] * len(unique) + turned[:, 1]) * len(unique) + turned[:, 2]
    _, kept = np.unique(order, return_index=True)
    return Mesh(means, turned[kept])
