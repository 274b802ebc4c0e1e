"""Scripts made by Hypothesis: settings × transactions × savepoints × errors × prepared statements.

Statements are drawn without regard to the state that those before have left: a statement that
fails there is as good a test. What is drawn first is what a failing script is shrunk to.
"""

from typing import Final

from hypothesis import strategies as st

from tests.differential import vocabulary
from tests.differential.script import (
    SYNC,
    Bind,
    Close,
    Connect,
    CopyData,
    CopyDone,
    CopyFail,
    Describe,
    Execute,
    Flush,
    Login,
    Message,
    Parse,
    Query,
    Say,
    Script,
    Step,
    run,
)
from tests.differential.vocabulary import OBSERVATIONS, PLANS, SETTINGS, WRONG_SETTINGS

USERS: Final = ("diff_super", "diff_super", "diff_super", "diff_app", "diff_app", "diff_tuned")
NAMES: Final = ("s1", "s2", "s1", "s2", "S 3")


def _bare(value: str) -> str:
    """A value as set_config takes it."""
    return "'" + value.replace("'", "") + "'"


@st.composite
def settings_changed(draw: st.DrawFn) -> str:
    """SET, RESET or set_config of one setting; SHOW, too."""
    name = draw(st.sampled_from(sorted(SETTINGS)))
    value = draw(st.sampled_from(SETTINGS[name]))
    if draw(st.integers(0, 11)) == 11:
        name, value = draw(st.sampled_from(WRONG_SETTINGS))
    form = draw(
        st.sampled_from(
            (
                "SET {name} = {value}",
                "SET {name} = {value}",
                "SET LOCAL {name} = {value}",
                "SET LOCAL {name} = {value}",
                "SET SESSION {name} TO {value}",
                "RESET {name}",
                "SET {name} TO DEFAULT",
                "SET LOCAL {name} TO DEFAULT",
                "SELECT set_config('{plain}', {bare}, false)",
                "SELECT set_config('{plain}', {bare}, true)",
                "SHOW {name}",
                "SELECT current_setting('{plain}', true)",
            )
        )
    )
    plain = name.replace('"', "")
    return form.format(name=name, plain=plain, value=value, bare=_bare(value))


def _one_of(*texts: str) -> st.SearchStrategy[str]:
    return st.sampled_from(texts)


STATEMENTS: Final = st.one_of(
    _one_of(*vocabulary.TRANSACTIONS),
    settings_changed(),
    settings_changed(),
    settings_changed(),
    _one_of(*vocabulary.TRANSACTIONS),
    _one_of(*vocabulary.SESSION),
    _one_of(*vocabulary.SESSION),
    _one_of(*vocabulary.ERRORS),
    _one_of(*vocabulary.SQL_PREPARED),
    _one_of(*vocabulary.DATA),
    _one_of(*vocabulary.TEMPORARY),
    _one_of(*vocabulary.CURSORS),
    _one_of(*vocabulary.LOCKS),
    _one_of(*vocabulary.BLOCKS),
    _one_of(*OBSERVATIONS),
    _one_of(*OBSERVATIONS),
)


# What a transaction is made of that reads, and writes now and then.
IN_TRANSACTIONS: Final = st.one_of(
    _one_of(*vocabulary.READS),
    _one_of(*vocabulary.READS),
    _one_of(*vocabulary.READS),
    _one_of(*vocabulary.TRANSACTIONS),
    _one_of(*vocabulary.SAVEPOINTS),
    _one_of(*vocabulary.SAVEPOINTS),
    _one_of(*vocabulary.ERRORS),
    _one_of(*vocabulary.MODES),
    _one_of(*vocabulary.DATA),
    STATEMENTS,
)


@st.composite
def queries(draw: st.DrawFn) -> tuple[Message, ...]:
    """One simple query, of several statements now and then."""
    texts = draw(st.one_of(st.tuples(STATEMENTS), st.lists(STATEMENTS, min_size=2, max_size=4)))
    return (Query("; ".join(texts)),)


@st.composite
def copies(draw: st.DrawFn) -> tuple[Message, ...]:
    """COPY FROM STDIN with all its data, in either protocol."""
    text = draw(_one_of("COPY sink FROM STDIN", "COPY missing FROM STDIN", "COPY t1 FROM STDIN"))
    line = draw(_one_of("1\tone\n", "7\n", "no number\tx\n", ""))
    ends: tuple[Message, ...] = (CopyDone(), CopyDone(), CopyFail("changed my mind"))
    end = draw(st.sampled_from(ends))
    if draw(st.booleans()):
        return (Query(text), CopyData(line), end)
    return (Parse(text), Bind(), Execute(), CopyData(line), end, SYNC)


@st.composite
def named(draw: st.DrawFn) -> tuple[Message, ...]:
    """Something with one of the protocol's named statements, without Sync."""
    name = draw(st.sampled_from(NAMES))
    sql, values = draw(st.sampled_from(PLANS))
    portal = draw(_one_of("", "", "p1"))
    made = (Parse(sql, name),)
    used = (Bind(values, name, portal), Describe("P", portal), Execute(portal))
    return draw(
        st.sampled_from(
            (
                made + used,
                made,
                (*made, Describe("S", name)),
                used,
                used,
                (Bind(values, name, portal), Execute(portal, 1)),
                (Execute(portal, 1),),
                (Describe("S", name),),
                (Close("S", name),),
                (Close("P", portal),),
                (Close("S", name), *made, *used),
            )
        )
    )


@st.composite
def unnamed(draw: st.DrawFn) -> tuple[Message, ...]:
    """A statement in the extended protocol, unnamed, without Sync."""
    if draw(st.booleans()):
        return run(draw(STATEMENTS))
    sql, values = draw(st.sampled_from(PLANS))
    return draw(
        st.sampled_from(
            (
                run(sql, *values),
                (Parse(sql), Describe("S"), Bind(values), Execute()),
                (Parse(sql), Bind(values, results=(1,)), Describe("P"), Execute()),
                (Parse(sql),),
                (Bind(values), Execute()),
                (Parse(sql), Bind(values, portal="p1"), Execute("p1", 2), Execute("p1")),
            )
        )
    )


@st.composite
def batches(draw: st.DrawFn) -> tuple[Message, ...]:
    """Extended-query messages with a Sync at the end, and perhaps some in between, or a Flush."""
    parts = draw(st.lists(st.one_of(unnamed(), named(), named()), min_size=1, max_size=4))
    messages: list[Message] = []
    for part in parts[:-1]:
        messages += part
        messages += draw(st.sampled_from(((SYNC,), (), (Flush(),), (SYNC,))))
    return (*messages, *parts[-1], SYNC)


@st.composite
def pipelines(draw: st.DrawFn) -> tuple[Message, ...]:
    """Several queries and batches in one write."""
    parts = draw(st.lists(st.one_of(queries(), batches()), min_size=2, max_size=3))
    return tuple(message for part in parts for message in part)


@st.composite
def logins(draw: st.DrawFn) -> Login:
    parameters = dict(draw(st.lists(st.sampled_from(vocabulary.PARAMETERS), max_size=2)))
    return Login(draw(st.sampled_from(USERS)), tuple(parameters.items()))


@st.composite
def steps(draw: st.DrawFn, clients: int) -> Step:
    client = 0 if clients == 1 else draw(st.sampled_from((0, 0, 1)))
    if draw(st.integers(0, 19)) == 19:
        return Connect(draw(logins()), client)
    said = st.one_of(queries(), queries(), queries(), batches(), batches(), pipelines(), copies())
    return Say(draw(said), client)


@st.composite
def parts_of_transactions(draw: st.DrawFn) -> tuple[Message, ...]:
    """One or a few statements, in either protocol."""
    texts = draw(st.lists(IN_TRANSACTIONS, min_size=1, max_size=3))
    form = draw(_one_of("queries", "queries", "query", "batches", "batch"))
    if form == "queries":
        return tuple(Query(text) for text in texts)
    if form == "query":
        return (Query("; ".join(texts)),)
    if form == "batches":
        return tuple(message for text in texts for message in (*run(text), SYNC))
    return (*(message for text in texts for message in run(text)), SYNC)


@st.composite
def transactions(draw: st.DrawFn) -> Script:
    """Of one client, of whose transactions most begin with reads."""
    parameters = draw(st.lists(st.sampled_from(vocabulary.PARAMETERS), max_size=1))
    taken: list[Step] = [Connect(Login(draw(st.sampled_from(USERS)), tuple(parameters)), 0)]
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(_one_of("BEGIN", "BEGIN", *vocabulary.BEGINS))
        taken.append(Say(draw(st.sampled_from(((Query(begin),), (*run(begin), SYNC))))))
        taken += map(Say, draw(st.lists(parts_of_transactions(), min_size=1, max_size=7)))
        taken.append(Say((Query(draw(_one_of("COMMIT", "ROLLBACK", "COMMIT AND CHAIN"))),)))
    looks = ("ROLLBACK", *vocabulary.READS[:2], vocabulary.EVERY_SETTING, vocabulary.WHO)
    return Script(*taken, *(Say((Query(text),)) for text in looks))


@st.composite
def scripts(draw: st.DrawFn) -> Script:
    """Of one client, or of two; each is looked at closely in the end."""
    clients = draw(st.sampled_from((1, 1, 2)))
    taken: list[Step] = [Connect(draw(logins()), client) for client in range(clients)]
    taken += draw(st.lists(steps(clients), min_size=1, max_size=14))
    for client in range(clients):
        taken.append(Say((Query("ROLLBACK"),), client))
        looks = (vocabulary.EVERY_SETTING, vocabulary.CUSTOM, vocabulary.WHO)
        taken += [Say((Query(text),), client) for text in looks]
    return Script(*taken)
