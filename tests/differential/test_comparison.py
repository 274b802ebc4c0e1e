"""The comparison itself: blind to what has to differ, and to nothing else."""

import copy
from collections.abc import Iterator
from random import Random

import hypothesis
import pytest

from pgproxy.embedded import Cluster
from tests.differential import noise
from tests.differential.by_hand import SCRIPTS
from tests.differential.careless import CarelessPool
from tests.differential.neighbours import Neighbours
from tests.differential.player import play, shown
from tests.differential.script import (
    FLUSH,
    SYNC,
    Bind,
    Close,
    CopyData,
    CopyDone,
    Describe,
    Execute,
    Parse,
    Query,
    Script,
    Step,
    ask,
    connect,
    hear,
    run,
    say,
)
from tests.differential.stage import DIRECT, OTHER, Stage, difference
from tests.differential.strategies import scripts
from tests.differential.vocabulary import CUSTOM, EVERY_SETTING, WHO
from tests.support import wire
from tests.support.wire import query

pytestmark = pytest.mark.once

EXAMPLES = hypothesis.settings().max_examples

# Has a frame of every kind in its answers.
COLOURFUL = Script(
    connect("diff_app", application_name="x"),
    *ask("SET TimeZone = 'Asia/Tokyo'; SET DateStyle = German", "SELECT complain('aloud')"),
    *ask("LISTEN news", "NOTIFY news, 'one'", "SELECT 1/0", "", "BEGIN"),
    hear(1),
    *ask("SELECT NULL, ''", "SELECT n FROM generate_series(1, 3) n", client=1),
    say(Parse("SELECT $1::int", "s1"), Describe("S", "s1"), Bind(("1",), "s1"), Execute(), FLUSH),
    say(Close("S", "s1"), SYNC),
    say(Query("COPY sink FROM STDIN"), CopyData("1\tone\n"), CopyDone()),
    *ask("COPY sink TO STDOUT", "SELECT missing", "ROLLBACK"),
    say(
        *run("SELECT n FROM generate_series(1, 3) n", limit=2), *run("CREATE TEMP TABLE t ()"), SYNC
    ),
)


@pytest.fixture(scope="module")
def stage(cluster: Cluster) -> Iterator[Stage]:
    with Stage(cluster) as stage:
        yield stage


# --- what must not be found


@pytest.mark.timeout(600)  # what fails is made smaller
@hypothesis.settings(max_examples=EXAMPLES // 5)
@hypothesis.given(script=scripts())
def test_two_databases_say_the_same(cluster: Cluster, stage: Stage, script: Script) -> None:
    stage.check(script, cluster.primary)


@pytest.mark.parametrize("name", SCRIPTS)
def test_they_do_in_what_was_written_by_hand(cluster: Cluster, stage: Stage, name: str) -> None:
    stage.check(SCRIPTS[name], cluster.primary)


def test_what_differs_between_any_two_connections() -> None:
    assert (
        shown(b"K", b"\0\0\0\1abcd")
        == shown(b"K", b"\0\0\0\2efgh")
        != shown(b"K", b"\0\0\0\1abcde")
    )
    here, there = b"SERROR\0C42P01\0Mpg_temp_%d.t\0F%s\0L%d\0R%s\0\0" % (3, b"a.c", 1, b"f"), b""
    there = b"SERROR\0C42P01\0Mpg_temp_%d.t\0F%s\0L%d\0R%s\0\0" % (14, b"b.c", 22, b"g")
    assert shown(b"E", here) == shown(b"E", there) != shown(b"E", here.replace(b"42P01", b"42P02"))


# --- what must be found


async def test_a_transcript_that_was_tampered_with(cluster: Cluster, stage: Stage) -> None:
    """Each single line of a transcript counts: left out, doubled, changed, or told elsewhere."""
    assert not await stage.compare(COLOURFUL, cluster.primary)
    true = await play(cluster.primary, DIRECT, COLOURFUL)
    kinds = {line.split(" ")[0] for answer in true.answers for line in answer.frames}
    assert kinds >= set("123CGHIRZcdns")
    assert kinds >= {"DataRow", "Error", "Notice", "RowDescription", "ParameterDescription"}
    assert true.heard == [["news: one"], []]
    places = [("heard", at, 0) for at in range(1)]
    for step, answer in enumerate(true.answers):
        places += [("frames", step, at) for at in range(len(answer.frames))]
        places += [("parameters", step, at) for at in range(len(answer.parameters))]
    assert len(places) > 80
    for part, step, at in places:
        for change in ("left out", "doubled", "changed"):
            told = copy.deepcopy(true)
            lines = told.heard[step] if part == "heard" else getattr(told.answers[step], part)
            if change == "changed":
                lines[at] += "!"
            else:
                lines[at : at + 1] = lines[at : at + 1] * (2 if change == "doubled" else 0)
            assert difference(COLOURFUL, true, told), (part, step, at, change)


LEAKS: dict[str, tuple[list[Step], list[Step]]] = {
    "a setting": (ask("SET TimeZone = 'Asia/Tokyo'"), ask("SHOW TimeZone")),
    "one that is not reported": (ask("SET work_mem = '3MB'"), ask(EVERY_SETTING)),
    "a custom one, though it was reset": (ask("SET app.never = 'x'; RESET app.never"), ask(CUSTOM)),
    "a role": (ask("SET ROLE diff_reader"), ask(WHO)),
    "who one is": (ask("SET SESSION AUTHORIZATION diff_app"), ask("SELECT body FROM secrets")),
    "a transaction": (ask("BEGIN"), ask("SELECT 1")),
    "a failed one": (ask("BEGIN", "SELECT 1/0"), ask("SELECT 1")),
    "a statement": ([say(Parse("SELECT 1", "s1"), SYNC)], [say(Parse("SELECT 2", "s1"), SYNC)]),
    "one of SQL": (ask("PREPARE s1 AS SELECT 1"), ask("EXECUTE s1")),
    "a temporary table": (ask("CREATE TEMP TABLE t1 (n int)"), ask("TABLE t1")),
    "a cursor": (ask("DECLARE c1 CURSOR WITH HOLD FOR SELECT 1"), ask("FETCH c1")),
    "a sequence": (ask("SELECT nextval('ids')"), ask("SELECT currval('ids')")),
    "the level of messages": (ask("SET client_min_messages = error"), ask("SELECT complain('x')")),
    "a start-up parameter": (
        [connect(options="-c search_path=two"), *ask("SELECT 1")],
        ask("SELECT place FROM place"),
    ),
}


@pytest.mark.parametrize("what", LEAKS)
async def test_what_leaks_to_the_next_client(cluster: Cluster, stage: Stage, what: str) -> None:
    left, looked_for = (Script(*steps) for steps in LEAKS[what])
    async with CarelessPool(cluster.primary) as pool:
        assert not await stage.compare(left, pool)
        assert await stage.compare(looked_for, pool)


# --- the neighbours


def test_neighbours_meet_no_trouble_at_a_server_of_their_own(
    cluster: Cluster, stage: Stage
) -> None:
    with Neighbours(cluster.primary, OTHER) as neighbours:
        neighbours.act(40 * 20)
        neighbours.rest()
    assert neighbours.troubles == []
    assert neighbours.acts.keys() == noise.Noise(cluster.primary, Random(0), "x").acts.keys()
    assert cluster.primary.psql("SELECT count(*) FROM noise WHERE s <> 'n'", OTHER) == "0"


async def test_a_neighbour_changes_every_setting(cluster: Cluster, stage: Stage) -> None:
    one = noise.Noise(cluster.primary, Random(0), "x")
    async with await wire.Wire.connect(
        cluster.primary, user="diff_super", database=OTHER
    ) as client:
        one.learn(await client.ask(query(noise.SETTINGS)))
        for name, values in one.settings.items():
            for value in values:
                answer = await client.ask(query(f"SET {name} = '{value}'"))
                assert not wire.errors(answer), (name, value, answer)
        answer = await client.ask(query("SELECT name FROM pg_settings WHERE source = 'session'"))
    assert len(one.settings) > 100
    changed = {row[0].decode() for row in wire.rows(answer) if row[0]}
    assert changed >= one.settings.keys()
