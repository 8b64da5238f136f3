"""The release store: checkpoints that were checked, and one `active` link.

A release is a LeRobot pretrained folder under `releases/<digest>`, with `release.json` beside its files. It is
installed whole or not at all, and activated by replacing the link, so a reader sees the old one or the new one.
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from lefleet_agent.episode import PolicyInfo
from lefleet_agent.files import fsync_folder

REQUIRED = ("config.json", "model.safetensors", "policy_preprocessor.json", "policy_postprocessor.json")
MANIFEST = "release.json"
MOST_LISTING_BYTES = 64 << 10
"""Of the files' names and checksums as JSON: each episode file has them in an attribute, and may have no more."""
# safetensors dtype -> unsigned storage of the same size, and its exponent bits.
FLOATS = {
    "F64": (np.uint64, np.uint64(0x7FF0000000000000)),
    "F32": (np.uint32, np.uint32(0x7F800000)),
    "F16": (np.uint16, np.uint16(0x7C00)),
    "BF16": (np.uint16, np.uint16(0x7F80)),
}

# What each of LeRobot's normalisation modes needs to know of a feature.
STATISTICS = {
    "MEAN_STD": ("mean", "std"),
    "MIN_MAX": ("min", "max"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
}
NORMALISERS = {
    "policy_preprocessor.json": "normalizer_processor",
    "policy_postprocessor.json": "unnormalizer_processor",
}


class ReleaseError(Exception):
    """This is not a release that may run; the message names the file and the remedy."""


def describe(folder: Path, repo: str, commit: str) -> PolicyInfo:
    """Check a pretrained folder and hash every file. Raises ReleaseError."""
    for name in REQUIRED:
        if not (folder / name).is_file():
            raise ReleaseError(
                f"{folder.name}: {name} is missing. Export the policy and both processors with LeRobot 0.6 "
                "(`policy.save_pretrained`, `preprocessor.save_pretrained`, `postprocessor.save_pretrained`)"
            )
    for path in sorted(folder.glob("*.safetensors")):
        _check_finite(path)
    config = _read_json(folder / "config.json")
    _check_processors(folder, config)
    files = {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    listing_bytes = len(json.dumps(files).encode())
    if listing_bytes > MOST_LISTING_BYTES:
        raise ReleaseError(
            f"{folder.name}: holds {len(files)} files, whose names and checksums take {listing_bytes} bytes; every "
            f"episode file has them, with at most {MOST_LISTING_BYTES}. Leave only the policy's own files in the folder"
        )
    # The same files from another commit are another release: provenance must name the one that was installed.
    listing = f"{repo}\n{commit}\n" + "".join(f"{name} {digest}\n" for name, digest in sorted(files.items()))
    return PolicyInfo(repo, commit, hashlib.sha256(listing.encode()).hexdigest(), str(config.get("type")), files)


class ReleaseStore:
    """The folder `releases` of one robot."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def install(self, source: Path, repo: str, commit: str) -> tuple[PolicyInfo, bool]:
        """Copy a checked folder in and make it active; True when that changed anything. Raises ReleaseError."""
        info = describe(source, repo, commit)
        target = self._folder / info.digest
        changed = False
        if not target.is_dir():
            self._copy(source, target, info)
            changed = True
        link = self._folder / "active"
        if self.active_digest() != info.digest:
            part = self._folder / "active.part"
            part.unlink(missing_ok=True)
            part.symlink_to(info.digest)
            part.rename(link)
            fsync_folder(self._folder)
            changed = True
        return info, changed

    def active(self) -> tuple[Path, PolicyInfo]:
        """The folder of the active release, its every file verified again. Raises ReleaseError."""
        link = self._folder / "active"
        if not link.is_symlink():
            raise ReleaseError("no release is active; install one with `lefleet-agent release install FOLDER`")
        folder = self._folder / link.readlink()
        info = PolicyInfo(**_read_json(folder / MANIFEST))
        for name, digest in info.files.items():
            path = folder / name
            if not path.is_file() or _sha256(path) != digest:
                raise ReleaseError(f"{info.digest[:12]}: {name} is not the file that was installed; install it again")
        return folder, info

    def active_digest(self) -> str | None:
        """Which release the link names, without reading it."""
        link = self._folder / "active"
        return str(link.readlink()) if link.is_symlink() else None

    def _copy(self, source: Path, target: Path, info: PolicyInfo) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        part = target.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        for name in info.files:
            copy = part / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, copy)
            _sync_file(copy)
        manifest = part / MANIFEST
        manifest.write_text(json.dumps(asdict(info), indent=2, sort_keys=True) + "\n")
        _sync_file(manifest)
        fsync_folder(part)
        part.rename(target)
        fsync_folder(self._folder)


def _check_finite(path: Path) -> None:
    """Reads the tensors through the file's own header (safetensors format), since NumPy has no bfloat16."""
    try:
        with safe_open(path, "np"):  # the library judges the format
            header_bytes, header = _safetensors_header(path)
    except (SafetensorError, OSError) as error:
        raise ReleaseError(f"{path.name}: not a safetensors file: {error}") from error
    for name, entry in header.items():
        if name != "__metadata__" and not _is_finite(path, entry, 8 + header_bytes):
            raise ReleaseError(f"{path.name}: tensor {name} holds NaN or infinity; export the policy again")


def _safetensors_header(path: Path) -> tuple[int, dict[str, Any]]:
    with path.open("rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        return header_bytes, json.loads(file.read(header_bytes))


def _is_finite(path: Path, entry: dict[str, Any], data_offset: int) -> bool:
    if entry["dtype"] not in FLOATS:
        return True
    storage, exponent = FLOATS[entry["dtype"]]
    start, end = entry["data_offsets"]
    bits = np.fromfile(path, storage, (end - start) // np.dtype(storage).itemsize, offset=data_offset + start)
    # IEEE 754: NaN and infinity are the values whose exponent bits are all set.
    return not np.any((bits & exponent) == exponent)


def _check_processors(folder: Path, config: dict[str, Any]) -> None:
    """LeRobot passes over a normalisation that has no statistics: the arm would get numbers of no unit."""
    normalises = any(mode != "IDENTITY" for mode in (config.get("normalization_mapping") or {}).values())
    for name, normaliser in NORMALISERS.items():
        steps = _read_json(folder / name).get("steps", [])
        for step in steps:
            _check_step(folder, name, step)
        if normalises and not any(step.get("registry_name") == normaliser for step in steps):
            raise ReleaseError(
                f"{name}: has no {normaliser}, but config.json asks for normalisation; export both processors anew"
            )


def _check_step(folder: Path, name: str, step: dict[str, Any]) -> None:
    state = step.get("state_file")
    if state and not (folder / state).is_file():
        raise ReleaseError(f"{folder.name}: {name} needs {state}, which is missing; copy the whole folder")
    if step.get("registry_name") not in NORMALISERS.values():
        return
    config = step.get("config") or {}
    there = set(_safetensors_header(folder / state)[1]) if state else set()
    for feature, needs in _statistics(config, only_action=step["registry_name"] == "unnormalizer_processor"):
        missing = [each for each in needs if f"{feature}.{each}" not in there]
        if missing:
            raise ReleaseError(
                f"{state or name}: {feature} has no {' and no '.join(missing)}, without which LeRobot leaves it as it "
                "is; export the processors with the statistics of the dataset"
            )


def _statistics(config: dict[str, Any], *, only_action: bool) -> list[tuple[str, tuple[str, ...]]]:
    """Which statistics a normaliser must have, by feature."""
    modes = config.get("norm_map") or {}
    found: list[tuple[str, tuple[str, ...]]] = []
    for feature, about in (config.get("features") or {}).items():
        needs = STATISTICS.get(str(modes.get(about.get("type"))), ())
        if needs and (feature == "action" or not only_action):
            found.append((feature, needs))
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ReleaseError(f"{path.name}: cannot be read as JSON: {error}") from error
    if not isinstance(values, dict):
        raise ReleaseError(f"{path.name}: holds a {type(values).__name__} where an object belongs")
    return values


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
