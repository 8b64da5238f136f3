"""What goes over HTTP about people."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from lefleet_server.accounts.models import Role

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
