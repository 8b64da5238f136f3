"""What goes over HTTP about views of a page."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from lefleet_server.fields import storable
from lefleet_server.views.service import NAME_MAX_CHARS, QUERY_MAX_CHARS

type Page = Literal["fleet"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=NAME_MAX_CHARS), AfterValidator(storable)]


class ViewIn(BaseModel):
    """A view of the same name is replaced."""

    model_config = ConfigDict(extra="forbid")

    page: Page
    name: Name
    query: Annotated[str, StringConstraints(max_length=QUERY_MAX_CHARS), AfterValidator(storable)] = Field(
        description="Filters and order, as the page's address has them behind its `?`."
    )


class ViewOut(BaseModel):
    """A view of a page, which its owner alone sees."""

    model_config = ConfigDict(from_attributes=True)

    page: Page
    name: str
    query: str
    saved_at: datetime


class ViewList(BaseModel):
    items: list[ViewOut]
