"""What a section of the configuration is, and the kinds of values that its keys have."""

import re
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field


class Section(BaseModel):
    """A table of keys, of which none may be unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"no regular expression: {error}") from error
    return text


# The description says what is accepted; it ends up in the line of a fault.
Name = Annotated[str, Field(min_length=1, description="a text that is not empty")]
Text = Annotated[str, Field(description="a text")]
Texts = Annotated[tuple[str, ...], Field(description='a list of texts such as ["alice", "bob"]')]
Patterns = Annotated[
    tuple[Annotated[str, AfterValidator(_pattern)], ...],
    Field(description="a list of regular expressions (Python's re)"),
]
OptionalFile = Annotated[
    Path | None,
    BeforeValidator(_empty_is_none),
    Field(description='the path of a file, or "" for none'),
]
OptionalFolder = Annotated[
    Path | None,
    BeforeValidator(_empty_is_none),
    Field(description='the path of a folder, or "" for none'),
]
Folders = Annotated[
    tuple[Path, ...],
    Field(description='a list of folders such as ["/etc/pgproxy/app"]'),
]
# The portable names of POSIX, and what a Secret's key in `envFrom` may be.
_VARIABLE: Final = r"[A-Za-z_][A-Za-z0-9_]*"
OptionalVariables = Annotated[
    str,
    Field(
        pattern=rf"^({_VARIABLE})?$",
        description='"" or a word such as "MONITOR", for MONITOR_USERNAME and MONITOR_PASSWORD',
    ),
]
Variables = Annotated[
    tuple[Annotated[str, Field(pattern=rf"^{_VARIABLE}$")], ...],
    Field(description='a list of words such as ["APP"], for APP_USERNAME and APP_PASSWORD'),
]
PortOrAny = Annotated[
    int,
    Field(strict=True, ge=0, le=65535, description="a port, 1 to 65535, or 0: the system picks"),
]
Port = Annotated[int, Field(strict=True, ge=1, le=65535, description="a port, 1 to 65535")]
Switch = Annotated[bool, Field(strict=True, description="true or false")]
Count = Annotated[int, Field(strict=True, ge=0, description="a whole number, 0 or more")]
Cap = Annotated[int, Field(strict=True, ge=0, description="a whole number, 0 or more (0: no cap)")]
OptionalCap = Annotated[
    int | None, Field(strict=True, ge=0, description="a whole number, 0 or more (0: no cap)")
]
LinesOrAll = Annotated[
    int, Field(strict=True, ge=0, description="a whole number, 0 or more (0: no limit)")
]
Positive = Annotated[int, Field(strict=True, ge=1, description="a whole number, 1 or more")]
Workers = Annotated[int, Field(strict=True, ge=1, le=64, description="a whole number from 1 to 64")]
Weight = Annotated[
    int, Field(strict=True, ge=0, le=1000, description="a whole number from 0 (no reads) to 1000")
]
Share = Annotated[
    int, Field(strict=True, ge=1, le=1000, description="a whole number from 1 to 1000")
]
TopQueries = Annotated[
    int, Field(strict=True, ge=0, le=100, description="a whole number from 0 (none) to 100")
]
Seconds = Annotated[
    float,
    Field(strict=True, ge=0, allow_inf_nan=False, description="seconds, 0 or more"),
]
SecondsOrOff = Annotated[
    float,
    Field(strict=True, ge=0, allow_inf_nan=False, description="seconds, or 0 for no limit"),
]
SecondsOrNever = Annotated[
    float,
    Field(strict=True, ge=0, allow_inf_nan=False, description="seconds, or 0 for never"),
]
Interval = Annotated[
    float,
    Field(strict=True, ge=0.05, allow_inf_nan=False, description="seconds, 0.05 or more"),
]
OptionalSeconds = Annotated[
    float | None,
    Field(strict=True, ge=0, allow_inf_nan=False, description="seconds, or 0 for no limit"),
]
# As far as Linux goes (MAX_TCP_KEEPIDLE and its like in net/tcp.h).
KeepAliveSeconds = Annotated[
    int,
    Field(
        strict=True,
        ge=0,
        le=32_767,
        description="a whole number of seconds up to 32767, or 0 for the system's default",
    ),
]
KeepAliveProbes = Annotated[
    int,
    Field(
        strict=True,
        ge=0,
        le=127,
        description="a whole number up to 127, or 0 for the system's default",
    ),
]
UserTimeout = Annotated[
    float,
    Field(
        strict=True,
        ge=0,
        le=2_000_000,
        allow_inf_nan=False,
        description="seconds up to 2000000, or 0 for the system's default",
    ),
]
TlsMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
TLS_VERIFIES: Final = frozenset({"verify-ca", "verify-full"})
TLS_REQUIRES: Final = frozenset({"require", *TLS_VERIFIES})
