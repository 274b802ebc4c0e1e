Statements that each driver sends by its own means, one a line, and whose answers it prints.

Every section is played in a session of its own, once in each protocol the driver can be made to
use. Columns are text, so that no driver has to know a type. A driver that can have only one
statement in a message fails at those with several, here as there.

== settings
SELECT date '2024-02-01'::text, current_setting('DateStyle')
SET DateStyle = 'ISO, DMY'
SELECT '01/02/2024'::date::text, current_setting('DateStyle')
SET TimeZone = 'Asia/Tokyo'
SELECT timestamptz '2024-02-29 12:00+00'::text
SET TIME ZONE INTERVAL '-02:30' HOUR TO MINUTE
SELECT timestamptz '2024-02-29 12:00+00'::text
SELECT set_config('app.who', 'alice', false)
SELECT current_setting('app.who')
SELECT set_config('app.who', 'bob', true)
SELECT current_setting('app.who')
SET app.team TO 'it''s', 'red'
SELECT set_config('app.team', current_setting('app.team') || '!', false)
SHOW app.team
SET statement_timeout = '50s'
SHOW statement_timeout
SET SESSION work_mem = '5MB'
SHOW work_mem
SET IntervalStyle = 'iso_8601'
SELECT interval '1 day 2 hours'::text
SET bytea_output = 'escape'
SELECT '\xff41'::bytea::text
SET extra_float_digits = 0
SELECT (0.1::float8 + 0.2::float8)::text
SET application_name = 'sessions'
SHOW application_name
SET NAMES 'UTF8'
SHOW client_encoding
SET nonsense = 1
SET work_mem = 'nonsense'
SHOW nonsense.at_all
SHOW work_mem
SET work_mem TO DEFAULT
SHOW work_mem
RESET app.who
SELECT coalesce(current_setting('app.who', true), '')
SET app.who = 'multi'; SELECT current_setting('app.who')
SET app.who = 'undone'; SELECT 1 / 0
SELECT coalesce(current_setting('app.who', true), '')
RESET ALL
SELECT current_setting('DateStyle'), current_setting('TimeZone'), current_setting('IntervalStyle')
SELECT current_setting('statement_timeout'), coalesce(current_setting('app.team', true), '')
SHOW application_name

== local_settings
SET app.who = 'session'
BEGIN
SET LOCAL app.who = 'local'
SHOW app.who
SAVEPOINT a
SET LOCAL TimeZone = 'Asia/Tokyo'
SET app.team = 'blue'
SELECT current_setting('app.who'), current_setting('app.team'), current_setting('TimeZone')
ROLLBACK TO SAVEPOINT a
SELECT current_setting('app.who'), coalesce(current_setting('app.team', true), '')
SET app.kept = 'yes'
RELEASE SAVEPOINT a
COMMIT
SELECT current_setting('app.who'), coalesce(current_setting('app.team', true), ''), current_setting('app.kept')
BEGIN
SET app.who = 'undone'
SELECT 1 / 0
SHOW app.who
ROLLBACK
SHOW app.who
BEGIN
SELECT set_config('app.who', 'undone too', false)
ROLLBACK
SHOW app.who
BEGIN
SAVEPOINT a
SET app.who = 'in a'
SAVEPOINT b
SET app.who = 'in b'
SELECT nonsense
ROLLBACK TO b
SHOW app.who
RELEASE a
SHOW app.who
SET LOCAL app.who = 'for now'
COMMIT AND CHAIN
SHOW app.who
SET app.who = 'chained'
ROLLBACK AND CHAIN
SHOW app.who
COMMIT
SHOW app.who
SET LOCAL app.who = 'outside'
SHOW app.who
BEGIN ISOLATION LEVEL REPEATABLE READ
SHOW transaction_isolation
COMMIT
BEGIN
SET TRANSACTION ISOLATION LEVEL SERIALIZABLE, READ ONLY
SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')
INSERT INTO one.t VALUES (9, 'refused')
ROLLBACK
SHOW transaction_isolation
SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ
SHOW transaction_isolation
BEGIN
SHOW transaction_isolation
END
RESET default_transaction_isolation
SHOW transaction_isolation
SET default_transaction_read_only = on
INSERT INTO one.t VALUES (9, 'refused')
BEGIN READ WRITE
INSERT INTO one.t VALUES (9, 'rolled back')
ROLLBACK
SET default_transaction_read_only TO DEFAULT
INSERT INTO one.t VALUES (9, 'kept')
DELETE FROM one.t WHERE id = 9

== roles
SELECT current_user::text, session_user::text, current_setting('role')
SELECT note FROM one.notes ORDER BY note
SET ROLE drivers_guest
SELECT current_user::text, session_user::text, current_setting('role'), current_setting('is_superuser')
SELECT name FROM one.t ORDER BY id
SET app.who = 'alice'
SELECT note FROM one.notes ORDER BY note
SELECT set_config('app.who', 'bob', false)
SELECT note FROM one.notes ORDER BY note
BEGIN
SET LOCAL app.who = 'alice'
SELECT note FROM one.notes ORDER BY note
COMMIT
SELECT note FROM one.notes ORDER BY note
BEGIN
SET LOCAL ROLE NONE
SELECT count(*)::text FROM one.notes
ROLLBACK
SELECT count(*)::text FROM one.notes
BEGIN READ ONLY
SELECT note FROM one.notes ORDER BY note
COMMIT
RESET ROLE
SELECT count(*)::text FROM one.notes
SET SESSION AUTHORIZATION drivers_guest
SELECT current_user::text, session_user::text
SELECT note FROM one.notes ORDER BY note
SET SESSION AUTHORIZATION DEFAULT
SELECT current_user::text, session_user::text
SET ROLE nowhere
BEGIN
SET ROLE drivers_guest
ROLLBACK
SELECT current_user::text

== search_path
SELECT name FROM t ORDER BY id
SET search_path = one
SELECT name FROM t ORDER BY id
SET search_path = two, one
SELECT name FROM t ORDER BY id
SELECT note FROM notes WHERE owner = 'bob'
PREPARE pick AS SELECT name FROM t ORDER BY id
EXECUTE pick
SET search_path TO one
EXECUTE pick
SELECT name FROM t ORDER BY id
BEGIN
SET LOCAL search_path = two
EXECUTE pick
SELECT name FROM t ORDER BY id
SELECT note FROM notes
ROLLBACK
EXECUTE pick
SHOW search_path
SELECT set_config('search_path', 'two', false)
EXECUTE pick
SELECT current_schemas(false)::text, to_regclass('t')::text, to_regclass('one.t')::text
RESET search_path
EXECUTE pick
DEALLOCATE pick

== sql_prepared
PREPARE pick (int) AS SELECT name FROM one.t WHERE id = $1
EXECUTE pick (1)
EXECUTE pick (2)
PREPARE pick AS SELECT 'twice'
EXECUTE pick
EXECUTE pick (1, 2)
EXECUTE pick ('x')
DEALLOCATE pick
EXECUTE pick (1)
PREPARE pick (int, text) AS SELECT $2 || $1
EXECUTE pick (1, 'again ')
DEALLOCATE PREPARE pick
DEALLOCATE nothing
PREPARE "Quoted ""Name""" AS VALUES ('quoted')
EXECUTE "Quoted ""Name"""
PREPARE a AS INSERT INTO one.t VALUES ($1, $2) RETURNING id::text
EXECUTE a (20, 'twenty')
EXECUTE a (20, 'twice')
PREPARE b AS DELETE FROM one.t WHERE id = $1 RETURNING name
EXECUTE b (20)
BEGIN
PREPARE c AS SELECT 'survives'
ROLLBACK
EXECUTE c
EXPLAIN (COSTS OFF) EXECUTE c
BEGIN
EXECUTE c
SELECT 1 / 0
EXECUTE c
ROLLBACK
CREATE TABLE two.made AS EXECUTE c
SELECT * FROM two.made
DROP TABLE two.made
BEGIN READ ONLY
EXECUTE c
EXECUTE a (21, 'refused')
COMMIT
PREPARE d AS SELECT 1; EXECUTE d; DEALLOCATE d
EXECUTE d
DEALLOCATE ALL
EXECUTE a (22, 'gone')
EXECUTE c
PREPARE a AS SELECT 'a again'
EXECUTE a
DISCARD PLANS
EXECUTE a
DISCARD ALL
EXECUTE a
PREPARE bad AS SELECT nonsense
EXECUTE bad

== transactions
BEGIN
INSERT INTO two.t VALUES (30, 'one')
SAVEPOINT s
INSERT INTO two.t VALUES (30, 'twice')
SELECT 'refused'
ROLLBACK TO SAVEPOINT s
SELECT name FROM two.t WHERE id = 30
SAVEPOINT s
INSERT INTO two.t VALUES (31, 'two')
RELEASE SAVEPOINT s
ROLLBACK TO SAVEPOINT s
SELECT count(*)::text FROM two.t WHERE id >= 30
COMMIT
SELECT count(*)::text FROM two.t WHERE id >= 30
BEGIN
DELETE FROM two.t WHERE id >= 30
SELECT 1 / 0
COMMIT
SELECT count(*)::text FROM two.t WHERE id >= 30
COMMIT
ROLLBACK
BEGIN
BEGIN
SAVEPOINT "Odd ""Name"""
ROLLBACK TO "Odd ""Name"""
RELEASE nowhere
ROLLBACK
SAVEPOINT outside
START TRANSACTION READ ONLY
SELECT count(*)::text FROM two.t WHERE id >= 30
DELETE FROM two.t
ABORT
BEGIN
INSERT INTO two.later VALUES (30, 1000)
SELECT 'not checked yet'
COMMIT
BEGIN
INSERT INTO two.later VALUES (30, 1000)
SET CONSTRAINTS ALL IMMEDIATE
ROLLBACK
BEGIN; DELETE FROM two.t WHERE id >= 30; SELECT count(*)::text FROM two.t WHERE id >= 30; ROLLBACK
DELETE FROM two.t WHERE id >= 30; SELECT 1 / 0
SELECT count(*)::text FROM two.t WHERE id >= 30
DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'XY123', DETAIL = 'd', HINT = 'h'; END $$
SELECT lower(name) FROM two.t WHERE nam = 1
DELETE FROM two.t WHERE id >= 30
SELECT count(*)::text FROM two.t WHERE id >= 30

== timeouts
SET statement_timeout = 400
SELECT pg_sleep(600)::text
SHOW statement_timeout
BEGIN
SELECT pg_sleep(600)::text
ROLLBACK
RESET statement_timeout
BEGIN
SET LOCAL statement_timeout = '0.4s'
SELECT pg_sleep(600)::text
ROLLBACK
SHOW statement_timeout
BEGIN READ ONLY
SET LOCAL statement_timeout = '0.4s'
SELECT pg_sleep(600)::text
COMMIT
SELECT 'after'
SET statement_timeout = 400; SELECT pg_sleep(600)
SHOW statement_timeout
SELECT set_config('statement_timeout', '400', false)
DO $$ BEGIN PERFORM pg_sleep(600); END $$
RESET ALL
SHOW statement_timeout

== temporary
CREATE TEMP TABLE mine AS SELECT n::text FROM generate_series(1, 3) n
SELECT count(*)::text FROM mine
BEGIN
DROP TABLE mine
ROLLBACK
SELECT count(*)::text FROM mine
BEGIN
CREATE TEMP TABLE passing (n int) ON COMMIT DROP
INSERT INTO passing VALUES (1)
SELECT count(*)::text FROM passing
COMMIT
SELECT count(*)::text FROM passing
DROP TABLE mine
SELECT count(*)::text FROM mine
BEGIN
DECLARE held CURSOR WITH HOLD FOR SELECT n::text FROM generate_series(1, 5) n
FETCH 2 FROM held
COMMIT
FETCH 2 FROM held
CLOSE held
FETCH 2 FROM held
SELECT pg_advisory_lock(7)::text
SELECT pg_try_advisory_lock(7)::text
SELECT pg_advisory_unlock(7)::text, pg_advisory_unlock(7)::text
SELECT pg_advisory_unlock_all()::text
BEGIN
SELECT nextval('two.tickets')::text
SELECT currval('two.tickets')::text, lastval()::text
COMMIT
CREATE TEMP TABLE mine (n int)
DISCARD TEMP
SELECT count(*)::text FROM mine
SET app.who = 'discarded'
DISCARD ALL
SELECT coalesce(current_setting('app.who', true), '')

== unknown_settings
SELECT current_setting('app.tenant', true) IS NULL AS unknown
SHOW app.tenant
SELECT current_setting('app.tenant')
RESET app.tenant
BEGIN
SET LOCAL app.known = 'here'
ROLLBACK
SELECT coalesce(current_setting('app.known', true), 'unknown')
