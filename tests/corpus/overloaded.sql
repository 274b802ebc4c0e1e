-- Traps of a database in which names of PostgreSQL's own stand for what writes, too.

--! primary db=overloaded
SELECT lower(5)
SELECT lower(id) FROM customers WHERE id = 1
SELECT LOWER(o.id::int) FROM orders o WHERE o.id = 1
SELECT length('ok'::mood)
SELECT length(feeling) FROM customers WHERE id = 1
SELECT abs('x'::text)
SELECT abs(name) FROM customers WHERE id = 1
SELECT now(1)
SELECT to_char(feeling, 'x') FROM customers WHERE id = 1
SELECT format(feeling) FROM customers WHERE id = 1
SELECT * FROM generate_series('a'::text, 'b')
SELECT g FROM customers c, generate_series(c.name, c.name) AS g WHERE c.id = 1
SELECT sum(feeling) FROM customers WHERE id < 3
SELECT sum(feeling) OVER (ORDER BY id) FROM customers WHERE id < 3
SELECT id, sum(DISTINCT feeling) FILTER (WHERE active) FROM customers GROUP BY id HAVING id < 4
SELECT 'a'::text + 1
SELECT name + id FROM customers WHERE id = 1
SELECT name OPERATOR(public.+) id FROM customers WHERE id = 1
SELECT 'ok'::mood @> 'sad'::mood
SELECT feeling @> feeling FROM customers WHERE id = 1
SELECT id FROM customers WHERE feeling @> 'ok' AND id < 3
SELECT t::text FROM tickets
SELECT t::int FROM tickets
SELECT coalesce(t::text, 'x') FROM tickets
SELECT concat_ws('-', t::text) FROM tickets
SELECT lower(n) FROM (VALUES (1)) AS v (n)
SELECT id FROM customers WHERE lower(id) = 1
SELECT max(length(feeling)) FROM customers
SELECT json_agg(abs(name)) FROM customers WHERE id = 1
SELECT active, sum(feeling) FROM customers GROUP BY active
SELECT (ROW(1)::ticket)::int
SELECT ARRAY[ROW(1)::ticket]::int[]
SELECT ARRAY(SELECT t FROM tickets)::text[]
SELECT CAST(t AS text) FROM tickets
SELECT CAST(t AS pg_catalog.int4) FROM tickets
SELECT t::varchar FROM tickets --! auto db=overloaded
INSERT INTO pairs (id) SELECT t FROM tickets
WITH a AS (SELECT t FROM tickets) SELECT t::text FROM a
COPY (SELECT t::int FROM tickets) TO STDOUT
EXPLAIN ANALYZE SELECT lower(5)

--! replica db=overloaded
SELECT 1
SELECT upper('a'), pg_catalog.upper('b')
SELECT pg_catalog.lower('A'), pg_catalog.abs(-1)
SELECT id, name FROM customers WHERE id = 1
SELECT now()
SELECT sum(1) OVER (), count(*) FROM customers --! auto db=overloaded
SELECT pg_catalog.sum(id) FROM customers
SELECT to_char(now(), 'YYYY', 1) --! replica db=overloaded error=42883
SELECT 1 - 2 * 3
SELECT 1 OPERATOR(pg_catalog.+) 2
SELECT '{1}'::int8[], '5'::numeric
