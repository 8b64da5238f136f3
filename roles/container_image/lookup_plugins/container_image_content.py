"""A hash of files' names, modes and bytes: the tag by which an image says what it was built from."""

import hashlib
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError

from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: container_image_content
short_description: Hash of files and folders
description: Runs on the controller. Bytecode and editors' leavings do not count.
options:
  _terms:
    description: Files and folders, relative to root.
    required: true
  root:
    description: Folder in which they lie.
    required: true
  more:
    description: What counts besides, such as build arguments.
    default: ""
"""
SKIPPED = ("__pycache__", ".pyc", ".swp", "~")


def content(root: Path, paths: list[str], more: str) -> str:
    """32 hex digits. Raises OSError when a path does not exist."""
    digest = hashlib.sha256(more.encode())
    for path in sorted(root / name for name in paths):
        path.lstat()
        for file in sorted([path] if path.is_file() else path.rglob("*")):
            if file.is_file() and not any(part.endswith(SKIPPED) for part in file.relative_to(root).parts):
                digest.update(f"\0{file.relative_to(root)}\0{file.stat().st_mode & 0o111:o}\0".encode())
                digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:32]


class LookupModule(LookupBase):
    def run(self, terms: list[str], variables: Any = None, **options: Any) -> list[str]:
        self.set_options(var_options=variables, direct=options)
        try:
            return [content(Path(self.get_option("root")), list(terms), str(self.get_option("more")))]
        except OSError as error:
            raise AnsibleError(f"{error.filename}: {error.strerror}; it is part of an image's context") from error
