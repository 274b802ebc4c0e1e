"""psql, pg_dump and pg_restore do through the proxy what they do with PostgreSQL itself.

With the system's programs and servers, and with the wheel's newest, whose psql can do more.
"""

import contextlib
import os
import re
import secrets
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from pgproxy.embedded import Cluster, Server, find_installation
from pgproxy.embedded.server import wait_until
from tests.extra.system import system_installation
from tests.support.comparison import ROLE
from tests.support.comparison import SCHEMA as DRIVERS_SCHEMA
from tests.support.comparison import SESSIONS as SESSIONS_FILE
from tests.support.neighbours import Neighbours
from tests.support.proxy import ProxyProcess
from tests.support.serving import served, without_libpq_settings

SCHEMA: Final = """
CREATE TABLE items (id int PRIMARY KEY, name text NOT NULL, price numeric CHECK (price > 0));
INSERT INTO items SELECT n, 'item ' || n, n * 1.5 FROM generate_series(1, 20) n;
COMMENT ON TABLE items IS 'what there is';
CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    item int REFERENCES items ON DELETE CASCADE,
    at timestamptz DEFAULT '2024-02-29 12:00+00',
    note text
);
CREATE INDEX orders_item ON orders (item) WHERE note IS NULL;
INSERT INTO orders (item, note) SELECT 1 + n % 20, repeat('ä\\\t', n % 50) FROM generate_series(1, 500) n;
CREATE VIEW cheap AS SELECT * FROM items WHERE price < 10;
CREATE MATERIALIZED VIEW totals AS SELECT item, count(*) FROM orders GROUP BY item;
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE SEQUENCE tickets START 100;
SELECT nextval('tickets');
CREATE FUNCTION shout(what text) RETURNS text LANGUAGE plpgsql STABLE AS $$
    BEGIN RAISE NOTICE 'shouting %', what; RETURN upper(what); END $$;
CREATE PROCEDURE restock() LANGUAGE sql AS 'UPDATE items SET price = price + 1';
CREATE TABLE blobs (id int, data bytea);
INSERT INTO blobs SELECT n, decode(repeat(md5(n::text), 1000), 'hex') FROM generate_series(1, 20) n;
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER audit BEFORE UPDATE ON items FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TABLE parted (n int) PARTITION BY RANGE (n);
CREATE TABLE parted_low PARTITION OF parted FOR VALUES FROM (0) TO (100);
INSERT INTO parted SELECT generate_series(0, 99);
"""

SCRIPTS: Final = {
    "queries": r"""
        SELECT 1 AS one, NULL AS nothing, 'süß €' AS text;
        SELECT * FROM items ORDER BY id LIMIT 3 \gx
        SELECT 'first' \; SELECT 'second' AS s ;
        SELECT id, name FROM items ORDER BY id LIMIT 1 \gset
        \echo :id :name
        SELECT format('SELECT %s AS generated', n) FROM generate_series(1, 3) n \gexec
        SELECT id % 2 AS odd, id, price FROM items WHERE id < 5 ORDER BY 2 \crosstabview
        SELECT shout('notice');
        ;
        TABLE cheap ORDER BY id;
        VALUES (1, 'a'), (2, 'b');
        EXPLAIN (COSTS OFF) SELECT * FROM items WHERE id = 1;
        SHOW DateStyle;
        INSERT INTO items VALUES (21, 'new', 1) RETURNING *;
        UPDATE items SET price = price * 2 WHERE id = 21;
        SELECT price FROM items WHERE id = 21;
        CALL restock();
        DELETE FROM items WHERE id = 21;
        SELECT sum(price) FROM items;
    """,
    "gdesc": r"""
        SELECT 1::int8 AS big, now() AS moment, 'x'::mood FROM items \gdesc
        INSERT INTO items VALUES (22, 'described only', 1) RETURNING id, name \gdesc
        CREATE TABLE never () \gdesc
        SELECT nonsense \gdesc
        SELECT count(*) FROM items;
    """,
    "settings": r"""
        SET work_mem = '5MB';
        SHOW work_mem;
        SET DateStyle = 'German, DMY';
        SELECT date '2024-02-29';
        SET client_encoding = 'LATIN1';
        SELECT length('x') AS still_works;
        \encoding
        RESET ALL;
        SHOW work_mem;
        CREATE TEMP TABLE mine AS SELECT * FROM items WHERE id < 3;
        SELECT * FROM mine ORDER BY id;
        PREPARE pick (int) AS SELECT name FROM items WHERE id = $1;
        EXECUTE pick (3);
        DEALLOCATE pick;
        EXECUTE pick (3);
        SELECT currval('tickets');
        SELECT nextval('tickets');
        SELECT currval('tickets');
    """,
    "transactions": r"""
        BEGIN;
        INSERT INTO items VALUES (23, 'rolled back', 1);
        SELECT count(*) FROM items;
        ROLLBACK;
        SELECT count(*) FROM items;
        BEGIN;
        SAVEPOINT here;
        INSERT INTO items VALUES (1, 'twice', 1);
        SELECT 'refused';
        ROLLBACK TO here;
        INSERT INTO items VALUES (24, 'kept', 1);
        COMMIT AND CHAIN;
        SELECT name FROM items WHERE id = 24;
        COMMIT;
        COMMIT;
        BEGIN READ ONLY;
        SELECT count(*) FROM items;
        DELETE FROM items;
        ROLLBACK;
        BEGIN;
        SELECT 1 / 0;
        COMMIT;
        \set AUTOCOMMIT off
        INSERT INTO items VALUES (25, 'not committed', 1);
        \echo :ROW_COUNT
        ROLLBACK;
        SELECT count(*) FROM items WHERE id = 25;
        ROLLBACK;
        \set AUTOCOMMIT on
        \set ON_ERROR_ROLLBACK on
        BEGIN;
        INSERT INTO items VALUES (26, 'kept too', 1);
        INSERT INTO items VALUES (26, 'twice', 1);
        COMMIT;
        SELECT name FROM items WHERE id = 26;
        BEGIN;
        DECLARE c CURSOR FOR SELECT id FROM items ORDER BY id;
        FETCH 2 FROM c;
        MOVE 3 IN c;
        FETCH BACKWARD 1 FROM c;
        CLOSE c;
        END;
        BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE;
        SHOW transaction_isolation;
        END;
    """,
    "errors": r"""
        \set VERBOSITY verbose
        SELECT 1 / 0;
        \errverbose
        \echo :LAST_ERROR_SQLSTATE :LAST_ERROR_MESSAGE :ERROR
        SELEC nothing;
        SELECT * FROM nowhere;
        INSERT INTO items VALUES (30, 'free', 0);
        INSERT INTO items VALUES (31, NULL, 1);
        SELECT 'many' \; SELECT 1 / 0 \; SELECT 'not reached' ;
        DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'XY123', DETAIL = 'd', HINT = 'h'; END $$;
        DO $$ BEGIN RAISE WARNING 'warned'; RAISE INFO 'informed'; END $$;
        \set ON_ERROR_STOP 1
        SELECT 'before';
        SELECT * FROM nowhere;
        SELECT 'not reached';
    """,
    "copy": r"""
        CREATE TABLE copied (n int, s text);
        \copy copied FROM stdin
1	one
2	back\\slash
3	\N
\.
        \copy copied TO stdout
        \copy (SELECT * FROM items ORDER BY id LIMIT 3) TO stdout WITH (FORMAT csv, HEADER)
        \copy items TO 'items.csv' CSV
        CREATE TABLE again (LIKE items);
        \copy again FROM 'items.csv' CSV
        SELECT count(*), sum(price) FROM again;
        \copy orders TO 'orders.bin' BINARY
        CREATE TABLE orders_again (LIKE orders);
        \copy orders_again FROM 'orders.bin' BINARY
        SELECT count(*) AS differing FROM (TABLE orders EXCEPT TABLE orders_again) d;
        COPY copied FROM stdin;
4	four
not a number	five
\.
        SELECT count(*) FROM copied;
        \copy nowhere FROM 'items.csv' CSV
        \copy copied FROM 'absent.csv'
        BEGIN;
        \copy copied FROM stdin CSV
5,five
\.
        ROLLBACK;
        COPY (SELECT n FROM generate_series(1, 5) n) TO stdout;
        SELECT count(*) FROM copied;
    """,
    "describing": r"""
        \d
        \d items
        \d+ orders
        \d+ cheap
        \d parted
        \dt+ pg_catalog.pg_cl*
        \di
        \ds
        \dv
        \dm
        \df
        \sf shout
        \sv cheap
        \dT+ mood
        \dn+
        \du
        \db
        \dx
        \dp items
        \dd
        \dFd
        \dAc btree int4
        \dconfig work_mem
        \z
    """,
    "large": r"""
        SELECT n, repeat(chr(65 + n % 26), n % 100) FROM generate_series(1, 50000) n;
        \set FETCH_COUNT 1000
        SELECT n, md5(n::text) FROM generate_series(1, 20000) n;
        \unset FETCH_COUNT
        SELECT repeat('x', 5000000) AS wide;
        \copy (SELECT n, md5(n::text) FROM generate_series(1, 50000) n) TO 'many.txt'
        CREATE TABLE many (n int, s text);
        \copy many FROM 'many.txt'
        SELECT count(*), sum(n), md5(string_agg(s, '' ORDER BY n)) FROM many;
        \lo_import many.txt
        SELECT count(*) FROM pg_largeobject_metadata;
        SELECT length(lo_get(:LASTOID)) AS length;
        \lo_unlink :LASTOID
    """,
}

# What later versions of psql can do.
NEWER: Final = {
    "bind": (
        16,
        r"""
        SELECT $1::int + $2::int AS sum \bind 3 4 \g
        SELECT name FROM items WHERE id = $1 \bind 5 \g
        INSERT INTO items VALUES ($1, $2, $3) RETURNING * \bind 40 'bound' 2 \gx
        SELECT $1 \bind \g
        SELECT 1 / $1::int \bind 0 \g
        SELECT 1 \bind \gdesc
        SELECT 'after';
    """,
    ),
    "watch": (16, r"SELECT count(*) FROM items \watch i=0.2 c=2"),
    "prepared": (
        18,
        r"""
        SELECT name FROM items WHERE id = $1 \parse pick
        \bind_named pick 3 \g
        \bind_named pick 4 \g
        BEGIN;
        \bind_named pick 5 \g
        INSERT INTO items VALUES ($1, 'named', 1) \parse add
        \bind_named add 41 \g
        \bind_named add 41 \g
        ROLLBACK;
        \close_prepared pick
        \bind_named pick 3 \g
        \bind_named nothing \g
        SELECT 'after';
    """,
    ),
    "pipeline": (
        18,
        r"""
        \startpipeline
        SELECT $1 AS first \bind 1 \sendpipeline
        INSERT INTO items VALUES ($1, 'piped', 1) \bind 42 \sendpipeline
        \syncpipeline
        SELECT name FROM items WHERE id = $1 \bind 42 \sendpipeline
        SELECT 1 / $1::int \bind 0 \sendpipeline
        SELECT 'skipped' \bind \sendpipeline
        \syncpipeline
        \flushrequest
        SELECT 'flushed' \bind \sendpipeline
        \flushrequest
        \getresults
        \endpipeline
        SELECT 'after';
    """,
    ),
}


class Setting(NamedTuple):
    """One PostgreSQL's servers and programs, a proxy in front, and a directory to work in."""

    cluster: Cluster
    proxy: ProxyProcess
    directory: Path

    @property
    def version(self) -> int:
        return self.cluster.installation.version

    def command(self, tool: str, to: Server | ProxyProcess, database: str, *more: str) -> list[str]:
        program = str(self.cluster.installation.tool(tool))
        return [program, "--no-password", "-d", to.dsn(db=database), *more]

    def run(
        self, tool: str, to: Server | ProxyProcess, database: str, *arguments: str, script: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """A program to its end."""
        return subprocess.run(
            self.command(tool, to, database, *arguments),
            check=False,
            input=script,
            capture_output=True,
            text=True,
            encoding="utf-8",
            cwd=self.directory,
            timeout=50,
            env=without_libpq_settings() | {"LC_ALL": "C.UTF-8", "TZ": "UTC"},
        )

    def create_database(self, script: str = "") -> str:
        """A new database with what `script` puts there, on the replica too."""
        name = f"psql_{secrets.token_hex(4)}"
        self.cluster.primary.psql(f"CREATE DATABASE {name}")
        self.cluster.primary.psql(script, name)
        self.cluster.wait_caught_up()
        return name

    def play(
        self,
        to: Server | ProxyProcess,
        script: str,
        schema: str = SCHEMA,
        *,
        noisy: bool = False,
    ) -> tuple[int, str, str]:
        """What psql returns and prints for `script` in a new database."""
        database = self.create_database(schema)
        neighbours = Neighbours(to, database, role=ROLE, keep=KEPT != "modest")
        with neighbours if noisy else contextlib.nullcontext():
            done = self.run("psql", to, database, "-X", script=script)
        self.cluster.primary.psql(f"DROP DATABASE {database} WITH (FORCE)")
        # A moment, and the number of a large object.
        shown = re.sub(r"(?m)^.*\(every 0\.2s\)$", "(every 0.2s)", done.stdout)
        shown = re.sub(r"(?m)^(lo_\w+) \d+$", r"\1 OID", shown)
        return done.returncode, shown, done.stderr.replace(database, "database")


@pytest.fixture(scope="module", params=["system", "wheel"])
def setting(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Setting]:
    installation = system_installation() if request.param == "system" else find_installation(18)
    with served(installation) as (cluster, proxy):
        yield Setting(cluster, proxy, tmp_path_factory.mktemp("psql"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_prints_what_it_prints_with_postgresql_itself(setting: Setting, name: str) -> None:
    direct = setting.play(setting.cluster.primary, SCRIPTS[name])
    assert direct[0] == (3 if name == "errors" else 0)
    assert setting.play(setting.proxy, SCRIPTS[name]) == direct


# What psql makes of the sessions that drivers play too.
SESSIONS: Final = {
    name: re.sub(r"(?m)(?<=\S)$", ";", script)
    for name, script in re.findall(
        r"(?ms)^== (\w+)\n(.*?)(?=^== |\Z)", SESSIONS_FILE.read_text(encoding="utf-8")
    )
    if name not in ("timeouts", "unknown_settings")
}
KEPT: Final = os.environ.get("PGPROXY_NEIGHBOURS", "all")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", [*SCRIPTS, *NEWER, *SESSIONS])
def test_noisy_neighbours_change_nothing(
    setting: Setting, guest: None, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    since, script = NEWER.get(name) or (0, SCRIPTS.get(name) or SESSIONS[name])
    if setting.version < since:
        pytest.skip(f"needs psql {since}, this is {setting.version}")
    schema = SCHEMA + (DRIVERS_SCHEMA if name in SESSIONS else "")
    direct = setting.play(setting.cluster.primary, script, schema)
    assert setting.play(setting.proxy, script, schema, noisy=KEPT != "none") == direct


@pytest.fixture(scope="module")
def guest(setting: Setting) -> None:
    setting.cluster.primary.psql(f"CREATE ROLE {ROLE}")


@pytest.mark.parametrize("name", NEWER)
def test_what_newer_versions_of_psql_can_do(setting: Setting, name: str) -> None:
    since, script = NEWER[name]
    if setting.version < since:
        pytest.skip(f"needs psql {since}, this is {setting.version}")
    direct = setting.play(setting.cluster.primary, script)
    assert "invalid command" not in direct[2]
    assert setting.play(setting.proxy, script) == direct


SLEEP: Final = "DO $$ BEGIN PERFORM pg_sleep(600); END $$"
COUNT: Final = "SELECT count(*) FROM generate_series(1, 1000000000000)"


@pytest.mark.parametrize(("server", "sql"), [("primary", SLEEP), ("replica-1", COUNT)])
@pytest.mark.parametrize("protocol", ["3.0", "3.2"])
def test_ctrl_c_ends_the_statement(setting: Setting, server: str, sql: str, protocol: str) -> None:
    command = setting.command("psql", setting.proxy, "postgres", "-X")
    if protocol == "3.2":
        if setting.version < 18:
            pytest.skip("its libpq does not know protocol 3.2")
        command[command.index("-d") + 1] += "?max_protocol_version=3.2"
    running = setting.cluster.server(server)
    mark = secrets.token_hex(4)
    active = (
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'"
        f" AND query LIKE '%{mark}%' AND pid <> pg_backend_pid()"
    )
    with subprocess.Popen(
        [*command, "-c", f"{sql} /* {mark} */"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=without_libpq_settings() | {"LC_ALL": "C.UTF-8"},
    ) as psql:
        try:
            wait_until(lambda: running.psql(active) == "1", "the statement to run", 20)
            psql.send_signal(signal.SIGINT)
            printed, errors = psql.communicate(timeout=20)
        finally:
            psql.kill()
    assert (psql.returncode, printed) == (1, "")
    assert "ERROR:  canceling statement due to user request" in errors
    assert running.psql(active) == "0"


TABLES: Final = ("items", "orders", "totals", "blobs", "parted")


def checksums(server: Server, database: str) -> list[str]:
    """Of the rows of each table, and the definitions of what is not a table."""
    rows = [
        f"SELECT md5(string_agg(t::text, ',' ORDER BY t::text)) FROM {table} t" for table in TABLES
    ]
    others = "SELECT last_value FROM tickets; SELECT shout('x'); SELECT * FROM cheap ORDER BY id;"
    return [server.psql(sql, database) for sql in (*rows, others)]


@pytest.mark.parametrize("options", [["-Fp"], ["-Fp", "--inserts"], ["-Fc"], ["-Fd", "-j2"]])
def test_a_dump_restored_is_the_same_database(
    setting: Setting, options: list[str], tmp_path: Path
) -> None:
    primary = setting.cluster.primary
    source, target = setting.create_database(SCHEMA), setting.create_database()
    dump = str(tmp_path / "dump")
    done = setting.run("pg_dump", setting.proxy, source, *options, "-f", dump)
    assert (done.returncode, done.stderr) == (0, "")
    if "-Fp" in options:
        more = ["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", dump]
        done = setting.run("psql", setting.proxy, target, *more)
    else:
        jobs = ["-j2"] if "-j2" in options else []
        done = setting.run("pg_restore", setting.proxy, target, *jobs, dump)
    assert (done.returncode, done.stderr) == (0, "")
    assert checksums(primary, target) == checksums(primary, source)
    # And through the proxy it is the dump that PostgreSQL itself gives.
    if "-Fp" in options:
        directly = setting.run("pg_dump", primary, source, *options).stdout
        assert without_key(Path(dump).read_text(encoding="utf-8")) == without_key(directly)
    for name in (source, target):
        primary.psql(f"DROP DATABASE {name} WITH (FORCE)")


def without_key(dump: str) -> str:
    """Without the random key that newer versions write."""
    return re.sub(r"(?m)^\\(un)?restrict .*$", "", dump)
