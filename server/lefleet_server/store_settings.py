"""Where episode files go, as the settings say it: an address without secrets, and a file with them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from lefleet_server.secret import SecretFileError

CREDENTIALS = {
    "s3": "access_key_id and secret_access_key",
    "gs": "service_account_key",
    "az": "account_name and account_key",
}
"""By the scheme of a cloud's address, what its credentials file mostly holds; obstore knows more names."""
OBJECT_STORE_OPTIONS = ("store_endpoint", "store_region", "store_credentials_file")


def check_url(url: str) -> str:
    """Raises ValueError unless it is the address of a store, without credentials."""
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query:
        raise ValueError("must hold no credentials; put them into store_credentials_file")
    if parts.scheme == "file" and not parts.netloc and len(parts.path) > 1:
        return url
    if parts.scheme in CREDENTIALS and parts.netloc:
        return url.rstrip("/")
    raise ValueError("must be file:///folder, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix")


def check_fit(url: str | None, given: Sequence[str], downloads_by: str) -> None:
    """Raises ValueError for settings of another kind of store; `given`: those of OBJECT_STORE_OPTIONS that are set."""
    scheme = urlsplit(url or "").scheme
    is_folder = scheme not in CREDENTIALS
    if is_folder and given:
        raise ValueError(f"{given[0]} goes with an object store; set store_url to s3://, gs:// or az:// too")
    if is_folder and downloads_by == "store":
        raise ValueError("downloads_by: store goes with an object store; set store_url to s3://, gs:// or az:// too")
    if not is_folder and downloads_by == "proxy":
        raise ValueError("downloads_by: proxy goes with a folder; with an object store set it to server or store")
    if "store_region" in given and scheme != "s3":
        raise ValueError(f"store_region goes with s3://; leave it out with store_url {url}")


def read_credentials(path: Path) -> dict[str, Any]:
    """obstore's options of the file. SecretFileError names the file, never what is in it."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SecretFileError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError):
        raise SecretFileError(f"{path}: is not YAML") from None
    if not isinstance(values, dict) or not values or not all(isinstance(name, str) for name in values):
        raise SecretFileError(f"{path}: must hold `name: value` lines, such as access_key_id and secret_access_key")
    # Google's key is a JSON object, and JSON is YAML: without quotes it is read as what it says.
    return {name: json.dumps(value) if isinstance(value, dict) else str(value) for name, value in values.items()}
