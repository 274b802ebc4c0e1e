-- The database that the statements of corpus.txt are about.
CREATE TABLE t (id int PRIMARY KEY, name text, n numeric, created timestamptz DEFAULT now(),
                tags text[], doc jsonb, parent int);
INSERT INTO t SELECT i, 'name ' || i, i / 3.0, now(), ARRAY['a', 'b'], '{"a": {"b": 1}}', i / 2
  FROM generate_series(1, 20) AS i;
CREATE TABLE t_2024_01 (id int, total numeric);
CREATE TABLE "Order" ("Id" int, "select" text, "a""b" int);
CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));
CREATE SCHEMA app;
CREATE TABLE app.users (id int PRIMARY KEY, email text, is_active boolean, born date, ip inet,
                        at point, span int4range, bits bit(8), code uuid, data bytea);
CREATE VIEW v AS SELECT id, name FROM t;
CREATE MATERIALIZED VIEW mv AS SELECT count(*) FROM t;
CREATE SEQUENCE s;
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE FUNCTION f(int) RETURNS int LANGUAGE plpgsql AS 'begin return $1; end';
CREATE FUNCTION app.lower(text) RETURNS text LANGUAGE plpgsql AS 'begin return $1; end';
