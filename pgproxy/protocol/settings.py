"""PURE. The settings of a session (GUCs), taken from one server connection to another.

What a session has set is not modelled: after a transaction that may have changed settings the
server is asked for the values of those that its statements name (`ask`, `read_row`), so that
transactions, savepoints and errors count as PostgreSQL has it. A connection whose settings are not
the session's is brought to them in front of the next statement (`restore`).

    SELECT current_setting('app.user', true), …         the question; NULL: there is no such setting
    BEGIN …; SELECT set_config('app.user', 'x', false), …; COMMIT
                                                        the restoring; a NULL in place of a value resets

In the latter an error ends the connection (`exit_on_error`), whatever is sent behind it: no statement
ever runs with settings that are not its session's. A failed transaction block would not do, for
what follows may begin with ROLLBACK.
"""

from typing import Final, final

from pgproxy.frames import write

# What is sent must mean the same whatever default_transaction_* and client_encoding the connection
# has from its last session: a block of its own kind, in ASCII.
_BEGIN: Final = b"BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY; "
_COMMIT: Final = b"; COMMIT"
# Holds to the end of the block. ERROR is FATAL then (errstart() in elog.c).
_OR_END: Final = b"SET LOCAL exit_on_error = on; "

# Who may set what depends on these, so they are taken back first; the one takes back the other.
AUTHORITY: Final = ("session_authorization", "role")
# They could end the restoring itself, so they are taken back before it, and set at its end.
TIMEOUTS: Final = ("statement_timeout", "transaction_timeout")
_NO_TIMEOUT: Final = {"statement_timeout": b"SET statement_timeout = 0", "transaction_timeout": b"SET transaction_timeout = 0"}  # fmt: skip

# They end with their transaction, however they are set.
OF_A_TRANSACTION: Final = frozenset(
    {"transaction_isolation", "transaction_read_only", "transaction_deferrable"}
)

# It cannot be set any more where temporary tables have been used, by whomever; such a connection
# has this mark, in place of a setting's name.
TEMP_BUFFERS: Final = "temp_buffers"
TEMPORARY: Final = "\0temporary"
# The same where a statement may have set whatever it liked, under names that only it knows.
UNNAMED: Final = "\0unnamed"
# It ends connections that are idle for want of work, or go to another session.
IDLE_TIMEOUT: Final = "idle_session_timeout"

# The same setting by another name (map_old_guc_names in guc.c).
_OLD_NAMES: Final = {"sort_mem": "work_mem", "vacuum_mem": "maintenance_work_mem"}

# What it is set to may leave out what is to stay ("MDY" says nothing of ISO).
RELATIVE: Final = frozenset({"datestyle"})

# A value of these is a list of identifiers, which SET puts together and quotes (GUC_LIST_QUOTE).
LISTS: Final = frozenset({"search_path", "temp_tablespaces", "local_preload_libraries", "session_preload_libraries"})  # fmt: skip

# What one session may take along; beyond it, it keeps its connection.
MAX_SETTINGS: Final = 500
MAX_BYTES: Final = 65536

# PostgreSQL's names of encodings whose Python names are others ("Character Set Support").
_CODECS: Final = {
    "UTF8": "utf-8",
    "UNICODE": "utf-8",
    "EUC_JP": "euc_jp",
    "EUC_JIS_2004": "euc_jis_2004",
    "EUC_KR": "euc_kr",
    "EUC_CN": "gb2312",
    "KOI8R": "koi8_r",
    "KOI8U": "koi8_u",
}
_NUMBERED: Final = (("WIN", "cp"), ("LATIN", "latin"), ("ISO_8859_", "iso8859_"))


# They do not change what a statement means, only how it is run and what is told of it. All others
# might: names are looked up along search_path, and constants ('01/02/2020'::date) are what the
# settings of the moment make of them, which a plan keeps.
_MEANING_NOTHING: Final = frozenset(
    """
    application_name client_encoding client_min_messages constraint_exclusion cursor_tuple_fraction
    default_statistics_target default_transaction_deferrable default_transaction_isolation
    default_transaction_read_only deadlock_timeout effective_cache_size effective_io_concurrency
    hash_mem_multiplier idle_in_transaction_session_timeout idle_session_timeout lock_timeout
    logical_decoding_work_mem maintenance_io_concurrency maintenance_work_mem plan_cache_mode
    role seed session_authorization statement_timeout synchronous_commit temp_buffers
    temp_file_limit transaction_timeout work_mem
    """.split()
)
_KINDS_MEANING_NOTHING: Final = (
    "debug_", "enable_", "from_collapse_", "geqo", "jit", "join_collapse_", "log_",
    "max_parallel_", "min_parallel_", "parallel_", "track_",
)  # fmt: skip


# Unique beginnings are enough.
_ON: Final = frozenset({"on", "1", "t", "tr", "tru", "true", "y", "ye", "yes"})
_OFF: Final = frozenset({"off", "of", "0", "f", "fa", "fal", "fals", "false", "n", "no"})


@final
class Settings:
    """Values by name (in lower case), in the order in which they were set. Never changed once
    made; what is not in it has the value that a new connection has.

    scope   equal where one text means the same under both
    custom  names of those that are not PostgreSQL's own
    allowed what may exist on a connection that has them
    may_idle a connection that has them may be kept in a pool
    """

    def __init__(self, values: dict[str, str]) -> None:
        self.values = values
        self.custom = frozenset([name for name in values if is_custom(name)])
        self.may_idle = values.get(IDLE_TIMEOUT, "0") == "0"
        self.allowed = self.custom if TEMP_BUFFERS in values else self.custom | {TEMPORARY}
        meaning = [f"{name}={value}" for name, value in values.items() if _means_something(name)]
        self.scope = "\0".join(sorted(meaning)).encode("utf-8", "surrogatepass")

    def __repr__(self) -> str:
        return f"<Settings {self.values}>"


def is_custom(name: str) -> bool:
    """Whether it is not PostgreSQL's own. Such a setting begins to exist when it is first set, and
    exists for the rest of its connection's life (as an empty text, once it is set back)."""
    return "." in name


def _means_something(name: str) -> bool:
    if is_custom(name) or name in _MEANING_NOTHING:
        return False
    return not name.startswith(_KINDS_MEANING_NOTHING)


NOTHING_SET: Final = Settings({})


@final
class Origin:
    """What a session begins with: the settings of its start-up packet, and what a server reports
    once it has them (ParameterStatus: value by name)."""

    def __init__(self, base: Settings, reported: dict[bytes, bytes]) -> None:
        self.base = base
        self.reported = reported

    def __repr__(self) -> str:
        return f"<Origin {self.base}>"


@final
class SettingsTable:
    """Each set of settings once, so that one comparison tells whether two are the same. Forgetting
    costs a restoring that changes nothing. `limit`: how many are known; `room`: their letters."""

    def __init__(self, limit: int = 4096, room: int = 1 << 22) -> None:
        self._limit = limit
        self._room = room
        self._letters = 0
        self._known: dict[tuple[tuple[str, str], ...], Settings] = {}

    def __len__(self) -> int:
        return len(self._known)

    def get(self, values: dict[str, str]) -> Settings:
        if not values:
            return NOTHING_SET
        key = tuple(values.items())
        found = self._known.get(key)
        if found is None:
            letters = size_of(values)
            if len(self._known) >= self._limit or self._letters + letters > self._room:
                self._known.clear()
                self._letters = 0
            self._letters += letters
            found = Settings(values)
            self._known[key] = found
        return found


@final
class Effect:
    """What a statement may do to the settings of its session.

    names    the settings that it may change, in lower case
    resets   it sets them back, and nothing else
    all      RESET ALL or DISCARD ALL: all of them, whatever their names
    local    for the rest of its transaction only
    parameter
             the number of the parameter that has the name, if the text does not
    value    what the one name is set to, if the text tells that
    surely   a statement that fails has done nothing of it, and any other has
    """

    def __init__(
        self,
        names: tuple[str, ...],
        *,
        resets: bool = False,
        all: bool = False,
        local: bool = False,
        parameter: int = 0,
        value: str | None = None,
        surely: bool = False,
    ) -> None:
        self.names = names
        self.resets = resets
        self.all = all
        self.local = local
        self.parameter = parameter
        self.value = value
        self.surely = surely

    def among_others(self) -> "Effect":
        """The same in a text of several statements: which of them has failed is not told."""
        if not self.surely:
            return self
        return Effect(
            self.names,
            resets=self.resets,
            all=self.all,
            local=self.local,
            parameter=int(self.parameter),
            value=self.value,
        )

    def fields(self) -> tuple[object, ...]:
        """Every attribute, to compare two."""
        return (
            self.names,
            self.resets,
            self.all,
            self.local,
            self.parameter,
            self.value,
            self.surely,
        )

    def __repr__(self) -> str:
        return f"<Effect {self.fields()}>"


def parse_bool(word: str) -> bool | None:
    """The value of a Boolean setting, in lower case, as PostgreSQL's parse_bool() takes it; None: it
    takes no such word."""
    if word in _ON:
        return True
    return False if word in _OFF else None


def setting_name(name: str) -> str:
    """A setting's name as PostgreSQL compares them: ASCII letters in lower case, and no old names."""
    if name.isascii():
        name = name.lower()
        return _OLD_NAMES.get(name, name)
    return "".join(letter.lower() if letter.isascii() else letter for letter in name)


def names_set(name: str) -> tuple[str, ...]:
    """The settings that change for the session where `name` is set."""
    if name in OF_A_TRANSACTION:
        return ()
    # The role goes with the authorization.
    return AUTHORITY if name == "session_authorization" else (name,)


def changed(
    settings: Settings, answers: dict[str, str | None], *, are_set: bool = True
) -> dict[str, str]:
    """The values after `answers`; None takes a setting out. What was set last stands last: it was
    set under the role that stands in front of it.

    Not `are_set`: perhaps in vain, and the server only tells a value in its own way. Then what is
    known stays where it stands.
    """
    values = settings.values.copy()
    session, role = AUTHORITY
    if session in answers and role in answers:
        values.pop(role, None)  # which that takes back: it comes after, though it be the same
    for name, value in answers.items():
        if value is None:
            values.pop(name, None)
        elif values.get(name) != value:
            if are_set or name in AUTHORITY:
                values.pop(name, None)
            values[name] = value
    return values


def reset(settings: Settings, names: list[str], base: Settings) -> dict[str, str]:
    """The values once `names` have been set back to those of `base`, the session's first ones."""
    values = settings.values.copy()
    for name in names:
        first = base.values.get(name)
        if first == values.get(name):
            continue
        values.pop(name, None)
        if first is not None:
            values[name] = first
    return values


def is_too_much(values: dict[str, str]) -> bool:
    """Whether a session has set more than it can take along."""
    return len(values) > MAX_SETTINGS or size_of(values) > MAX_BYTES


def size_of(values: dict[str, str]) -> int:
    """Letters of names and values together."""
    return sum([len(name) + len(value) for name, value in values.items()])


def difference(
    have: Settings, want: Settings, *, as_superuser: bool = False
) -> list[tuple[str, str | None]]:
    """What is to be set (None: set back), in this order, to get from the one to the other.

    With a superuser's log-in the role comes last: before it anything may be set.
    """
    before = have.values
    after = want.values
    changes: list[tuple[str, str | None]] = []
    late: list[tuple[str, str | None]] = []
    if before != after:
        changes += [(name, None) for name in AUTHORITY if name in before]
        if changes:
            before = {name: value for name, value in before.items() if name not in AUTHORITY}
        changes += [(name, None) for name in before if name not in after and name not in TIMEOUTS]
        values = list(after.items())
        if as_superuser:
            values.sort(key=_is_authority)
        for name, value in values:
            if name not in TIMEOUTS and before.get(name) != value:
                if name in RELATIVE and name in before:
                    changes.append((name, None))
                changes.append((name, value))
        for name in TIMEOUTS:
            if name in after:
                if changes or before.get(name) != after[name]:
                    late.append((name, after[name]))
            elif name in before:
                late.append((name, None))
    return changes + late


def _is_authority(setting: tuple[str, str]) -> bool:
    return setting[0] in AUTHORITY


def restore(
    have: Settings, want: Settings, *, or_end: bool = True, as_superuser: bool = False
) -> tuple[bytes, bytes]:
    """The Query that brings a connection from `have` to `want` (b"" if they are the same), and one
    to go in front of it that may fail. `or_end`: an error in the former ends the connection.
    `as_superuser`: who has logged in is one."""
    changes = difference(have, want, as_superuser=as_superuser)
    if not changes:
        return b"", b""
    first = b"; ".join([_NO_TIMEOUT[name] for name in TIMEOUTS if name in have.values])
    calls = b", ".join(
        [
            b"pg_catalog.set_config(" + literal(name) + b", " + _value(value) + b", false)"
            for name, value in changes
        ]
    )
    begun = _BEGIN + _OR_END if or_end else _BEGIN
    return write.query(begun + b"SELECT " + calls + _COMMIT), write.query(first) if first else b""


def set_back(names: list[str], base: Settings) -> bytes:
    """The Query that gives settings which a RESET has taken back the values with which the session
    began; b"" if none of them has one. What is set still (the RESET has failed) stays."""
    cases = [
        b"CASE WHEN " + _is_set_back(name) + b" THEN pg_catalog.set_config(" + literal(name)
        + b", " + literal(base.values[name]) + b", false) END"
        for name in names
        if name in base.values
    ]  # fmt: skip
    return write.query(b"SELECT " + b", ".join(cases)) if cases else b""


def _is_set_back(name: str) -> bytes:
    if name == AUTHORITY[0]:
        return b"true"
    if not is_in_view(name):
        unset = b"''" if is_custom(name) else b"'none'"
        current = b"pg_catalog.current_setting(" + literal(name) + b", true)"
        return current + b" OPERATOR(pg_catalog.=) " + unset
    return (
        b"EXISTS (SELECT FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.<>) 'session'"
        b" AND pg_catalog.lower(name) OPERATOR(pg_catalog.=) " + literal(name) + b")"
    )


def ask(names: list[str], *, are_set: bool, in_block: bool = False) -> bytes:
    """The Query whose one row has the values of these settings; unless they are known to have been
    set in the session, also which of them have, as far as pg_settings tells. `in_block`: a standby
    would refuse it in a transaction of the session's default kind."""
    calls = [b"pg_catalog.current_setting(" + literal(name) + b", true)" for name in names]
    told = [name for name in names if is_in_view(name)]
    if told and not are_set:
        listed = b", ".join([literal(name) for name in told])
        calls.append(
            b"(SELECT pg_catalog.string_agg(pg_catalog.lower(name), ',')"
            b" FROM pg_catalog.pg_settings WHERE source OPERATOR(pg_catalog.=) 'session'"
            b" AND pg_catalog.lower(name) OPERATOR(pg_catalog.=) ANY (ARRAY[" + listed + b"]))"
        )
    columns = b", ".join(calls)
    question = b"SELECT " + columns
    return write.query(_BEGIN + question + _COMMIT if in_block else question)


def answers(names: list[str], values: list[str | None]) -> dict[str, str | None]:
    """What a session has set of `names`, from the row that `ask` got; None: not set.

    Raises ValueError if the row is not one."""
    found = dict(zip(names, values, strict=False))
    if len(values) == len(names) + 1:
        in_session = (values[-1] or "").split(",")
        for name in names:
            if is_in_view(name) and name not in in_session:
                found[name] = None
    elif len(values) != len(names):
        raise ValueError(f"{len(values)} values for {len(names)} settings")
    return found


def is_in_view(name: str) -> bool:
    """Whether pg_settings has a line for it (GUC_NO_SHOW_ALL has none)."""
    return not is_custom(name) and name not in AUTHORITY


def read_row(body: bytes, encoding: str) -> list[str | None]:
    """The values in a DataRow's body, in the client's encoding (PostgreSQL's name of it).

    Raises ValueError for what cannot be read, so that it cannot be taken along either.
    """
    values: list[str | None] = []
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        length = int.from_bytes(body[at : at + 4], "big", signed=True)
        at += 4
        if length < 0:
            values.append(None)
            continue
        value = body[at : at + length]
        at += length
        values.append(value.decode("ascii") if value.isascii() else _decode(value, encoding))
    return values


def literal(text: str) -> bytes:
    """A string constant in ASCII that means the same whatever standard_conforming_strings says."""
    if text.isascii() and "\\" not in text:
        return b"'" + text.replace("'", "''").encode("ascii") + b"'"
    pieces = ["E'"]
    for letter in text:
        code = ord(letter)
        if letter == "'":
            pieces.append("''")
        elif letter == "\\":
            pieces.append("\\\\")
        elif code < 0x80:
            pieces.append(letter)
        elif code < 0x10000:
            pieces.append(f"\\u{code:04x}")
        else:
            pieces.append(f"\\U{code:08x}")
    pieces.append("'")
    return "".join(pieces).encode("ascii")


def _value(value: str | None) -> bytes:
    return b"NULL" if value is None else literal(value)


def _decode(value: bytes, encoding: str) -> str:
    codec = _CODECS.get(encoding, "")
    for beginning, python in _NUMBERED:
        if encoding.startswith(beginning):
            codec = python + encoding[len(beginning) :]
    if not codec:
        raise ValueError(f"texts in {encoding} are not read")
    return value.decode(codec)
