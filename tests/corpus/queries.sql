-- Queries in the manner of PostgreSQL's regression tests: what SELECT can do.

-- SELECT itself
SELECT
SELECT 1
SELECT ALL 1, 2
SELECT FROM customers
SELECT * FROM customers ORDER BY id
SELECT c.* FROM customers AS c WHERE c.id = 3
SELECT c FROM customers c WHERE id = 1
SELECT (c).name, (c.home).city FROM customers c WHERE id = 1
SELECT customers.*, id AS again FROM customers ORDER BY again DESC LIMIT 2
SELECT name "Name of it", id AS "select" FROM customers WHERE id = 2
SELECT id + 1 AS next, next.x FROM customers, (VALUES (10)) AS next (x) WHERE id < 3
SELECT DISTINCT active FROM customers ORDER BY 1
SELECT DISTINCT active, feeling FROM customers ORDER BY active, feeling DESC
SELECT DISTINCT ON (active) active, id, name FROM customers ORDER BY active, id DESC
SELECT DISTINCT ON (active, feeling) id FROM customers ORDER BY active, feeling, id
SELECT id FROM customers ORDER BY name COLLATE "C" DESC NULLS FIRST, 1
SELECT id FROM customers ORDER BY id USING > LIMIT 3
SELECT id FROM customers ORDER BY length(name), id OFFSET 2 ROWS FETCH NEXT 2 ROWS ONLY
SELECT state FROM orders ORDER BY state FETCH FIRST 1 ROW WITH TIES
SELECT id FROM customers LIMIT ALL
SELECT id FROM customers ORDER BY id LIMIT (SELECT 2) OFFSET (SELECT 1)
SELECT id FROM customers ORDER BY id LIMIT $1 OFFSET $2 --! $=2|1
SELECT id FROM customers WHERE id = $1 AND name <> $2 --! $=3|x
SELECT $1::int + $2::int, $3::text --! $=1|2|x
SELECT id FROM customers WHERE id = ANY ($1::int[]) ORDER BY 1 --! $={1,2,3}
SELECT count(*) FROM customers WHERE ($1::text IS NULL OR name = $1) --! $=NULL
SELECT id FROM ONLY person UNION ALL SELECT id FROM ONLY employee
SELECT id FROM person* ORDER BY id
SELECT tableoid::regclass, id FROM person ORDER BY id
SELECT ctid, xmin IS NOT NULL, xmax, tableoid::regclass FROM customers WHERE id = 1
SELECT id FROM customers WHERE ctid = '(0,1)'
SELECT id FROM customers WHERE ctid BETWEEN '(0,0)' AND '(0,5)' ORDER BY 1
TABLE products
TABLE app.users ORDER BY id LIMIT 1
TABLE "Mixed Case"."Order"
VALUES (1, 'one'), (2, 'two'), (3, NULL)
VALUES (1), (2) ORDER BY 1 DESC LIMIT 1
VALUES (1, 2), (3, 4) UNION ALL SELECT id, id FROM person
SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v (n, s) WHERE n > 1
SELECT * FROM (TABLE person) AS p (a, b)
((SELECT 1))
(((SELECT 1) UNION (SELECT 2)) ORDER BY 1)
(SELECT id FROM customers ORDER BY id LIMIT 1) UNION ALL (SELECT id FROM customers ORDER BY id DESC LIMIT 1)
SELECT "Id", "select", "a""b", "Ünïcode" FROM "Mixed Case"."Order" ORDER BY "Id"
SELECT o."Id" FROM "Mixed Case"."Order" o WHERE o."select" = 'x'
select ID, Name from CUSTOMERS where ID=1
SeLeCt iD fRoM "customers" wHeRe nAmE lIkE 'name%' oRdEr bY iD lImIt 2
SELECT
	id
	FROM	customers
	WHERE id=1
SELECT id,-- the number
  name /* the name */ FROM customers WHERE id = 1
SELECT 1;
SELECT 1; SELECT 2
SELECT id FROM customers WHERE id = 1; SELECT id FROM products WHERE id = 1; VALUES (1)
;;SELECT 1;;
/* nothing */
/* pgproxy: replica */ SELECT count(*) FROM customers
/* application: x */ SELECT count(*) FROM orders
SELECT 1 AS a /* one */ , /* two /* three */ */ 2 AS b

-- conditions
SELECT id FROM customers WHERE active
SELECT id FROM customers WHERE NOT active AND id > 3 OR id = 1
SELECT id FROM customers WHERE active IS TRUE AND active IS NOT FALSE AND (NOT active) IS NOT UNKNOWN
SELECT id FROM customers WHERE parent IS NULL
SELECT id FROM customers WHERE parent NOTNULL AND name ISNULL
SELECT id FROM customers WHERE parent IS DISTINCT FROM 3 LIMIT 2
SELECT id FROM customers WHERE parent IS NOT DISTINCT FROM NULL
SELECT id FROM customers WHERE id BETWEEN 2 AND 4
SELECT id FROM customers WHERE id NOT BETWEEN SYMMETRIC 30 AND 3
SELECT id FROM customers WHERE id IN (1, 2, 3)
SELECT id FROM customers WHERE id NOT IN (1, 2, 3) LIMIT 3
SELECT id FROM customers WHERE (id, active) IN ((1, true), (2, true))
SELECT id FROM customers WHERE (id, name) = (1, 'name 1')
SELECT id FROM customers WHERE (id, name) < (3, 'x') ORDER BY id, name
SELECT id FROM customers WHERE ROW(id, parent) IS NOT NULL
SELECT id FROM customers WHERE id = ANY (ARRAY[1, 2])
SELECT id FROM customers WHERE id <> ALL ('{1,2}') LIMIT 2
SELECT id FROM customers WHERE id = SOME (SELECT customer_id FROM orders WHERE total > 500)
SELECT id FROM customers WHERE id > ALL (SELECT customer_id - 5 FROM orders)
SELECT id FROM customers c WHERE EXISTS (SELECT FROM orders o WHERE o.customer_id = c.id AND o.total > 600)
SELECT id FROM customers c WHERE NOT EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id)
SELECT id FROM customers WHERE id IN (SELECT customer_id FROM orders GROUP BY 1 HAVING count(*) > 1) ORDER BY 1
SELECT id FROM customers WHERE id NOT IN (SELECT customer_id FROM orders WHERE customer_id IS NOT NULL)
SELECT id FROM customers WHERE (id, name) IN (SELECT id, name FROM active_customers) ORDER BY id
SELECT id FROM customers WHERE (SELECT count(*) FROM orders WHERE customer_id = customers.id) = 2 ORDER BY id
SELECT id FROM customers WHERE name LIKE 'name _'
SELECT id FROM customers WHERE name NOT LIKE '%1%' ORDER BY id LIMIT 1
SELECT id FROM customers WHERE name ILIKE 'NAME 2%'
SELECT id FROM customers WHERE name LIKE 'name!_1' ESCAPE '!'
SELECT id FROM customers WHERE name SIMILAR TO 'name [1-3]'
SELECT id FROM customers WHERE name ~ '^name \d$' AND name !~ '7' ORDER BY id
SELECT id FROM customers WHERE name ~* 'NAME 1' AND name !~* 'NAME 12' ORDER BY id
SELECT id FROM customers WHERE name ^@ 'name 2' ORDER BY 1
SELECT id FROM customers WHERE name LIKE ANY (ARRAY['%1', '%2']) ORDER BY 1
SELECT id FROM customers WHERE feeling = 'ok' AND feeling > 'sad' ORDER BY id LIMIT 2
SELECT id FROM customers WHERE feeling IN ('sad', 'happy') ORDER BY id
SELECT id FROM customers WHERE feeling = ANY (enum_range('ok'::mood, NULL)) ORDER BY id LIMIT 2
SELECT id FROM customers WHERE (home).city = 'city 1' AND (home).zip > 1010
SELECT id FROM customers WHERE created >= '2024-01-03' AND created < date '2024-01-04'
SELECT id FROM customers WHERE lower(name) = 'name 3'
SELECT id FROM customers WHERE true
SELECT id FROM customers WHERE false
SELECT id FROM customers WHERE NULL

-- joins
SELECT c.name, o.total FROM customers c JOIN orders o ON o.customer_id = c.id WHERE c.id = 1 ORDER BY o.id
SELECT c.name, o.total FROM customers c INNER JOIN orders o ON (o.customer_id = c.id AND o.state = 'paid') ORDER BY o.id LIMIT 3
SELECT c.id, o.id FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.total > 500 ORDER BY 1, 2 LIMIT 4
SELECT c.id, o.id FROM orders o RIGHT OUTER JOIN customers c ON o.customer_id = c.id ORDER BY 1, 2 LIMIT 4
SELECT a.i, b.i FROM (VALUES (1), (2)) AS a (i) FULL JOIN (VALUES (2), (3)) AS b (i) ON a.i = b.i ORDER BY 1, 2
SELECT * FROM (VALUES (1), (2)) AS a (i) FULL OUTER JOIN (VALUES (2), (3)) AS b (i) USING (i) ORDER BY i
SELECT * FROM person CROSS JOIN (VALUES ('x'), ('y')) AS v (s) ORDER BY 1, 2, 3
SELECT * FROM person NATURAL JOIN employee ORDER BY id
SELECT id FROM person NATURAL LEFT JOIN employee ORDER BY id
SELECT i.quantity, p.title FROM items i JOIN products p ON p.id = i.product_id JOIN orders o ON o.id = i.order_id WHERE o.id = 2 ORDER BY 2
SELECT count(*) FROM customers c, orders o, items i WHERE c.id = o.customer_id AND o.id = i.order_id AND i.quantity > 1
SELECT p.* FROM ((customers c JOIN orders o ON c.id = o.customer_id) JOIN items i ON i.order_id = o.id) JOIN products p ON p.id = i.product_id WHERE c.id = 2 ORDER BY p.id
SELECT j.id FROM (customers c JOIN active_customers a USING (id, name)) AS j WHERE j.id < 4 ORDER BY 1
SELECT x.id FROM customers JOIN active_customers USING (id) AS x ORDER BY 1 LIMIT 2
SELECT a.id, b.id FROM customers a JOIN customers b ON b.parent = a.id WHERE a.id < 3 ORDER BY 1, 2
SELECT c.id FROM customers c LEFT JOIN orders o ON o.customer_id = c.id WHERE o.id IS NULL
SELECT a.x, b.x FROM generate_series(1, 3) AS a (x) JOIN generate_series(2, 4) AS b (x) ON a.x < b.x ORDER BY 1, 2
SELECT c.id, l.* FROM customers c, LATERAL (SELECT o.id AS oid, o.total FROM orders o WHERE o.customer_id = c.id ORDER BY o.total DESC LIMIT 1) AS l WHERE c.id < 4 ORDER BY 1
SELECT c.id, l.n FROM customers c LEFT JOIN LATERAL (SELECT count(*) AS n FROM orders o WHERE o.customer_id = c.id) AS l ON true WHERE c.id < 4 ORDER BY 1
SELECT c.id, t FROM customers c CROSS JOIN LATERAL unnest(c.tags) AS t WHERE c.id = 1 ORDER BY t
SELECT c.id, g FROM customers c, generate_series(1, c.id) AS g WHERE c.id < 3 ORDER BY 1, 2
SELECT c.id, k, v FROM customers c, jsonb_each(c.profile) AS e (k, v) WHERE c.id = 2 ORDER BY k
SELECT * FROM (SELECT 1 AS a) AS x, LATERAL (SELECT x.a + 1 AS b) AS y, LATERAL (SELECT x.a + y.b AS c) AS z
SELECT o.id FROM orders o JOIN LATERAL app.order_count(o.customer_id) AS n ON n > 1 WHERE o.id = 1
SELECT * FROM orders_of(1) AS o JOIN customers c ON c.id = o.customer_id

-- grouping
SELECT count(*) FROM customers
SELECT count(*), count(parent), count(DISTINCT feeling) FROM customers
SELECT state, count(*) FROM orders GROUP BY state ORDER BY 1
SELECT state, sum(total), avg(total), min(total), max(total) FROM orders GROUP BY 1 ORDER BY 1
SELECT date_trunc('week', placed) AS week, sum(total) FROM orders GROUP BY week ORDER BY week
SELECT customer_id FROM orders GROUP BY customer_id HAVING sum(total) > 700 ORDER BY 1
SELECT c.id, c.name, count(o.id) FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.id ORDER BY c.id LIMIT 3
SELECT state, customer_id % 3, sum(total) FROM orders GROUP BY GROUPING SETS ((state), (customer_id % 3), ()) ORDER BY 1, 2
SELECT state, customer_id % 2 AS half, count(*), grouping(state, customer_id % 2) FROM orders GROUP BY ROLLUP (state, customer_id % 2) ORDER BY 1, 2
SELECT state, customer_id % 2 AS half, count(*) FROM orders GROUP BY CUBE (1, 2) ORDER BY 1, 2
SELECT state, count(*) FROM orders GROUP BY DISTINCT ROLLUP (state), ROLLUP (state) ORDER BY 1
SELECT state, extract(month FROM placed) AS m, sum(total) FROM orders GROUP BY state, GROUPING SETS ((extract(month FROM placed)), ()) ORDER BY 1, 2
SELECT count(*) FILTER (WHERE state = 'paid') AS paid, count(*) FILTER (WHERE total > 100 AND state <> 'new') FROM orders
SELECT string_agg(name, ', ' ORDER BY id) FROM customers WHERE id < 4
SELECT array_agg(DISTINCT feeling ORDER BY feeling DESC) FROM customers
SELECT array_agg(id ORDER BY id) FILTER (WHERE active) FROM customers WHERE id < 6
SELECT json_agg(c) FROM (SELECT id, name FROM customers ORDER BY id LIMIT 2) AS c
SELECT jsonb_object_agg(id, name) FROM customers WHERE id < 3
SELECT bool_and(active), bool_or(active), every(id > 0) FROM customers
SELECT bit_and(id), bit_or(id), bit_xor(id) FROM customers
SELECT stddev(total), stddev_pop(total), variance(total), var_samp(total) FROM orders
SELECT corr(total, customer_id), covar_pop(total, id), regr_slope(total, id), regr_r2(total, id), regr_count(total, id) FROM orders
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY total), percentile_disc(ARRAY[0.25, 0.75]) WITHIN GROUP (ORDER BY total) FROM orders
SELECT mode() WITHIN GROUP (ORDER BY state) FROM orders
SELECT rank(100) WITHIN GROUP (ORDER BY total), dense_rank(100) WITHIN GROUP (ORDER BY total), cume_dist(100) WITHIN GROUP (ORDER BY total) FROM orders
SELECT any_value(state) IS NOT NULL FROM orders
SELECT range_agg(available), range_intersect_agg(available) FROM products WHERE id < 4
SELECT xmlagg(x) FROM (SELECT NULL::xml AS x) AS s
SELECT product(price) FILTER (WHERE id < 4) FROM products
SELECT max(name), min(created), max(feeling), max(tags) FROM customers
SELECT sum(price * 2) / count(*) FROM products
SELECT (SELECT max(o.total) FROM orders o WHERE o.customer_id = c.id) AS m FROM customers c GROUP BY c.id ORDER BY c.id LIMIT 2
SELECT sum(n) FROM (SELECT count(*) AS n FROM orders GROUP BY state) AS s
SELECT DISTINCT count(*) FROM orders GROUP BY customer_id
SELECT count(*) FROM (SELECT DISTINCT customer_id, state FROM orders) AS s
SELECT state FROM orders GROUP BY state HAVING every(total > 0) AND count(*) > (SELECT 5) ORDER BY count(*) DESC, state

-- windows
SELECT id, row_number() OVER (ORDER BY total DESC) FROM orders ORDER BY id LIMIT 3
SELECT id, rank() OVER (PARTITION BY state ORDER BY total), dense_rank() OVER (PARTITION BY state ORDER BY total) FROM orders ORDER BY id LIMIT 3
SELECT id, sum(total) OVER (ORDER BY id) FROM orders ORDER BY id LIMIT 3
SELECT id, avg(total) OVER w, count(*) OVER w FROM orders WINDOW w AS (PARTITION BY state) ORDER BY id LIMIT 3
SELECT id, lag(total) OVER w, lead(total, 2, 0) OVER w FROM orders WINDOW w AS (ORDER BY id) ORDER BY id LIMIT 3
SELECT id, first_value(id) OVER w, last_value(id) OVER w, nth_value(id, 2) OVER w FROM orders WINDOW w AS (PARTITION BY state ORDER BY id) ORDER BY id LIMIT 3
SELECT id, ntile(4) OVER (ORDER BY id), percent_rank() OVER (ORDER BY id), cume_dist() OVER (ORDER BY id) FROM orders ORDER BY id LIMIT 3
SELECT id, sum(total) OVER (ORDER BY id ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING) FROM orders ORDER BY id LIMIT 3
SELECT id, sum(total) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING EXCLUDE CURRENT ROW) FROM orders ORDER BY id LIMIT 3
SELECT id, sum(total) OVER (ORDER BY placed RANGE BETWEEN interval '1 day' PRECEDING AND CURRENT ROW) FROM orders ORDER BY id LIMIT 3
SELECT id, count(*) OVER (ORDER BY customer_id GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING EXCLUDE TIES) FROM orders ORDER BY id LIMIT 3
SELECT id, sum(total) OVER (w ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING) FROM orders WINDOW w AS (PARTITION BY state ORDER BY id) ORDER BY id LIMIT 3
SELECT state, sum(sum(total)) OVER (ORDER BY state) FROM orders GROUP BY state ORDER BY state
SELECT id, count(*) FILTER (WHERE total > 100) OVER (PARTITION BY state) FROM orders ORDER BY id LIMIT 3
SELECT * FROM (SELECT id, row_number() OVER (PARTITION BY customer_id ORDER BY placed DESC) AS n FROM orders) AS s WHERE n = 1 ORDER BY id LIMIT 3
SELECT array_agg(id) OVER (ORDER BY id ROWS 2 PRECEDING) FROM customers ORDER BY id LIMIT 3
SELECT id, rank() OVER () FROM person ORDER BY id
SELECT id, total - lag(total) OVER (PARTITION BY customer_id ORDER BY placed) AS change FROM orders ORDER BY id LIMIT 3

-- WITH
WITH a AS (SELECT 1 AS x) SELECT x FROM a
WITH a (x, y) AS (VALUES (1, 2)), b AS (SELECT x + y AS z FROM a) SELECT * FROM a, b
WITH a AS MATERIALIZED (SELECT id FROM customers) SELECT count(*) FROM a
WITH a AS NOT MATERIALIZED (SELECT id FROM customers) SELECT count(*) FROM a WHERE id < 5
WITH totals AS (SELECT customer_id, sum(total) AS s FROM orders GROUP BY 1), best AS (SELECT * FROM totals ORDER BY s DESC LIMIT 3) SELECT c.name, b.s FROM best b JOIN customers c ON c.id = b.customer_id ORDER BY b.s
WITH RECURSIVE n (i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 10) SELECT sum(i) FROM n
WITH RECURSIVE tree AS (SELECT id, parent, 0 AS depth FROM customers WHERE parent IS NULL UNION ALL SELECT c.id, c.parent, t.depth + 1 FROM customers c JOIN tree t ON c.parent = t.id) SELECT depth, count(*) FROM tree GROUP BY depth ORDER BY depth
WITH RECURSIVE tree AS (SELECT id, parent FROM customers WHERE id = 1 UNION SELECT c.id, c.parent FROM customers c JOIN tree t ON c.parent = t.id) SEARCH DEPTH FIRST BY id SET path SELECT id FROM tree ORDER BY path
WITH RECURSIVE tree AS (SELECT id, parent FROM customers WHERE id = 1 UNION ALL SELECT c.id, c.parent FROM customers c JOIN tree t ON c.parent = t.id) SEARCH BREADTH FIRST BY id SET place CYCLE id SET looped USING seen SELECT id, looped FROM tree ORDER BY place
WITH RECURSIVE a AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM b WHERE i < 3), b AS (SELECT i FROM c), c AS (SELECT 5 AS i) SELECT * FROM a ORDER BY i
WITH a AS (SELECT 1 AS i), b AS (WITH a AS (SELECT 2 AS i) SELECT i FROM a) SELECT a.i, b.i FROM a, b
SELECT * FROM (WITH x AS (SELECT 1 AS y) SELECT * FROM x) AS s
SELECT (WITH x AS (SELECT 2 AS y) SELECT y FROM x) + 1
WITH a AS (TABLE person) TABLE a
WITH a AS (SELECT id FROM customers WHERE id < 3) SELECT * FROM a UNION ALL SELECT * FROM a ORDER BY 1
WITH RECURSIVE fib (a, b) AS (SELECT 0, 1 UNION ALL SELECT b, a + b FROM fib WHERE b < 100) SELECT a FROM fib
WITH orders AS (SELECT 1 AS customers) SELECT customers FROM orders

-- sets
SELECT 1 UNION SELECT 2 ORDER BY 1
SELECT 1 UNION ALL SELECT 1
SELECT id FROM customers INTERSECT SELECT customer_id FROM orders ORDER BY 1 LIMIT 3
SELECT id FROM customers INTERSECT ALL SELECT id FROM products ORDER BY 1
SELECT id FROM customers EXCEPT SELECT id::int FROM orders WHERE id < 25 ORDER BY 1
SELECT id FROM customers EXCEPT ALL SELECT 1 ORDER BY 1 LIMIT 2
SELECT 1 AS a, 'x' AS b UNION SELECT 2, NULL UNION ALL SELECT 3, 'y' ORDER BY a
SELECT 1 UNION SELECT 2 INTERSECT SELECT 2 EXCEPT SELECT 3
(SELECT 1 UNION SELECT 2) INTERSECT (SELECT 2 UNION SELECT 3)
SELECT NULL UNION SELECT 1::bigint
SELECT name FROM customers WHERE id = 1 UNION SELECT title FROM products WHERE id = 1 ORDER BY 1

-- subselects
SELECT (SELECT max(id) FROM customers), (SELECT name FROM customers WHERE id = 1)
SELECT ARRAY(SELECT id FROM customers WHERE id < 4 ORDER BY id DESC)
SELECT EXISTS (SELECT 1 FROM customers WHERE id = 99), NOT EXISTS (SELECT FROM person)
SELECT (SELECT c FROM customers c WHERE id = 1).name
SELECT c.id, (SELECT array_agg(o.id ORDER BY o.id) FROM orders o WHERE o.customer_id = c.id) FROM customers c WHERE c.id < 3 ORDER BY 1
SELECT * FROM (SELECT id, name FROM customers) AS s (number, called) WHERE number = 2
SELECT s.* FROM (SELECT DISTINCT state FROM orders) AS s ORDER BY 1
SELECT (1, 2) = (SELECT 1, 2), (1, 2) < ANY (SELECT 2, 1)
SELECT * FROM (SELECT * FROM (SELECT * FROM (SELECT 1 AS a) AS x) AS y) AS z
SELECT id FROM orders WHERE total = (SELECT max(total) FROM orders)
SELECT CASE WHEN EXISTS (SELECT 1 FROM orders WHERE state = 'lost') THEN 'some' ELSE 'none' END

-- samples, partitions, inheritance, views
SELECT count(*) >= 0 FROM customers TABLESAMPLE system (50)
SELECT count(*) FROM customers TABLESAMPLE bernoulli (100)
SELECT count(*) FROM customers AS c TABLESAMPLE bernoulli (40) REPEATABLE (7)
SELECT count(*) FROM measures
SELECT * FROM measures WHERE at = '2024-01-03' ORDER BY id
SELECT tableoid::regclass, count(*) FROM measures GROUP BY 1 ORDER BY 1
SELECT count(*) FROM measures WHERE at BETWEEN '2023-12-01' AND '2024-02-01' AND id IN (1, 2)
SELECT count(*) FROM ONLY measures
SELECT * FROM measures_2024_a ORDER BY at LIMIT 2
SELECT * FROM hashed WHERE k = 3
SELECT sum(m.value) FROM measures m JOIN measures n USING (id, at)
SELECT avg(value) OVER (PARTITION BY id ORDER BY at) FROM measures ORDER BY id, at LIMIT 2
SELECT * FROM person ORDER BY id
SELECT * FROM employee ORDER BY id
SELECT * FROM ONLY employee
SELECT * FROM active_customers WHERE feeling = 'happy' ORDER BY id
SELECT * FROM order_totals ORDER BY name LIMIT 2
SELECT name, total FROM nested_totals WHERE total > 100 ORDER BY 1 LIMIT 2
SELECT count(*) FROM invoker_totals
SELECT folded FROM app.logins ORDER BY 1 LIMIT 1
SELECT root, count(*) FROM ancestors GROUP BY root ORDER BY root
SELECT * FROM monthly ORDER BY month
SELECT count(*) FROM calm
SELECT * FROM unfilled --! error=55000
SELECT login FROM users ORDER BY id --! path=app
SELECT count(*) FROM "Order" --! path="Mixed Case",public
SELECT count(*) FROM logins l JOIN customers c ON c.id < 3 --! path=app,public
SELECT order_count(2) --! path=app,public
