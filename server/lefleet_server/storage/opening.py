"""Opens an object store as the settings say; nothing is sent before the first request.

What obstore says of wrong options may quote them, so only the names that it does not know are told.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from obstore.exceptions import BaseError, UnknownConfigurationKeyError
from obstore.store import ObjectStore, from_url

from lefleet_server.store_settings import CREDENTIALS, read_credentials


class OptionsError(Exception):
    """These settings make no store; the message names what is wrong and holds no credential."""


def open_store(
    url: str, options: Mapping[str, str], timeout_s: float, credentials_file: Path | None = None
) -> ObjectStore:
    """Raises OptionsError, or SecretFileError for a file that is none."""
    secrets = read_credentials(credentials_file) if credentials_file else {}
    plain = {"allow_http": True} if any(value.startswith("http://") for value in options.values()) else {}
    timeout = f"{timeout_s:g}s"
    # Which cloud it is, the address says: no overload of from_url fits options that are read at run time.
    opened: Callable[..., ObjectStore] = from_url
    try:
        return opened(
            url,
            config={**options, **secrets},
            client_options={"timeout": timeout, "connect_timeout": timeout, **plain},
            retry_config={"max_retries": 2, "retry_timeout": timedelta(seconds=timeout_s)},
        )
    except UnknownConfigurationKeyError as error:
        # It tells the first one alone.
        strange = next((name for name in secrets if f"'{name}'" in str(error)), "a name")
        raise OptionsError(f"{_place(credentials_file)}: {strange}: not an option of {_needs(url)}") from None
    except (BaseError, ValueError):
        raise OptionsError(f"{_place(credentials_file)}: not the credentials of {_needs(url)}") from None


def _place(credentials_file: Path | None) -> str:
    return str(credentials_file or "is not set, and the environment holds none")


def _needs(url: str) -> str:
    return f"{url}, which mostly needs {CREDENTIALS[urlsplit(url).scheme]}"
