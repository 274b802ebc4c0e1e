"""DDL: what it is called, and what of it leaves something temporary behind."""

import pytest

from pgproxy.routing.classify import classify
from pgproxy.routing.ddl import is_ddl
from pgproxy.routing.pins import Pin


def test_statements_that_only_look_like_ddl_are_none() -> None:
    assert is_ddl("CreateStmt")
    assert is_ddl("AlterSystemStmt")
    assert is_ddl("IndexStmt")
    assert not is_ddl("SelectStmt")
    assert not is_ddl("TruncateStmt")


@pytest.mark.parametrize(
    ("sql", "name"),
    [
        ("CREATE TABLE a ()", "CREATE TABLE"),
        ("CREATE TABLE a AS SELECT 1", "CREATE TABLE AS"),
        ("CREATE UNIQUE INDEX ON t (a)", "CREATE INDEX"),
        ("CREATE TRIGGER a BEFORE INSERT ON t EXECUTE FUNCTION f()", "CREATE TRIGGER"),
        ("CREATE AGGREGATE a (int) (sfunc = f, stype = int)", "CREATE AGGREGATE"),
        ("CREATE ACCESS METHOD a TYPE INDEX HANDLER h", "CREATE ACCESS METHOD"),
        ("CREATE OPERATOR FAMILY a USING btree", "CREATE OPERATOR FAMILY"),
        ("CREATE LANGUAGE a HANDLER h", "CREATE LANGUAGE"),
        ("CREATE STATISTICS a ON b, c FROM t", "CREATE STATISTICS"),
        ("CREATE FOREIGN DATA WRAPPER a", "CREATE FOREIGN DATA WRAPPER"),
        ("CREATE USER MAPPING FOR a SERVER b", "CREATE USER MAPPING"),
        ("CREATE TYPE a AS ENUM ()", "CREATE TYPE"),
        ("ALTER TYPE a ADD VALUE 'b'", "ALTER TYPE"),
        ("ALTER TABLE a ADD b int", "ALTER TABLE"),
        ("ALTER TABLE a RENAME TO b", "ALTER TABLE"),
        ("ALTER VIEW a OWNER TO b", "ALTER TABLE"),
        ("ALTER FUNCTION a() OWNER TO b", "ALTER FUNCTION"),
        ("ALTER FUNCTION a() SET SCHEMA b", "ALTER FUNCTION"),
        ("ALTER SYSTEM SET a = 1", "ALTER SYSTEM"),
        ("ALTER ROLE a SET b = 1", "ALTER ROLE"),
        ("ALTER SEQUENCE a RESTART", "ALTER SEQUENCE"),
        ("ALTER TEXT SEARCH CONFIGURATION a DROP MAPPING FOR b", "ALTER TEXT SEARCH CONFIGURATION"),
        ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO a", "ALTER DEFAULT PRIVILEGES"),
        ("DROP TABLE a", "DROP TABLE"),
        ("DROP MATERIALIZED VIEW a", "DROP MATVIEW"),
        ("DROP ROLE a", "DROP ROLE"),
        ("DROP TABLESPACE a", "DROP TABLESPACE"),
    ],
)
def test_ddl_is_called_as_the_client_calls_it(sql: str, name: str) -> None:
    assert classify(sql.encode()).detail == name


@pytest.mark.parametrize(
    ("sql", "pin"),
    [
        ("CREATE TEMP TABLE a ()", Pin.TEMP_TABLE),
        ("CREATE TEMP TABLE a () ON COMMIT DROP", None),
        ("CREATE TEMP TABLE a () ON COMMIT DELETE ROWS", Pin.TEMP_TABLE),
        ("CREATE TEMP TABLE a ON COMMIT DROP AS SELECT 1", None),
        ("CREATE TABLE pg_temp.a ON COMMIT DROP AS SELECT 1", None),
        ("CREATE TABLE a AS SELECT set_config(a, 'c', false) FROM t", Pin.SET_CONFIG),
        ("CREATE TEMP TABLE a ON COMMIT DROP AS SELECT setseed(1)", Pin.SETSEED),
        ("CREATE TABLE a AS SELECT * FROM t", None),
        ("CREATE MATERIALIZED VIEW a AS SELECT 1", None),
        ("DROP TABLE pg_temp.a", None),
        ("CREATE TYPE pg_temp.a AS (b int)", Pin.TEMP_TABLE),
        ("COMMENT ON TABLE temp IS 'pg_catalog'", None),
    ],
)
def test_what_is_temporary_pins_if_it_outlives_the_transaction(sql: str, pin: Pin | None) -> None:
    assert classify(sql.encode()).pin is pin


@pytest.mark.parametrize(
    ("sql", "changes"),
    [
        ("ALTER ROLE a SUPERUSER", True),
        ("ALTER USER a WITH LOGIN NOSUPERUSER", True),
        ("ALTER ROLE a SET work_mem = '5MB'", True),
        ("ALTER DATABASE a RESET ALL", True),
        ("ALTER ROLE a PASSWORD 'b'", False),
        ("CREATE ROLE a SUPERUSER", False),
    ],
)
def test_after_which_statements_sessions_begin_otherwise(sql: str, changes: bool) -> None:
    assert classify(sql.encode()).changes_defaults == changes
