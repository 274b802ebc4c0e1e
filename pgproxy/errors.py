"""What can go wrong, told apart by whose fault it is.

`PgError` is the only exception that is ever shown to a client: it carries the fields of an
ErrorResponse. Everything else that reaches the top of a connection is our own bug and becomes
XX000 with no detail, so that nothing internal leaks.
"""

from typing import Final

# Appendix A of the PostgreSQL manual; the conditions the proxy itself raises. Notices have the first.
SUCCESS: Final = "00000"
PROTOCOL_VIOLATION: Final = "08P01"
CONNECTION_FAILURE: Final = "08006"
CANNOT_CONNECT_NOW: Final = "57P03"
ADMIN_SHUTDOWN: Final = "57P01"
TOO_MANY_CONNECTIONS: Final = "53300"
FEATURE_NOT_SUPPORTED: Final = "0A000"
INVALID_PASSWORD: Final = "28P01"
INVALID_AUTHORIZATION: Final = "28000"
INVALID_PARAMETER_VALUE: Final = "22023"
UNDEFINED_PREPARED_STATEMENT: Final = "26000"
INTERNAL_ERROR: Final = "XX000"
INSUFFICIENT_PRIVILEGE: Final = "42501"
UNDEFINED_OBJECT: Final = "42704"
NOT_IN_PREREQUISITE_STATE: Final = "55000"
CONFIG_FILE_ERROR: Final = "F0000"


class PgError(Exception):
    """An error a client may see.

    `severity` is ERROR (the connection goes on) or FATAL (it is closed after the message).
    `detail` says what to do about it; `hint` is optional. `routine` is another than "pgproxy" where
    the error stands for one of PostgreSQL's that drivers know by it.
    """

    def __init__(
        self,
        sqlstate: str,
        message: str,
        *,
        severity: str = "ERROR",
        detail: str = "",
        hint: str = "",
        routine: str = "pgproxy",
    ) -> None:
        super().__init__(message)
        self.sqlstate = sqlstate
        self.message = message
        self.severity = severity
        self.detail = detail
        self.hint = hint
        self.routine = routine


class ConfigError(Exception):
    """The configuration cannot be used; `faults` holds one line each: file, key, what is accepted."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults
