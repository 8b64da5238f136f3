"""What goes over HTTP about people, their log-ins and their tokens."""

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from lefleet_server.accounts.models import Role
from lefleet_server.accounts.roles import Scope
from lefleet_server.accounts.tokens import MAX_DAYS
from lefleet_server.fields import NewPassword, Username

_Secret = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class PasswordLogin(BaseModel):
    model_config = ConfigDict(extra="forbid")

    username: _Secret
    password: _Secret = Field(repr=False)


class CodeLogin(BaseModel):
    """The one-time code of a log-in link."""

    model_config = ConfigDict(extra="forbid")

    code: _Secret = Field(repr=False)


class Me(BaseModel):
    username: str
    role: Role


class UserOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    username: str
    role: Role
    created_at: datetime
    disabled_at: datetime | None


class PersonOut(UserOut):
    """One account in the list of all."""

    has_password: bool = Field(description="False: only log-in links let them in.")
    logged_in_at: datetime | None = Field(description="Last log-in.")
    sessions: int = Field(description="Log-ins that are valid.")
    tokens: int = Field(description="API tokens that are valid.")


class UserList(BaseModel):
    items: list[PersonOut]


class NewUser(BaseModel):
    """A new account. It has no password: send its owner a log-in link."""

    model_config = ConfigDict(extra="forbid")

    username: Username
    role: Role = Role.VIEWER


class UserChange(BaseModel):
    """What is left out stays."""

    model_config = ConfigDict(extra="forbid")

    role: Role | None = None
    disabled: bool | None = None


class LoginLink(BaseModel):
    url: str = Field(description="Logs in once. Shown this once; the server keeps only its hash.")
    ttl_s: int


class PasswordChange(BaseModel):
    model_config = ConfigDict(extra="forbid")

    old: Annotated[str, StringConstraints(max_length=1000)] | None = Field(
        None, repr=False, description="Needed by whoever has a password; others must just have logged in."
    )
    new: NewPassword = Field(repr=False)


class PasswordChanged(BaseModel):
    """Other sessions and unused log-in links have ended."""

    tokens: int = Field(description="API tokens of one's own that go on working; `DELETE /api/v1/tokens/ID` ends one.")


class SessionOut(BaseModel):
    """One log-in."""

    model_config = ConfigDict(from_attributes=True)

    id: int
    created_at: datetime
    expires_at: datetime
    seen_at: datetime | None = Field(description="Last used, to the minute.")
    address: str
    agent: str = Field(description="The browser's own word.")


class SessionList(BaseModel):
    items: list[SessionOut]
    current: int | None = Field(description="The one that asks; null when somebody else asks.")


class Ended(BaseModel):
    ended: int


class NewToken(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,100}$")] = Field(description="What it is for.")
    scopes: list[Scope] = Field(min_length=1, max_length=len(Scope))
    days: Annotated[int, Field(ge=1, le=MAX_DAYS)] = Field(90, description="Days until it expires.")


class TokenOut(BaseModel):
    id: int
    owner: str
    name: str
    prefix: str = Field(description="The secret's first letters.")
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = Field(description="Last used, to the minute.")


class TokenList(BaseModel):
    items: list[TokenOut]


class TokenMade(TokenOut):
    token: str = Field(description="The secret. Shown this once; the server keeps only its hash.")
