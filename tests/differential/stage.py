"""Two equal databases and the comparison of what a script brings in each.

    with Stage(cluster) as stage:
        stage.check(script, proxy)

The first database is for direct connections to the primary, the other one for whatever is
compared with that. The roles belong to the cluster, so one stage at a time.
"""

import asyncio
import difflib
import re
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from pgproxy.embedded import Cluster
from tests.differential.player import HANGS, Transcript, play
from tests.differential.script import Parse, Query, Say, Script
from tests.support import wire
from tests.support.wire import Address

DIRECT: Final = "differential_a"
OTHER: Final = "differential_b"

ROLES: Final = """
CREATE ROLE diff_super LOGIN SUPERUSER;
CREATE ROLE diff_reader;
CREATE ROLE diff_writer;
CREATE ROLE diff_app LOGIN IN ROLE diff_reader, diff_writer;
CREATE ROLE diff_tuned LOGIN IN ROLE diff_reader;
ALTER ROLE diff_tuned SET TimeZone = 'Asia/Tokyo';
ALTER ROLE diff_tuned SET search_path = two, public;
ALTER ROLE diff_tuned SET app."user" = 'tuned';
ALTER ROLE diff_tuned SET DateStyle = 'German';
"""

SCHEMA: Final = """
-- Plans must not change with what autovacuum has found out in one database and not in the other.
CREATE TABLE items (id int PRIMARY KEY, owner text NOT NULL, v int CHECK (v < 1000))
    WITH (autovacuum_enabled = off);
CREATE TABLE sink (n int, s text);
CREATE TABLE noise (n int, s text); -- of the neighbours
CREATE SEQUENCE ids START 100;
CREATE TABLE secrets (id int, app_user text, body text);
ALTER TABLE secrets ENABLE ROW LEVEL SECURITY;
CREATE POLICY by_setting ON secrets TO PUBLIC USING (app_user = current_setting('app.user', true));
CREATE POLICY by_role ON secrets TO diff_writer USING (app_user = 'writer');
CREATE SCHEMA one;
CREATE SCHEMA two;
CREATE TABLE public.place AS SELECT 'public' AS place;
CREATE TABLE one.place AS SELECT 'one' AS place;
CREATE TABLE two.place AS SELECT 'two' AS place;
CREATE FUNCTION complain(what text) RETURNS text LANGUAGE plpgsql AS $$
    BEGIN RAISE WARNING 'complaint: %', what USING DETAIL = 'd', HINT = 'h'; RETURN what; END $$;
GRANT ALL ON SCHEMA public, one, two TO PUBLIC;
GRANT ALL ON ALL TABLES IN SCHEMA public, one, two TO PUBLIC;
GRANT ALL ON SEQUENCE ids TO PUBLIC;
INSERT INTO secrets VALUES (1, 'alice', 'of alice'), (2, 'bob', 'of bob'), (3, 'writer', 'of writers'),
    (4, 'tuned', 'of tuned'), (5, '', 'of nobody');
"""

RESET: Final = """
DELETE FROM items; DELETE FROM sink;
INSERT INTO items SELECT n, CASE WHEN n < 6 THEN 'a' ELSE 'b' END, n FROM generate_series(1, 9) n;
SELECT setval('ids', 100, false);
"""

# A script without any of these words leaves the tables as they are.
_WRITES: Final = re.compile("insert|update|delete|merge|copy|nextval|setval|execute|do ", re.I)


class Stage:
    """Two databases of a cluster with the same tables; a context manager that drops them."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster: Final = cluster
        self._pristine = {DIRECT: False, OTHER: False}

    def __enter__(self) -> Self:
        primary = self.cluster.primary
        primary.psql(ROLES)
        for database in (DIRECT, OTHER):
            primary.psql(f"CREATE DATABASE {database}")
            primary.psql(f"ALTER DATABASE {database} SET app.tenant = 'of the database'")
            primary.psql(SCHEMA, database)
        self.cluster.wait_caught_up()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        primary = self.cluster.primary
        for database in (DIRECT, OTHER):
            primary.psql(f"DROP DATABASE {database} WITH (FORCE)")
        primary.psql("DROP ROLE diff_super, diff_reader, diff_writer, diff_app, diff_tuned")

    def check(
        self, script: Script, other: Address, before_step: Callable[[], None] = lambda: None
    ) -> None:
        """Raise `AssertionError`, with a text for people, if `other` answers as the primary does not."""
        found = self.difference(script, other, before_step)
        if found:
            raise AssertionError(found)

    def difference(
        self, script: Script, other: Address, before_step: Callable[[], None] = lambda: None
    ) -> str:
        """How `other` answers differently from the primary; empty if it does not."""
        return asyncio.run(self.compare(script, other, before_step))

    async def compare(
        self, script: Script, other: Address, before_step: Callable[[], None] = lambda: None
    ) -> str:
        """What `difference` does, in a loop that runs already."""
        await self._reset(DIRECT)
        direct = await play(self.cluster.primary, DIRECT, script)
        assert not any(HANGS in answer.frames for answer in direct.answers), repr(script)
        await self._reset(OTHER)
        through = await play(other, OTHER, script, before_step=before_step)
        if _writes(script):
            self._pristine = {DIRECT: False, OTHER: False}
        return difference(script, direct, through)

    async def _reset(self, database: str) -> None:
        if self._pristine[database]:
            return
        primary = self.cluster.primary
        answer = await wire.replies(primary, wire.query(RESET), database=database)
        assert not wire.errors(answer), answer
        if database == OTHER:
            await asyncio.to_thread(self.cluster.wait_caught_up)
        self._pristine[database] = True


def _writes(script: Script) -> bool:
    return any(
        isinstance(message, Query | Parse) and _WRITES.search(message.sql)
        for step in script.steps
        if isinstance(step, Say)
        for message in step.messages
    )


def difference(script: Script, one: Transcript, other: Transcript) -> str:
    """The steps whose answers differ, with both answers; empty if none does."""
    if one == other:
        return ""
    lines = []
    steps: list[object] = [*script.steps, "the end of client a", "the end of client b"]
    for at, step in enumerate(steps):
        told = [_lines(transcript, at) for transcript in (one, other)]
        if told[0] != told[1]:
            lines += [f"--- step {at + 1}: {step!r}"]
            lines += difflib.ndiff(told[0], told[1])
    if one.heard != other.heard:
        lines += ["--- notifications", f"- {one.heard}", f"+ {other.heard}"]
    return "\n".join(
        ["(-) direct, (+) through the proxy:", *lines, "", "The script was", repr(script)]
    )


def _lines(transcript: Transcript, at: int) -> list[str]:
    if at >= len(transcript.answers):
        return ["(not reached)"]
    answer = transcript.answers[at]
    return [*answer.frames, *(f"ParameterStatus {one}" for one in answer.parameters)]
