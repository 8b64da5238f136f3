"""The attributes of an episode file as values that JSON and PostgreSQL can hold, and no more than those take."""

import json
import math
from typing import Any

import numpy as np

from lefleet_server.episodes.limits import is_machines_fault, memory_left

MOST_ATTRIBUTES = 1024
MOST_ELEMENTS = 1024
"""Of one attribute that is an array of strings: each may name the same long one."""
MOST_BYTES = 64 << 10
"""Of one attribute, in the file and as read."""
MOST_ALL_BYTES = 1 << 20
"""Of all attributes as read, with their names."""
_READING_BYTES = 64 << 20
"""Memory for reading them: how long a string of variable length is, HDF5 says only once it is read."""
_JSON = ("camera_fingerprints", "policy_files", "extra")


class FileError(Exception):
    """Not an episode file of format 1; `field` is the dataset or attribute that is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


def plain(attributes: Any) -> dict[str, Any]:
    """Of an h5py.AttributeManager: numbers, text and lists of both; those that hold JSON to dictionaries.

    Raises FileError: also for one that is too large, before it is read where HDF5 says so.
    """
    if len(attributes) > MOST_ATTRIBUTES:
        raise FileError("attributes", f"are {len(attributes)}, a file may have {MOST_ATTRIBUTES}")
    found: dict[str, Any] = {}
    all_bytes = 0
    for name in attributes:
        _text("an attribute's name", name)
        found[name] = _small(name, attributes)
        all_bytes += len(name) + _size(found[name])
        if all_bytes > MOST_ALL_BYTES:
            raise FileError(name, f"brings all attributes to {all_bytes} bytes, they may have {MOST_ALL_BYTES}")
    return found | {name: _names(name, found[name]) for name in _JSON if name in found}


def _small(name: str, attributes: Any) -> Any:
    _require_small(name, attributes.get_id(name))
    try:
        with memory_left(_READING_BYTES):
            value = _plain(name, attributes[name])
            size = _size(value)
    except MemoryError as error:
        message = f"takes more than {_READING_BYTES} bytes of memory to read, an attribute may have {MOST_BYTES}"
        raise FileError(name, message) from error
    except (OSError, RuntimeError) as error:
        if is_machines_fault(error):
            raise
        raise FileError(name, f"cannot be read, an attribute may have {MOST_BYTES} bytes: {error}"[:300]) from error
    if size > MOST_BYTES:
        raise FileError(name, f"has {size} bytes, an attribute may have {MOST_BYTES}")
    return value


def _require_small(name: str, attribute: Any) -> None:
    """By what h5py.h5a.AttrID says of it, without reading."""
    stored, dtype = _stored_bytes(attribute), attribute.dtype
    if stored > MOST_BYTES:
        raise FileError(name, f"has {stored} bytes in the file, an attribute may have {MOST_BYTES}")
    elements = math.prod(attribute.shape or ())
    if dtype.hasobject and elements > MOST_ELEMENTS:
        raise FileError(name, f"has {elements} strings, an attribute may have {MOST_ELEMENTS}")
    if not (_is_text(dtype) or dtype.base.kind in "biufS"):
        raise FileError(name, f"has a type this server does not know: {dtype}"[:300])


def _stored_bytes(attribute: Any) -> int:
    try:
        return int(attribute.get_storage_size())
    except RuntimeError:  # how h5py takes a size of 0, which is that of an array without elements
        return 0


def _is_text(dtype: Any) -> bool:
    """Strings of variable length; objects of other kinds may nest, and refer to anything."""
    return dtype.kind == "O" and (dtype.metadata or {}).get("vlen") in (str, bytes)


def _size(value: Any) -> int:
    """Bytes of text, 8 for each number."""
    if isinstance(value, list):
        return sum(map(_size, value))
    return len(value.encode()) if isinstance(value, str) else 8


def _names(name: str, text: Any) -> dict[str, str]:
    """An attribute that holds a JSON object of strings."""
    found = json.loads(text) if isinstance(text, str) else None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise FileError(name, "must be a JSON object of strings")
    return {_plain(name, key): _plain(name, value) for key, value in found.items()}


def _plain(name: str, value: Any) -> Any:
    """A value that JSON can hold."""
    if isinstance(value, np.ndarray):
        return [_plain(name, each) for each in value.tolist()]
    if isinstance(value, np.generic) and not isinstance(value.item(), np.generic):  # a long double stays one
        return _plain(name, value.item())
    if isinstance(value, bytes | str):
        return _text(name, value)
    if isinstance(value, float) and not math.isfinite(value):
        raise FileError(name, f"is {value}")
    if isinstance(value, bool | int | float):
        return value
    raise FileError(name, f"has a type this server does not know: {type(value).__name__}")


def _text(name: str, value: bytes | str) -> str:
    """PostgreSQL stores neither NUL nor the lone surrogates as which h5py passes undecodable bytes on."""
    try:
        text = (value if isinstance(value, bytes) else value.encode("utf-8")).decode("utf-8")
    except UnicodeError as error:
        raise FileError(name, "is not UTF-8 text") from error
    if "\x00" in text:
        raise FileError(name, "contains the character NUL")
    return text
