"""Which fleet a command speaks to: profiles in a file of the person's own, or variables where nobody logs in (CI)."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from lefleet_server.cli.failures import usage
from lefleet_server.secret import SecretFileError, read_secret

VARIABLES = {
    "LEFLEET_PROFILE": "Profile to use, unless `--profile` names one.",
    "LEFLEET_URL": "Address of the server; then no profile is read, and the token comes from a variable, too.",
    "LEFLEET_TOKEN_FILE": "File that holds the API token.",
    "LEFLEET_TOKEN": "The API token itself, where only variables are at hand.",
    "LEFLEET_CA_FILE": "Authority that signed the server's certificate, PEM, for `LEFLEET_URL`.",
}


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be an address such as https://fleet.example.org")
    if parts.username or parts.password or parts.query or parts.fragment or parts.path not in {"", "/"}:
        raise ValueError("must be the server's address alone, without a path, a user or a password")
    return f"{parts.scheme}://{parts.netloc}"


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Address = Annotated[str, AfterValidator(_address)]


class Profile(BaseModel):
    """One fleet, and as whom."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: Address
    token: str = Field(repr=False)
    user: str = ""
    token_id: int | None = None
    """None for a token that was made elsewhere."""
    ca_file: Path | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the token crosses a network that others may listen to."""
        parts = urlsplit(self.url)
        return parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}


class Profiles(BaseModel):
    """The file. `current` is the one that commands use when nothing names another."""

    model_config = ConfigDict(extra="forbid")

    current: str | None = None
    profiles: dict[Name, Profile] = {}

    @classmethod
    def load(cls, path: Path) -> Self:
        """Raises Failure for a file that is wrong, or that others may read."""
        try:
            text = path.read_text(encoding="utf-8")
            others = path.stat().st_mode & 0o077
        except FileNotFoundError:
            return cls()
        except (OSError, UnicodeDecodeError) as error:
            raise usage(f"{path}: cannot be read: {error}") from error
        if others:
            raise usage(f"{path}: holds tokens, and other people of this machine may read it; run: chmod 600 {path}")
        try:
            return cls.model_validate(yaml.safe_load(text) or {})
        except (yaml.YAMLError, ValidationError) as error:
            # Without the library's words: they quote the file, and it holds tokens.
            raise usage(
                f"{path}: is not what `lefleet login` writes; mend it, or remove it and log in again"
            ) from error

    def named(self, name: str) -> Profile:
        if name not in self.profiles:
            there = ", ".join(self.profiles) or "none"
            raise usage(
                f"profile {name!r}: is not known here, there are: {there}; `lefleet login URL --profile {name}`"
            )
        return self.profiles[name]

    def without(self, name: str) -> "Profiles":
        """The same but one; where it was the current one, another one is."""
        self.named(name)
        left = {each: profile for each, profile in self.profiles.items() if each != name}
        return Profiles(current=self.current if self.current in left else next(iter(left), None), profiles=left)

    def save(self, path: Path) -> None:
        """Whole or not at all, for nobody else to read."""
        values = self.model_dump(mode="json", exclude_none=True)
        part = path.with_name(path.name + ".part")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - opened with its mode
                os.fchmod(file.fileno(), 0o600)
                yaml.safe_dump(values, file, sort_keys=False)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        except OSError as error:
            raise usage(f"{path}: cannot be written: {error.strerror}") from error


def place(environment: Mapping[str, str] = os.environ) -> Path:
    """The file, by the XDG base directory specification (a relative folder is ignored, as it says)."""
    folder = Path(environment.get("XDG_CONFIG_HOME", ""))
    return (folder if folder.is_absolute() else Path.home() / ".config") / "lefleet" / "profiles.yml"


def chosen(name: str | None, environment: Mapping[str, str] = os.environ) -> Profile:
    """The profile that a command uses. A profile's token never goes to an address that a variable names."""
    token, url = _token(environment), environment.get("LEFLEET_URL")
    if name is None and url:
        if token is None:
            raise usage("LEFLEET_URL is set, but no token: set LEFLEET_TOKEN_FILE (or LEFLEET_TOKEN), too")
        return make(url, token, environment.get("LEFLEET_CA_FILE") or None)
    path = place(environment)
    known = Profiles.load(path)
    name = name or environment.get("LEFLEET_PROFILE") or known.current
    if name is None:
        raise usage("no server is known here; log in: `lefleet login https://fleet.example.org`, or set LEFLEET_URL")
    found = known.named(name)
    return found if token is None else found.model_copy(update={"token": token, "user": "", "token_id": None})


def make(url: str, token: str, ca_file: Path | str | None, user: str = "", token_id: int | None = None) -> Profile:
    """Raises Failure that says what is wrong with an address."""
    try:
        authority = Path(ca_file).expanduser().absolute() if ca_file else None
        return Profile(url=url, token=token, ca_file=authority, user=user, token_id=token_id)
    except ValidationError as error:
        first = error.errors()[0]
        raise usage(f"{first['loc'][0]}: {url!r}: {first['msg'].removeprefix('Value error, ')}") from error


def secret(path: Path) -> str:
    """The one line that a file (`-`: standard input) holds."""
    try:
        return read_secret(Path("/dev/stdin") if str(path) == "-" else path)
    except SecretFileError as error:
        raise usage(str(error)) from error


def _token(environment: Mapping[str, str]) -> str | None:
    file = environment.get("LEFLEET_TOKEN_FILE")
    return secret(Path(file)) if file else environment.get("LEFLEET_TOKEN") or None
