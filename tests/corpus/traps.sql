-- Statements that look like reads and are none, and such as look like writes and are reads.

--! primary
-- data-changing CTEs
WITH a AS (INSERT INTO log (what) VALUES ('x') RETURNING id) SELECT * FROM a
WITH a AS (UPDATE customers SET name = name WHERE id = 1 RETURNING id) SELECT count(*) FROM a
WITH a AS (DELETE FROM items WHERE order_id = 1 RETURNING *) SELECT sum(quantity) FROM a
WITH a AS (SELECT 1), b AS (DELETE FROM log) SELECT * FROM a
WITH a AS MATERIALIZED (DELETE FROM items WHERE order_id = 2 RETURNING 1) SELECT 1
WITH RECURSIVE a AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM a WHERE i < 3), b AS (INSERT INTO log (what) SELECT i::text FROM a RETURNING *) TABLE b
WITH a AS (WITH b AS (SELECT 1 AS i) INSERT INTO log (what) SELECT i::text FROM b RETURNING *) SELECT * FROM a
WITH a AS (SELECT 1 AS i) INSERT INTO log (what) SELECT i::text FROM a
(WITH a AS (INSERT INTO log (what) VALUES ('x') RETURNING id) SELECT id FROM a) UNION ALL SELECT 1 --! primary error=0A000
WITH a AS (INSERT INTO log (what) VALUES ('x') RETURNING id) SELECT id FROM a UNION ALL SELECT 1
WITH a AS (INSERT INTO log (what) VALUES ('x') RETURNING id) VALUES (1), (2)
WITH a AS (MERGE INTO customers p USING (VALUES (1)) AS v (i) ON p.id = v.i WHEN MATCHED THEN UPDATE SET name = 'x' RETURNING p.id) SELECT * FROM a --! primary since=17
WITH a AS (INSERT INTO customers (name) VALUES ('x') ON CONFLICT DO NOTHING RETURNING *) SELECT name FROM a ORDER BY id LIMIT 1
WITH "select" AS (DELETE FROM log RETURNING *) TABLE "select"
with /* harmless */ a as (delete from items where order_id=3 returning *), b as (select * from a) select * from b
WITH a AS (DELETE FROM log RETURNING what) SELECT EXISTS (SELECT FROM a)
WITH a AS (INSERT INTO active_customers (name) VALUES ('by rule')) SELECT 1
EXPLAIN ANALYZE WITH a AS (DELETE FROM items WHERE order_id = 4 RETURNING *) SELECT * FROM a
COPY (WITH a AS (INSERT INTO log (what) VALUES ('x') RETURNING id) SELECT * FROM a) TO STDOUT
COPY (INSERT INTO log (what) VALUES ('x') RETURNING id) TO STDOUT
COPY (DELETE FROM items WHERE order_id = 5 RETURNING *) TO STDOUT (FORMAT csv)
COPY (UPDATE customers SET active = active RETURNING id) TO STDOUT

-- functions at every place
SELECT writer()
SELECT writer(1)
SELECT writer('x')
select WRITER ( 1 )
SELECT public.writer(1)
SELECT public . writer /* x */ (1)
SELECT "writer"(1)
SELECT "public"."writer"(1)
SELECT corpus_writer.w FROM (SELECT writer(1) AS w) AS corpus_writer
SELECT * FROM writer(1)
SELECT * FROM writing_set(3)
SELECT writing_set(2)
SELECT (writing_set(2)) + 1
SELECT * FROM ROWS FROM (writing_set(2), generate_series(1, 3)) WITH ORDINALITY
SELECT c.id, w FROM customers c, writer(c.id) AS w WHERE c.id < 3
SELECT c.id, w.w FROM customers c CROSS JOIN LATERAL (SELECT writer(c.id) AS w) AS w WHERE c.id < 3
SELECT 1 FROM customers c JOIN orders o ON writer(c.id) = o.customer_id WHERE c.id < 3
SELECT id FROM customers WHERE truth() LIMIT 1
SELECT id FROM customers WHERE id < 3 AND (active AND truth())
SELECT id FROM customers WHERE id = writer(1)
SELECT count(*) FROM customers HAVING truth()
SELECT id FROM customers GROUP BY id, writer(1) LIMIT 1
SELECT id FROM customers WHERE id < 5 ORDER BY writer(id)
SELECT id FROM customers LIMIT writer(2)
SELECT id FROM customers OFFSET writer(2)
SELECT id FROM customers FETCH FIRST (writer(2)) ROWS ONLY
SELECT DISTINCT ON (writer(1)) id FROM customers
SELECT * FROM customers TABLESAMPLE bernoulli (writer(50))
SELECT * FROM customers TABLESAMPLE system (100) REPEATABLE (writer(1))
SELECT count(*) FILTER (WHERE truth()) FROM customers
SELECT sum(writer(id)) FROM customers WHERE id < 3
SELECT array_agg(id ORDER BY writer(id)) FROM customers WHERE id < 3
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY writer(id)) FROM customers WHERE id < 3
SELECT rank(writer(1)) WITHIN GROUP (ORDER BY id) FROM customers
SELECT sum(id) OVER (ORDER BY writer(id)) FROM customers WHERE id < 3
SELECT sum(id) OVER (PARTITION BY truth()) FROM customers WHERE id < 3
SELECT lag(id, writer(1)) OVER w FROM customers WINDOW w AS (ORDER BY id)
SELECT sum(id) OVER (ORDER BY id ROWS BETWEEN writer(1) PRECEDING AND CURRENT ROW) FROM customers
SELECT first_value(id) OVER w FROM customers WHERE id < 4 WINDOW w AS (PARTITION BY writer(id))
SELECT CASE WHEN truth() THEN 1 END
SELECT CASE writer(1) WHEN 1 THEN 'a' ELSE 'b' END
SELECT CASE WHEN false THEN 1 ELSE writer(2) END
SELECT coalesce(NULL, writer(1))
SELECT nullif(writer(1), 2)
SELECT greatest(writer(1), 2)
SELECT ARRAY[writer(1), 2]
SELECT (ARRAY[1, 2])[writer(1)]
SELECT ARRAY(SELECT writer(1))
SELECT ROW(writer(1), 'a')
SELECT (writer(1), 2) = (1, 2)
SELECT 1 IN (writer(1), 2)
SELECT 1 = ANY (ARRAY[writer(1)])
SELECT 1 = ANY (SELECT writer(1))
SELECT 'a' LIKE writer('a')
SELECT 1 BETWEEN writer(0) AND 2
SELECT writer(1) IS NULL
SELECT writer(1) IS DISTINCT FROM 2
SELECT NOT truth()
SELECT truth() IS TRUE
SELECT writer(1)::text || 'x'
SELECT CAST(writer(1) AS bigint)
SELECT extract(day FROM now() + writer(1) * interval '1 day')
SELECT substring('abc' FROM writer(1))
SELECT position(writer('b') IN 'abc')
SELECT overlay('abc' PLACING writer('x') FROM 1)
SELECT trim(writer('x') FROM 'xax')
SELECT now() AT TIME ZONE writer('UTC')
SELECT writer('a') COLLATE "C" < 'b'
SELECT (SELECT writer(1))
SELECT (SELECT (SELECT (SELECT writer(1))))
VALUES (1), (writer(2))
SELECT * FROM (VALUES (writer(1))) AS v (w)
WITH a AS (SELECT writer(1) AS w) SELECT w FROM a
WITH a AS MATERIALIZED (SELECT writer(1)) SELECT 1 FROM a
WITH RECURSIVE r AS (SELECT writer(1) AS i UNION ALL SELECT i + 1 FROM r WHERE i < 2) SELECT * FROM r
SELECT 1 UNION SELECT writer(2)
SELECT 1 EXCEPT SELECT writer(2)
SELECT JSON_OBJECT('a': writer(1))
SELECT JSON_ARRAY(SELECT writer(1))
SELECT json_agg(writer(id)) FROM customers WHERE id < 3
SELECT JSON_VALUE('{"a": 1}', '$.a' PASSING writer(1) AS x) --! primary since=17
SELECT JSON_QUERY('{}', '$.a' DEFAULT writer('[]') ON EMPTY) --! primary since=17
SELECT * FROM JSON_TABLE(writer('[1]')::jsonb, '$[*]' COLUMNS (a int PATH '$')) AS j --! primary since=17
SELECT format('%s', writer(1))
SELECT format('%s %s', VARIADIC ARRAY[writer('a'), 'b'])
SELECT make_interval(days => writer(1))
SELECT concat('a', writer(1), 'b')
SELECT jsonb_set('{}', '{a}', to_jsonb(writer(1)))
SELECT generate_series(1, writer(2))
SELECT * FROM generate_series(1, writer(2)) AS g
SELECT * FROM json_to_recordset(writer('[{"a":1}]')::json) AS x (a int)
SELECT * FROM unnest(ARRAY[writer(1)]) WITH ORDINALITY
SELECT interval '1 day' * writer(1)
SELECT * FROM customers c LEFT JOIN LATERAL (SELECT writer(c.id) WHERE c.id = 1) AS l ON true WHERE c.id = 1
SELECT id FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id AND truth()) LIMIT 1
SELECT (SELECT max(writer(o.id::int)) FROM orders o WHERE o.customer_id = c.id) FROM customers c WHERE c.id = 1
SELECT 1; SELECT writer(1)
SELECT writer(1); SELECT 1
; ; SELECT writer(1) ;
TABLE writing_view; TABLE customers
EXPLAIN ANALYZE SELECT writer(1)
EXPLAIN (ANALYZE true, FORMAT json) SELECT * FROM writing_set(1)
EXPLAIN (ANALYZE, TIMING off) SELECT id FROM customers WHERE truth() LIMIT 1
COPY (SELECT writer(1)) TO STDOUT
COPY (SELECT id FROM customers WHERE truth()) TO STDOUT (FORMAT csv)
COPY (TABLE writing_view) TO STDOUT
SELECT writing_sql(1)
SELECT writing_atomic(1)
SELECT calls_writer(1)
SELECT run_sql('DELETE FROM log')
SELECT dblink_exec('dbname=x', 'INSERT INTO log (what) VALUES (''d'')')
SELECT * FROM dblink('select 1') AS d (a int)
SELECT * FROM record_writer() AS r (a int, b text)
SELECT (out_writer(1)).b
SELECT (out_writer(1)).*
SELECT * FROM out_writer(1)
SELECT b FROM out_writer(a => 1)
SELECT * FROM table_writer(1)
SELECT t.i FROM customers c CROSS JOIN table_writer(c.id) AS t WHERE c.id = 1
SELECT writer($1) --! primary $=1
SELECT id FROM customers WHERE id = writer($1::int) --! primary $=1

-- overloads, defaults, VARIADIC, polymorphism, named arguments
SELECT mixed('x')
SELECT mixed(name) FROM customers WHERE id = 1
SELECT mixed(NULL)
SELECT mixed($1) --! primary $=x
SELECT defaulted(1)
SELECT defaulted(a => 1)
SELECT defaulted(b => writer(2), a => 1)
SELECT many_defaults()
SELECT many_defaults(1)
SELECT many_defaults(c => 5)
SELECT many_defaults(1, c := 5)
SELECT variadic_writer(1, 2, 3)
SELECT variadic_writer(VARIADIC ARRAY[1, 2])
SELECT poly_writer(1)
SELECT poly_writer('a'::text)
SELECT poly_writer(now())
SELECT poly_writer(ARRAY[1, 2])
SELECT poly_writer(c) FROM customers c WHERE c.id = 1

-- names
SELECT "Nextval"('numbers')
SELECT public."Nextval"('numbers')
SELECT "Mixed Case"."Write Me"(1)
SELECT "Mixed Case"."Write Me"("An Argument" => 1)
SELECT U&"\0077riter"(1)
SELECT U&"\006eextval"('numbers')
SELECT U&"!006eextval" UESCAPE '!' ('numbers')
SELECT "nextval"('numbers')
SELECT NextVal('numbers')
SELECT pg_catalog.nextval('numbers')
SELECT pg_catalog . "nextval" ( 'numbers'::regclass )
SELECT"nextval"('numbers')
SELECT/**/nextval/**/('numbers')
SELECT nextval -- here
  ('numbers')
SELECT /* nextval */ /* /* nested */ */ nextval('numbers')
SELECT 'a' /* ' */, nextval('numbers') /* ' */
SELECT $$ it's $$, nextval('numbers'), $$ it's $$
SELECT $a$ $$ $a$, nextval('numbers')
SELECT E'it\'s', nextval('numbers'), E'\\'
SELECT E'\'', nextval('numbers') --'
SELECT '\', nextval('numbers'), ' --! primary set=standard_conforming_strings=on error=42601
SELECT '\', nextval('numbers') --'
SELECT 'a\' || nextval('numbers') --'
SELECT '\'' || nextval('numbers') -- ' --! primary set=standard_conforming_strings=off
SELECT 'it''s', nextval('numbers') AS "it's"
SELECT N'x', nextval('numbers'), B'01', X'1f'
SELECT U&'\0041', nextval('numbers')
SELECT nextval(U&'\006eumbers')
SELECT nextval('numbers'::text)
SELECT nextval($1) --! primary $=numbers
SELECT nextval((SELECT 'numbers'))
SELECT nextval(pg_get_serial_sequence('products', 'id'))
SELECT nextval('"numbers"')
SELECT nextval('public.numbers') FROM customers WHERE id < 3
SELECT * FROM nextval('numbers')
SELECT setval('numbers', 10)
SELECT setval('numbers', max(id)) FROM customers
SELECT setval('numbers', 10, false), currval('numbers') --! primary error=55000

-- attribute notation calls functions
SELECT c.touch FROM customers c WHERE c.id = 1
SELECT (c).touch FROM customers AS c WHERE id = 1
SELECT customers.touch FROM customers WHERE id = 1
SELECT (c.*).touch FROM customers c WHERE c.id = 1
SELECT touch(c) FROM customers c WHERE c.id = 1
SELECT touch(customers) FROM customers WHERE id = 1
SELECT touch(c.*) FROM customers c WHERE c.id = 1
SELECT id FROM customers c WHERE c.touch = 1
SELECT id FROM customers c WHERE c.id < 3 ORDER BY c.touch
SELECT p.mark FROM pairs p
SELECT pairs.mark, count(*) FROM pairs GROUP BY pairs.mark
SELECT (SELECT c FROM customers c WHERE c.id = 1).touch
SELECT (ROW(1)::ticket).ticket_text
SELECT (t.t).ticket_text FROM tickets t
SELECT (name).shout FROM customers WHERE id = 1
SELECT x.touch FROM (SELECT c AS c, c.touch FROM customers c WHERE id = 1) AS x
SELECT c.name, c."touch" FROM customers AS c WHERE id = 1
SELECT public.customers.touch FROM public.customers WHERE id = 1

SELECT ('numbers').nextval
SELECT ('numbers'::regclass).nextval
SELECT n.nextval FROM unnest(ARRAY['numbers'::regclass]) AS n
SELECT (7::bigint).pg_advisory_xact_lock
SELECT (0::oid).lo_create
SELECT (0.5::float8).setseed
SELECT g.writer FROM generate_series(1, 2) AS g
SELECT (g).writer FROM generate_series(1, 2) AS g
SELECT (5).writer
SELECT ('x'::text).writer
SELECT (id).writer FROM customers WHERE id = 1
SELECT (lower(name)).shout FROM customers WHERE id = 1
SELECT (c.name).shout FROM customers c WHERE c.id = 1
SELECT (places[1]).post FROM contacts WHERE id = 1
SELECT (home).post FROM customers WHERE id = 1
SELECT (c.home).post, 1 FROM customers c WHERE c.id = 1
SELECT count(*) FROM contacts WHERE (places[1]).post > 0
SELECT u.writer FROM unnest(ARRAY[1, 2]) AS u
SELECT (SELECT 7).writer
SELECT (SELECT customers).touch FROM customers WHERE id = 1
SELECT (ARRAY[1, 2])[1].writer
SELECT ((ARRAY[1, 2])[1]).writer
SELECT (ROW('a', 'b', 3)::address).post

-- what a call runs besides the function
SELECT numbered(1)
SELECT labelled_atomic(1)
SELECT numbered(a => 1)
SELECT id, numbered(id) FROM customers WHERE id < 3
SELECT takes_checked(5)
SELECT takes_checked(id) FROM customers WHERE id = 1
SELECT takes_checked('5')
SELECT takes_checked($1) --! primary $=5
SELECT takes_twice(1, 5)
SELECT takes_twice(1, b => 6)
SELECT takes_holding(ROW(1, 2))
SELECT takes_holding('(1,2)')
SELECT takes_checked_array(1, 2)
SELECT takes_checked_array(VARIADIC '{1,2}')
SELECT gives_checked(5)
SELECT ??? 5
SELECT OPERATOR(public.???) id FROM customers WHERE id = 1
SELECT id FROM customers WHERE takes_checked(id) = 2
SELECT * FROM takes_view
SELECT jsonb_populate_record(r, '{"c": 6}') FROM checked_rows r
SELECT * FROM jsonb_populate_record(NULL::checked_rows, '{"c": 6}')
SELECT (json_populate_record(r, '{"c": 6}')).c FROM checked_rows AS r
SELECT * FROM checked_rows r, jsonb_populate_recordset(r, '[{"c": 7}]') AS p
SELECT vat(1) --! primary set=role=corpus_clerk
SELECT * FROM orders --! primary set=role=corpus_clerk
SELECT vat(2) --! primary path=corpus_clerk,public
SELECT * FROM orders_of(1) AS o, orders --! primary path=corpus_clerk,public
VALUES (nextval('numbers'))
TABLE customers FOR UPDATE
(TABLE customers) FOR SHARE
SELECT id FROM customers WHERE id = 1 AND pg_notify('a', 'b') IS NULL
SELECT 1 IN (SELECT 1) --! primary path=shadow,pg_catalog
SELECT 1 NOT IN (VALUES (1), (2)) --! primary path=shadow,pg_catalog
SELECT CASE WHEN 1 IN (SELECT 2) THEN 3 END --! primary path=shadow,pg_catalog
SELECT * FROM generate_series(1, 2) AS a (i) JOIN generate_series(2, 3) AS b (i) USING (i) --! primary path=shadow,pg_catalog
SELECT * FROM generate_series(1, 2) AS a (i) NATURAL JOIN generate_series(2, 3) AS b (i) --! primary path=shadow,pg_catalog
SELECT attnum FROM pg_attribute WHERE attnum BETWEEN 1 AND 2 LIMIT 1 --! auto path=shadow,pg_catalog
SELECT CASE attnum::int WHEN 1 THEN 'a' END FROM pg_attribute LIMIT 3 --! primary path=shadow,pg_catalog
SELECT 5 NOT BETWEEN SYMMETRIC 7 AND 6 --! auto path=shadow,pg_catalog

-- operators
SELECT !!! 'x'
SELECT !!! name FROM customers WHERE id = 1
SELECT OPERATOR(public.!!!) 'x'::text

-- casts and types
SELECT 5::ticket
SELECT CAST(5 AS ticket)
SELECT CAST(id AS public.ticket) FROM customers WHERE id = 1
SELECT int_ticket(5)
SELECT ARRAY[5, 6]::ticket[]
SELECT id::checked FROM customers WHERE id = 1
SELECT 5::checked
SELECT '5'::checked
SELECT checked '5'
SELECT CAST('5' AS checked_twice)
SELECT 5::checked_twice
SELECT ARRAY[1, 2]::checked[]
SELECT '{1,2}'::checked[]
SELECT ROW(1, 2)::holds_checked
SELECT '(1,2)'::holds_checked
SELECT (jsonb_populate_record(NULL::holds_checked, '{"b": 3}')).b
SELECT * FROM json_to_record('{"a": 5}') AS x (a checked)
SELECT * FROM jsonb_to_recordset('[{"a": 5}]') AS x (a checked)
SELECT * FROM json_populate_recordset(NULL::holds_checked, '[{"b": 1}]')
SELECT JSON_VALUE('{"a": 1}', '$.a' RETURNING checked) --! primary since=17
SELECT * FROM JSON_TABLE('[1]'::jsonb, '$[*]' COLUMNS (a checked PATH '$')) AS j --! primary since=17
SELECT pg_input_is_valid('5', 'checked')
SELECT * FROM pg_input_error_info('5', 'checked')
SELECT array_in('{5}', 'checked'::regtype, -1)
SELECT domain_in('5', 'checked'::regtype, -1) IS NULL
SELECT record_in('(1,2)', 'holds_checked'::regtype, -1)
SELECT NULLIF('5'::checked, 6)
SELECT $1::checked --! primary $=5
SELECT to_regtype('checked'), format('%s', 5::checked)

-- aggregates and windows over functions that write
SELECT writing_sum(id) FROM customers WHERE id < 3
SELECT writing_sum(id) OVER (ORDER BY id) FROM customers WHERE id < 3
SELECT active, writing_sum(DISTINCT id ORDER BY id) FILTER (WHERE id < 4) FROM customers GROUP BY active
SELECT writing_end(id) FROM customers
SELECT id, writing_end(id) OVER (PARTITION BY active) FROM customers WHERE id < 4
SELECT id FROM customers GROUP BY id HAVING writing_sum(id) > 0 LIMIT 1
SELECT (SELECT writing_sum(c.id)) FROM customers c WHERE c.id < 3

-- views
SELECT * FROM writing_view
TABLE writing_view
SELECT w FROM over_writing_view
SELECT * FROM far_over
SELECT count(*) FROM filtered
SELECT * FROM barrier_writer
SELECT * FROM invoker_writer
SELECT * FROM next_number
SELECT * FROM operator_view
SELECT * FROM cast_view
SELECT * FROM domain_view
SELECT * FROM aggregate_view
SELECT * FROM default_view
SELECT * FROM attribute_view
SELECT * FROM lateral_view
SELECT * FROM locking_view
SELECT * FROM over_locking
SELECT * FROM lock_view
SELECT * FROM sequence_view
SELECT * FROM advisory_view
SELECT * FROM settings_view
SELECT * FROM ONLY writing_view
SELECT * FROM public.writing_view
SELECT * FROM "writing_view" AS customers
SELECT v.w FROM customers c, writing_view v WHERE c.id = 1
SELECT (SELECT w FROM writing_view)
SELECT c.id FROM customers c WHERE c.id IN (SELECT w FROM writing_view)
WITH customers AS (SELECT * FROM writing_view) SELECT * FROM customers
SELECT * FROM customers c JOIN filtered f USING (id) LIMIT 1
SELECT row_to_json(v) FROM writing_view v
EXPLAIN ANALYZE SELECT * FROM over_writing_view
COPY (SELECT * FROM writing_view) TO STDOUT
DECLARE c CURSOR FOR SELECT * FROM writing_view
SELECT * FROM shadow.orders
SELECT * FROM orders --! primary path=shadow,public
TABLE orders --! primary path=shadow
SELECT relname FROM shadow.pg_class
SELECT relname FROM pg_class --! primary path=shadow,pg_catalog

-- locks in a read
SELECT * FROM customers WHERE id = 1 FOR UPDATE
SELECT * FROM customers WHERE id = 1 FOR NO KEY UPDATE NOWAIT
SELECT * FROM customers WHERE id = 1 FOR SHARE
SELECT * FROM customers WHERE id = 1 FOR KEY SHARE SKIP LOCKED
SELECT c.id FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id = 1 FOR UPDATE OF o
SELECT * FROM (SELECT id FROM customers WHERE id = 1 FOR UPDATE) AS s
WITH a AS (SELECT id FROM customers WHERE id = 1 FOR SHARE) SELECT * FROM a
SELECT (SELECT id FROM customers WHERE id = 1 FOR UPDATE)
SELECT 1 WHERE EXISTS (SELECT 1 FROM customers WHERE id = 1 FOR KEY SHARE)
SELECT id FROM orders WHERE customer_id IN (SELECT id FROM customers WHERE id = 1 FOR SHARE)
SELECT * FROM (SELECT id FROM customers WHERE id = 1 FOR UPDATE) AS a UNION ALL SELECT 1
SELECT id FROM customers ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
SELECT * FROM active_customers WHERE id = 1 FOR UPDATE
SELECT * FROM measures WHERE at = '2024-01-01' FOR SHARE
COPY (SELECT id FROM customers WHERE id = 1 FOR UPDATE) TO STDOUT
EXPLAIN ANALYZE SELECT id FROM customers WHERE id = 1 FOR UPDATE
SELECT ARRAY(SELECT id FROM customers WHERE id < 3 FOR UPDATE)
SELECT l.id FROM customers c, LATERAL (SELECT o.id FROM orders o WHERE o.customer_id = c.id FOR UPDATE) AS l WHERE c.id = 1

-- search_path
SELECT lower('A') --! primary path=shadow,pg_catalog
SELECT lower(name) FROM public.customers WHERE id = 1 --! primary path=shadow,pg_catalog
SELECT now() --! primary path=shadow,pg_catalog
SELECT date_trunc('day', now()) --! primary path=shadow,pg_catalog,public
SELECT 1 = 1 --! primary path=shadow,pg_catalog
SELECT 1 <> 2 --! primary path=shadow,pg_catalog
SELECT id FROM public.customers WHERE id = 1 --! primary path=shadow,pg_catalog
SELECT id FROM public.customers WHERE id IN (1, 2) --! primary path=shadow,pg_catalog
SELECT id FROM public.customers WHERE id NOT IN (1, 2) LIMIT 1 --! primary path=shadow,pg_catalog
SELECT id FROM public.customers WHERE id = ANY ('{1,2}'::int[]) --! primary path=shadow,pg_catalog
SELECT c.id FROM public.customers c JOIN public.products p USING (id) LIMIT 1 --! primary path=shadow,pg_catalog
SELECT id FROM public.customers NATURAL JOIN (VALUES (1)) AS v (id) --! primary path=shadow,pg_catalog
SELECT CASE 1 WHEN 1 THEN 'a' END --! primary path=shadow,pg_catalog
SELECT nullif(1, 2) --! primary path=shadow,pg_catalog
SELECT 1 IS DISTINCT FROM 2 --! primary path=shadow,pg_catalog
SELECT 1 BETWEEN 0 AND 2 --! primary path=shadow,pg_catalog
SELECT 'a'::text LIKE 'b' --! primary path=shadow,pg_catalog
SELECT 'a'::text ~ 'b' --! primary path=shadow,pg_catalog
SELECT 'a'::text SIMILAR TO 'b' --! primary path=shadow,pg_catalog
SELECT 1 = ALL (SELECT 1) --! primary path=shadow,pg_catalog
SELECT vat(1) --! primary path=shadow,public
SELECT vat(price) FROM public.products LIMIT 1 --! primary path=shadow,public
SELECT either(1) --! primary path=shadow,app
SELECT shadow.either(1)
SELECT 5::positive --! primary path=shadow,public
SELECT 5::shadow.positive
SELECT shadow.now()
SELECT shadow.lower('A')
SELECT 1 OPERATOR(shadow.=) 1
SELECT 'a'::text OPERATOR(shadow.~~) 'b'
SELECT count(1) --! primary path=shadow,pg_catalog

-- rows that a policy lets pass
SELECT * FROM guarded --! primary set=role=corpus_clerk
SELECT count(*) FROM guarded g WHERE g.id > 0 --! primary set=role=corpus_clerk
SELECT c.id FROM customers c WHERE c.id IN (SELECT id FROM guarded) --! primary set=role=corpus_clerk
COPY guarded TO STDOUT --! primary set=role=corpus_clerk
COPY (SELECT id FROM guarded) TO STDOUT --! primary set=role=corpus_clerk
SELECT * FROM over_guarded --! primary set=role=corpus_clerk
EXPLAIN ANALYZE SELECT * FROM guarded --! primary set=role=corpus_clerk

-- labelled better than they are
SELECT stable_nextval()
SELECT immutable_nextval()
SELECT * FROM stable_view
SELECT stable_caller(1)
SELECT immutable_caller(1)
SELECT stable_dynamic('x')
SELECT id FROM customers WHERE id = immutable_caller(1)
SELECT id FROM customers WHERE id = stable_caller(1)
SELECT stable_caller(id) FROM customers WHERE id < 3
EXPLAIN SELECT immutable_caller(1)
EXPLAIN SELECT id FROM customers WHERE id = stable_caller(1)
EXPLAIN UPDATE customers SET name = 'x' WHERE id = immutable_nextval()
PREPARE p AS SELECT immutable_caller(1); EXECUTE p
SELECT stable_shout('x')
SELECT !!~ 'x'
SELECT !!~ name FROM customers WHERE id = 1
EXPLAIN SELECT !!~ 'x'::text
SELECT stable_operator('x')
SELECT stable_sum(id) FROM customers WHERE id < 3
SELECT stable_sum(id) OVER (ORDER BY id) FROM customers WHERE id < 3
SELECT int_coupon(1)
SELECT 5::coupon
SELECT id::coupon FROM customers WHERE id = 1
SELECT stable_cast(5)
SELECT 5::stably_checked
SELECT '5'::stably_checked
SELECT takes_stably_checked(5)
SELECT stably_defaulted(1)
SELECT stable_atomic(1)
SELECT atomic_nextval()
EXPLAIN SELECT atomic_nextval()
SELECT stable_quoted(1)
SELECT stable_format(1)
SELECT stable_column(1)
SELECT c.stable_touch FROM customers c WHERE c.id = 1
SELECT (c).stable_touch FROM customers c WHERE c.id = 1
SELECT stable_touch(c) FROM customers c WHERE c.id = 1
SELECT stable_path(1)
SELECT stable_reader()
SELECT stable_chain(2)
EXPLAIN SELECT id FROM customers WHERE id = stable_chain(2)
EXPLAIN DELETE FROM customers WHERE id = immutable_caller(1)
EXPLAIN SELECT * FROM stable_view

-- what a standby has not
SELECT * FROM fleeting
TABLE fleeting
SELECT count(*) FROM fleeting WHERE id > 0
SELECT c.id FROM customers c LEFT JOIN fleeting f USING (id) WHERE c.id = 1
SELECT (SELECT what FROM fleeting LIMIT 1)
WITH a AS (SELECT * FROM fleeting) SELECT * FROM a
SELECT * FROM over_fleeting
SELECT * FROM calm_over_fleeting LIMIT 1
SELECT id FROM customers WHERE id IN (SELECT id FROM over_fleeting)
COPY fleeting TO STDOUT
COPY (SELECT * FROM fleeting) TO STDOUT
COPY fleeting (id) TO STDOUT (FORMAT csv)
EXPLAIN SELECT * FROM fleeting
EXPLAIN ANALYZE SELECT * FROM fleeting
EXPLAIN INSERT INTO log (what) SELECT what FROM fleeting
SELECT * FROM fleeting TABLESAMPLE system (100)
SELECT * FROM fleeting_numbers
SELECT last_value FROM fleeting_numbers
SELECT * FROM partly
SELECT * FROM partly WHERE k = 2
SELECT count(*) FROM partly WHERE v = 'a'
SELECT * FROM partly_2
SELECT * FROM heir
SELECT count(*) FROM heir h WHERE h.id = 1
SELECT reads_fleeting()
SELECT reads_fleeting_row(1)
SELECT id, reads_fleeting_row(id) FROM customers WHERE id = 1
SELECT * FROM far_away --! primary error=55000
SELECT * FROM over_far_away --! primary error=55000
SELECT id FROM fleeting --! primary path=public
SELECT pg_relation_filepath('fleeting'), id FROM fleeting

-- sequences as tables
SELECT * FROM numbers
TABLE numbers
SELECT last_value FROM numbers
SELECT n.last_value + 1 FROM numbers AS n
SELECT n.* FROM numbers n
SELECT (SELECT last_value FROM numbers), 1
SELECT reads_locks()
SELECT pg_sequence_last_value('numbers')
SELECT * FROM pg_sequences WHERE sequencename = 'numbers'
SELECT last_value FROM pg_catalog.pg_sequences WHERE schemaname = 'public' AND sequencename = 'numbers'

-- what makes or changes things by the way
SELECT * INTO made FROM customers
SELECT 1 AS a INTO made
SELECT id INTO TEMP made FROM customers
SELECT id INTO TEMPORARY TABLE made FROM customers LIMIT 1
SELECT id INTO UNLOGGED made FROM customers
SELECT * INTO pg_temp.made FROM customers
SELECT 1 AS i INTO made UNION ALL SELECT 2
WITH a AS (SELECT 1 AS i) SELECT i INTO made FROM a
EXPLAIN ANALYZE SELECT * INTO made FROM customers
EXPLAIN ANALYZE CREATE TABLE made AS SELECT 1
EXPLAIN (ANALYZE) CREATE MATERIALIZED VIEW made AS SELECT 1
EXPLAIN ANALYZE INSERT INTO log (what) VALUES ('x')
EXPLAIN ANALYZE UPDATE customers SET name = name WHERE id = 1
EXPLAIN (ANALYZE on) DELETE FROM items WHERE order_id = 1
EXPLAIN (COSTS off, ANALYZE 1) MERGE INTO customers p USING (VALUES (1)) AS v (i) ON p.id = v.i WHEN MATCHED THEN UPDATE SET name = 'x'
EXPLAIN (ANALYZE 'true') DELETE FROM log
EXPLAIN (ANALYZE false, ANALYZE true) INSERT INTO log (what) VALUES ('x')
explain analyze verbose insert into log (what) values ('x')
PREPARE p AS INSERT INTO log (what) VALUES ('x'); EXPLAIN ANALYZE EXECUTE p
PREPARE p AS SELECT writer(1); EXECUTE p
PREPARE p (int) AS SELECT $1; EXECUTE p (writer(1))
PREPARE p AS DELETE FROM log; SELECT 1; EXECUTE p
DO $$ begin insert into log (what) values ('do'); end $$
DO LANGUAGE plpgsql 'begin perform writer(1); end'
DO $body$ declare r record; begin for r in select * from customers loop perform writer(r.id); end loop; end $body$
CALL add_order(1, 5)
CALL out_procedure(1)
CALL out_procedure(a => writer(2))
CALL write_and_commit() --! primary error=2D000
INSERT INTO active_customers (name) VALUES ('by rule')
DELETE FROM products WHERE id = 25 --! primary error=23503
DELETE FROM products WHERE id = 99
UPDATE orders SET state = 'paid' WHERE id = 1
DECLARE c CURSOR FOR SELECT writer(1); FETCH ALL FROM c
DECLARE c CURSOR WITH HOLD FOR SELECT writer(1)
DECLARE c CURSOR FOR SELECT * FROM customers WHERE id = 1 FOR UPDATE; FETCH c
DECLARE c CURSOR FOR SELECT * FROM customers FOR UPDATE; FETCH c; UPDATE customers SET name = 'x' WHERE CURRENT OF c

-- built-ins that are more than functions
SELECT set_config('search_path', 'shadow', false)
SELECT set_config('app.user', '1', true)
SELECT id FROM customers WHERE set_config('app.x', 'y', false) = 'y'
SELECT * FROM set_config('work_mem', '8MB', true)
SELECT coalesce(set_config('a.b', 'c', false), 'x')
SELECT pg_catalog.set_config('transaction_read_only', 'off', true)
UPDATE pg_settings SET setting = '8MB' WHERE name = 'work_mem'
SELECT setseed(0.5)
SELECT setseed(0.5), random()
SELECT pg_notify('a', 'b')
SELECT pg_notify(name, 'x') FROM customers WHERE id = 1
SELECT txid_current()
SELECT pg_current_xact_id()
SELECT pg_current_xact_id()::text::bigint % 10
SELECT pg_export_snapshot()
SELECT pg_advisory_lock(1)
SELECT pg_try_advisory_lock(1, 2)
SELECT pg_advisory_xact_lock(3)
SELECT pg_try_advisory_xact_lock_shared(4)
SELECT pg_advisory_unlock_all()
SELECT id FROM customers WHERE pg_try_advisory_xact_lock(id) LIMIT 1
SELECT id FROM customers WHERE id < 3 AND pg_try_advisory_lock(tableoid::int, id)
SELECT lo_creat(-1)
SELECT lo_create(0)
SELECT lo_from_bytea(0, '\x00')
SELECT lo_put(4711, 0, '\x09')
SELECT lo_unlink(4711)
SELECT lo_open(4711, 131072)
SELECT lo_truncate(lo_open(4711, 131072), 1)
SELECT lowrite(lo_open(4711, 131072), '\x07')
SELECT currval('numbers') --! primary error=55000
SELECT lastval() --! primary error=55000
SELECT nextval('numbers'), currval('numbers'), lastval()
SELECT pg_logical_emit_message(true, 'p', 'x')
SELECT pg_logical_emit_message(false, 'p', 'x')
SELECT pg_create_restore_point('here')
SELECT pg_switch_wal()
SELECT pg_current_wal_lsn()
SELECT pg_current_wal_insert_lsn() > '0/0'
SELECT pg_walfile_name(pg_current_wal_flush_lsn())
SELECT pg_walfile_name_offset('0/1000000')
SELECT * FROM pg_create_physical_replication_slot('corpus_slot', false, true)
SELECT brin_summarize_new_values('customers_name') --! primary error=42809
SELECT gin_clean_pending_list('customers_tags')
SELECT pg_import_system_collations('pg_catalog')
SELECT pg_replication_origin_create('corpus')
SELECT pg_xact_status('3'::xid8)
SELECT query_to_xml('INSERT INTO log (what) VALUES (''x'')', true, true, '') --! primary error=0A000
SELECT query_to_xml('SELECT writer(1)', true, true, '') --! primary error=0A000
SELECT table_to_xml('writing_view', true, true, '') --! primary error=0A000
SELECT query_to_xml_and_xmlschema('SELECT writer(1)', true, true, '') --! primary error=0A000
SELECT query_to_xmlschema('SELECT writer(1)', true, true, '') --! primary error=0A000
SELECT table_to_xml('fleeting', true, true, '') --! primary error=0A000
SELECT schema_to_xml('shadow', true, true, '') --! primary error=0A000
SELECT database_to_xml(true, true, '') --! primary error=0A000
SELECT ts_stat('SELECT doc FROM products WHERE truth()')
SELECT * FROM ts_stat('SELECT to_tsvector(writer(''a b''))')
SELECT * FROM ts_stat('SELECT doc FROM products WHERE id = writer(1)', 'a')
SELECT ts_rewrite('a & b'::tsquery, 'SELECT ''a''::tsquery, to_tsquery(writer(''c''))')
SELECT ts_rewrite('a & b'::tsquery, $1) --! primary $=SELECT 'a'::tsquery, to_tsquery(public.writer('c'))
SELECT cursor_to_xml('c', 1, true, true, '') --! primary error=34000
DECLARE c CURSOR FOR SELECT writer(1); SELECT cursor_to_xml('c', 1, true, true, '') --! primary error=0A000
SELECT pg_stat_reset_shared('bgwriter')
SELECT pg_reload_conf()
SELECT pg_stat_reset()
SELECT pg_rotate_logfile()
SELECT pg_prewarm('customers') --! primary error=42883
SELECT pg_read_file('postgresql.auto.conf')
SELECT pg_ls_dir('.')
SELECT pg_stat_clear_snapshot()
SELECT pg_restore_relation_stats('schemaname', 'public', 'relname', 'customers', 'relpages', 3) --! primary since=18
SELECT pg_clear_attribute_stats('public', 'customers', 'name', false) --! primary since=18

-- about temporary things
CREATE TEMP TABLE made (a int)
CREATE TEMP TABLE made AS SELECT 1; SELECT * FROM made
CREATE TEMP VIEW made AS SELECT 1 AS a; SELECT a FROM made
SELECT * FROM pg_temp.made --! primary error=42P01
SELECT pg_temp.made(1) --! primary error=3F000
SELECT 1::pg_temp.made --! primary error=3F000

-- what asks whether this server takes writes
SHOW transaction_read_only
SHOW in_hot_standby
SELECT current_setting('transaction_read_only')
SELECT current_setting('in_hot_standby')
SHOW default_transaction_read_only
SELECT * FROM pg_locks
SELECT count(*) FROM pg_catalog.pg_locks WHERE NOT granted
SELECT * FROM pg_prepared_xacts
SELECT * FROM pg_lock_status()
SELECT pg_blocking_pids(pg_backend_pid())

--! replica
-- no writes, whatever they look like
SELECT 'INSERT INTO log VALUES (1)'
SELECT 'nextval(''numbers'')'
SELECT "name" AS "delete from customers" FROM customers WHERE id = 1
SELECT 1 AS "nextval('numbers')"
SELECT 1 AS update, 2 AS "insert", 3 AS delete, 4 AS nextval
SELECT nextval FROM (SELECT 1 AS nextval) AS setval
SELECT /* FOR UPDATE */ id FROM customers WHERE id = 1
SELECT id FROM customers WHERE id = 1 -- FOR UPDATE
SELECT id FROM customers WHERE name = 'x FOR UPDATE'
SELECT $$ DELETE FROM customers $$
SELECT $q$ $$; DELETE FROM customers; $$ $q$
SELECT E'\'; DELETE FROM customers; --'
SELECT '''; DELETE FROM customers; --'
SELECT 1 /* ; DELETE FROM customers; */
SELECT 1 /* /* */ ; DELETE FROM customers; */ AS a
SELECT U&'d\0061t\+000061' AS "insert"
WITH insert AS (SELECT 1 AS update) SELECT update FROM insert
WITH a AS (SELECT 'delete' AS returning_) SELECT * FROM a
WITH log AS (SELECT 1 AS id) SELECT * FROM log
SELECT * FROM calm
SELECT * FROM over_calm
SELECT * FROM filled_from_fleeting
SELECT * FROM partly_1
SELECT * FROM heir_child WHERE false --! primary
SELECT * FROM shadow.customers
SELECT pg_catalog.lower('A') --! replica path=shadow,pg_catalog
SELECT 1 OPERATOR(pg_catalog.=) 1 --! replica path=shadow,pg_catalog
SELECT pg_catalog.now(), CURRENT_TIMESTAMP --! replica path=shadow,pg_catalog
EXPLAIN DELETE FROM customers
EXPLAIN INSERT INTO log (what) SELECT writer(1)::text
EXPLAIN SELECT writer(1), * FROM writing_set(2)
EXPLAIN SELECT * FROM writing_view --! auto
EXPLAIN SELECT id FROM customers FOR UPDATE
EXPLAIN (ANALYZE false) DELETE FROM log
EXPLAIN CREATE TABLE made AS SELECT 1
EXPLAIN SELECT 1 AS a INTO made
SELECT pg_get_viewdef('writing_view'), pg_get_functiondef('writer()'::regprocedure)
SELECT 'writer(int)'::regprocedure, 'writing_view'::regclass, to_regproc('writing_sql'), 'checked'::regtype
SELECT pg_get_expr(proargdefaults, 0) FROM pg_proc WHERE proname = 'defaulted'
SELECT has_function_privilege('writer(int)', 'execute')
SELECT defaulted(1, 2) --! auto
SELECT named_writer()
SELECT factorial(5), calls_factorial(4)
EXPLAIN SELECT calls_factorial(4)
SELECT vat(10)
SELECT vat(10, rate => 0.1)
SELECT at_most(1, 2, 3), at_most(VARIADIC ARRAY[4, 5])
SELECT with_defaults(1), with_defaults(1, c => 'y'), with_defaults(b := 3, a := 1)
SELECT (swap(1, 2)).*, (SELECT b FROM swap(3, 4))
SELECT * FROM table_of(3)
SELECT twice(1), twice('a'::text)
SELECT product(price) FROM products WHERE id < 4
SELECT app.order_count(1), id, app.order_count(id) FROM customers WHERE id < 4
SELECT * FROM orders_of(2)
SELECT c.describe, describe(c), (c).describe FROM customers c WHERE id = 1
SELECT ROW(1, 2)::pair + ROW(3, 4)::pair
SELECT (ROW(1, 2)::pair)::int, money_of(ROW(1, 2))
SELECT 1.0::float8 ~~~ 1.05::float8
SELECT 1.0 OPERATOR(public.~~~) 3.0
SELECT 'ok'::mood, CAST('sad' AS public.mood), mood 'happy', enum_range(NULL::mood)
SELECT 5::positive, '5'::positive, 'a@b'::email, '{sad}'::moods
SELECT '(a,b,1)'::address, ('(a,b,1)'::address).city, ROW('a', 'b', 2)::address
SELECT floatrange(1, 2), '[1,2]'::floatrange @> 1.5::float8
SELECT id, (t).number FROM tickets
SELECT (p).x FROM pairs ORDER BY id
SELECT id FROM pairs WHERE (p).x = 1
SELECT * FROM calmly_guarded --! replica set=role=corpus_clerk
SELECT login FROM app.users ORDER BY id --! replica set=role=corpus_clerk
SELECT * FROM app.logins WHERE k = '1'
SELECT * FROM nested_totals ORDER BY name LIMIT 2
SELECT * FROM invoker_totals ORDER BY name LIMIT 2
SELECT * FROM ancestors ORDER BY id
SELECT x FROM (VALUES (1)) AS pg_locks (x)
SELECT last_value(id) OVER (ORDER BY id) FROM customers
SELECT current_setting('work_mem'), current_setting('transaction_read_onl', true)
SELECT a.what FROM (SELECT what FROM log) AS a

--! auto
-- right on a replica, but further than the router has to go
WITH writing_view AS (SELECT 1 AS w) SELECT * FROM writing_view
WITH fleeting AS (SELECT 1 AS id) SELECT * FROM fleeting
WITH RECURSIVE fleeting AS (SELECT 1 AS id UNION ALL SELECT id + 1 FROM fleeting WHERE id < 3) SELECT * FROM fleeting
SELECT * FROM ONLY heir
SELECT * FROM customers --! auto path=shadow,public
SELECT either(1) --! auto path=app,shadow
SELECT vat(1) --! auto path=public,shadow
SELECT lower('A') --! auto path=public,shadow
SELECT lower('A') --! auto path=shadow
SELECT 5::positive --! auto path=public,shadow
SELECT (ticket).number FROM (SELECT '(5)'::ticket AS ticket) AS s
SELECT last_value FROM (SELECT 1 AS last_value) AS s
