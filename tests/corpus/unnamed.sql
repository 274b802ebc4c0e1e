-- Traps of a database in which an operator of a common name, or an implicit cast, writes.

--! primary db=unnamed
SELECT p = p FROM pairs
SELECT a.id FROM pairs a JOIN pairs b USING (p)
SELECT a.id FROM pairs a NATURAL JOIN pairs b
SELECT a.id FROM pairs a JOIN pairs b ON a.p = b.p
SELECT id FROM pairs WHERE p IN (ROW(1, 2)::pair)
SELECT id FROM pairs WHERE p = ANY (ARRAY[ROW(1, 2)::pair])
SELECT id FROM pairs WHERE p = ANY (SELECT p FROM pairs)
SELECT id FROM pairs WHERE p IN (SELECT p FROM pairs)
SELECT id FROM pairs WHERE p IS NOT DISTINCT FROM p
SELECT nullif(p, p) FROM pairs
SELECT CASE p WHEN p THEN 1 END FROM pairs
SELECT id FROM pairs WHERE p < ROW(9, 9)::pair
SELECT id FROM pairs WHERE p NOT IN (SELECT p FROM pairs WHERE id = 1)
SELECT upper(ROW(1)::ticket)
SELECT upper(t) FROM tickets
SELECT length(t) FROM tickets WHERE id = 1
SELECT id FROM tickets WHERE t LIKE '1%'
SELECT id FROM tickets WHERE t = 'x'::text
SELECT string_agg(t, ',') FROM tickets
SELECT * FROM implicit_view
SELECT trim(t) FROM tickets
SELECT length(t), id FROM tickets ORDER BY id
SELECT t.id FROM tickets t JOIN customers c ON c.name = t.t
SELECT md5(t) FROM tickets WHERE id = 1
SELECT substring(t FROM 1 FOR 1) FROM tickets
SELECT regexp_replace(t, 'a', 'b') FROM tickets
SELECT id FROM tickets GROUP BY id, upper(t)
SELECT id FROM tickets ORDER BY lower(t)
SELECT upper((SELECT t FROM tickets WHERE id = 1))
WITH a AS (SELECT t FROM tickets) SELECT upper(t) FROM a
EXPLAIN ANALYZE SELECT upper(t) FROM tickets
COPY (SELECT upper(t) FROM tickets) TO STDOUT
SELECT count(*) FROM pairs a, pairs b WHERE a.p = b.p
SELECT id FROM pairs WHERE p BETWEEN p AND p
SELECT a.id FROM pairs a LEFT JOIN pairs b USING (id, p)
SELECT id FROM pairs WHERE EXISTS (SELECT 1 FROM pairs q WHERE q.p = pairs.p)
SELECT CASE WHEN p IN (p) THEN 1 END FROM pairs

--! replica db=unnamed
SELECT 1
SELECT count(*) FROM pg_catalog.pg_class
SELECT lower('A'), now() IS NOT NULL

--! auto db=unnamed
SELECT relname FROM pg_class WHERE relname = 'pg_class'
SELECT name FROM pg_settings WHERE name = 'work_mem'
SELECT table_name FROM information_schema.tables WHERE table_schema = 'app' ORDER BY 1
