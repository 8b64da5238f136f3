"""Settings of the log-in by an OpenID Connect provider, which is off unless `oidc_issuer` is set."""

import ipaddress
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, Field, SecretStr, StringConstraints, model_validator

from lefleet_server.accounts.roles import Role
from lefleet_server.secret import read_secret


def is_safe_address(url: str) -> bool:
    """Whether nobody on the way can read or change what goes there: TLS, or this machine itself."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    try:
        return parts.scheme == "http" and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return parts.hostname == "localhost"


def _issuer(url: str) -> str:
    if not is_safe_address(url):
        raise ValueError("must begin with https://: whoever can change its answers can log in as anybody")
    return url


class OidcSettings(BaseModel):
    oidc_issuer: Annotated[str, StringConstraints(pattern=r"^https?://[^\s?#]+$"), AfterValidator(_issuer)] | None = (
        Field(
            None,
            description="OpenID Connect provider that people may log in with, exactly as its discovery document names "
            "it; none: there is no such log-in.",
        )
    )
    oidc_name: Annotated[str, StringConstraints(min_length=1, max_length=40)] = Field(
        "OpenID Connect", description="What people call that provider: Log in with ..."
    )
    oidc_client_id: str | None = Field(None, description="This server's name at the provider.")
    oidc_client_secret_file: Path | None = Field(
        None, description="File with this server's secret at the provider; none and no oidc_client_secret: it has none."
    )
    oidc_client_secret: SecretStr | None = Field(
        None, description="The secret itself, from the environment; in the settings file use oidc_client_secret_file."
    )
    oidc_ca_file: Path | None = Field(
        None, description="PEM file of the authority that signed the provider's certificate; none: the system's."
    )
    oidc_scopes: tuple[str, ...] = Field(
        ("openid", "profile"), description="What the provider is asked for; openid must be among it."
    )
    oidc_username_claim: str = Field("preferred_username", min_length=1, description="Claim that names a new account.")
    oidc_groups_claim: str = Field("groups", min_length=1, description="Claim that oidc_roles looks at.")
    oidc_roles: dict[str, Role] = Field(
        {},
        description="Role by group, the highest counts, at each log-in; who is in none of them gets in no more. Empty: "
        "roles are kept here.",
    )
    oidc_create_accounts: bool = Field(
        False, description="Whether people without an account get one at their first log-in; viewer without oidc_roles."
    )

    @model_validator(mode="after")
    def _oidc_is_whole(self) -> Self:
        if self.oidc_issuer is None:
            if given := sorted(name for name in self.model_fields_set if name.startswith("oidc_")):
                raise ValueError(f"{', '.join(given)}: without oidc_issuer this means nothing; set that too")
            return self
        if not self.oidc_client_id:
            raise ValueError("oidc_issuer needs oidc_client_id: register this server at the provider")
        if self.oidc_client_secret is not None and self.oidc_client_secret_file is not None:
            raise ValueError("set oidc_client_secret or oidc_client_secret_file, not both")
        if "openid" not in self.oidc_scopes:
            raise ValueError("oidc_scopes has no openid: the provider would send no ID token")
        return self

    def read_client_secret(self) -> str | None:
        """Read anew each time, so that it can be exchanged. Raises SecretFileError."""
        if self.oidc_client_secret_file is not None:
            return read_secret(self.oidc_client_secret_file)
        return self.oidc_client_secret.get_secret_value() if self.oidc_client_secret is not None else None
