"""Types of what clients send, each with its limits, so that a problem document can name the field."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

INT32_MAX = (1 << 31) - 1
INT64_MAX = (1 << 63) - 1
PASSWORD_MIN_CHARS = 8
PLAUSIBLE = float(1 << 63)
"""No number that a robot measures is beyond it, either way. The sum or the hundredfold of one that is may be none."""


def storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not contain the character NUL")
    return text


RobotId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
CameraName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}$")]
USERNAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$")
Username = Annotated[str, StringConstraints(pattern=USERNAME.pattern)]
NewPassword = Annotated[str, StringConstraints(min_length=PASSWORD_MIN_CHARS, max_length=1000)]
Site = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{0,63}$")]
RowId = Annotated[int, Field(ge=1, le=INT64_MAX)]
EpisodeId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Word = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")]
Line = Annotated[str, StringConstraints(max_length=300), AfterValidator(storable)]
Reason = Annotated[str, StringConstraints(max_length=300, pattern=r"\S"), AfterValidator(storable)]
"""Why somebody did it; not empty."""
Text = Annotated[str, StringConstraints(max_length=4000), AfterValidator(storable)]
Count = Annotated[int, Field(ge=0, le=INT64_MAX)]
Number = Annotated[float, Field(allow_inf_nan=False)]
