"""The attributes of an episode file as values that JSON and PostgreSQL can hold."""

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

_JSON = ("camera_fingerprints", "policy_files", "extra")


class FileError(Exception):
    """Not an episode file of format 1; `field` is the dataset or attribute that is wrong."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


def plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """As h5py reads them to numbers, text and lists of both; those that hold JSON to dictionaries. Raises FileError."""
    found = {name: _plain(name, attributes[name]) for name in attributes}
    return found | {name: _names(name, found[name]) for name in _JSON if name in found}


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
    if isinstance(value, np.generic):
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
