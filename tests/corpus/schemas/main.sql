-- The database that the corpus is about: tables of an application, what PostgreSQL has of
-- everything, and what the traps need. It suits PostgreSQL 16 and later. There is a role
-- corpus_clerk.

CREATE SCHEMA app;
CREATE SCHEMA shadow;
CREATE SCHEMA "Mixed Case";
GRANT USAGE ON SCHEMA app, shadow, "Mixed Case" TO corpus_clerk;

-- --- what applications have

CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE TYPE address AS (street text, city text, zip int);
CREATE TYPE pair AS (x int, y int);
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN email AS text CHECK (VALUE ~ '@');
CREATE DOMAIN moods AS mood[];
CREATE TYPE floatrange AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE COLLATION german (provider = libc, locale = 'C');

CREATE TABLE customers (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL, mail email, born date,
    feeling mood DEFAULT 'ok', home address, tags text[] DEFAULT '{}', profile jsonb DEFAULT '{}',
    active boolean DEFAULT true, created timestamptz DEFAULT '2024-01-01', parent int REFERENCES customers
);
COMMENT ON TABLE customers IS 'who buys';
COMMENT ON COLUMN customers.name IS 'the whole name';
INSERT INTO customers (name, mail, born, feeling, home, tags, profile, active, created, parent)
SELECT 'name ' || i, 'c' || i || '@example.org', date '1970-01-01' + i * 97,
       (ARRAY['sad', 'ok', 'happy'])[i % 3 + 1]::mood, ROW('street ' || i, 'city ' || i % 4, 1000 + i)::address,
       ARRAY['t' || i % 5, 'u' || i % 3], jsonb_build_object('n', i, 'lang', (ARRAY['en', 'de'])[i % 2 + 1], 'list', jsonb_build_array(i, i + 1)),
       i % 4 > 0, timestamptz '2024-01-01 00:00+00' + i * interval '5 hours', nullif(i / 3, 0)
  FROM generate_series(1, 30) AS i;
CREATE INDEX customers_name ON customers (lower(name));
CREATE INDEX customers_active ON customers (created DESC) WHERE active;
CREATE INDEX customers_tags ON customers USING gin (tags);
CREATE STATISTICS customers_statistics ON active, feeling FROM customers;

CREATE TABLE products (id serial PRIMARY KEY, sku varchar(20) UNIQUE, title text, price numeric(10, 2) CHECK (price >= 0),
                       weight real, available int4range, spec json, doc tsvector,
                       gross numeric GENERATED ALWAYS AS (price * 1.2) STORED);
INSERT INTO products (sku, title, price, weight, available, spec, doc)
SELECT 'sku-' || i, 'product ' || i, i * 1.25, i / 3.0, int4range(i, i + 10), json_build_object('a', i), to_tsvector('english', 'the quick product ' || i || ' jumps')
  FROM generate_series(1, 25) AS i;
CREATE INDEX products_doc ON products USING gin (doc);
CREATE INDEX products_available ON products USING gist (available);

CREATE TABLE orders (id bigserial PRIMARY KEY, customer_id int NOT NULL REFERENCES customers ON DELETE CASCADE,
                     state text DEFAULT 'new' CONSTRAINT known_state CHECK (state IN ('new', 'paid', 'sent')), total numeric, placed timestamp, note text);
INSERT INTO orders (customer_id, state, total, placed, note)
SELECT i % 30 + 1, (ARRAY['new', 'paid', 'sent'])[i % 3 + 1], i * 10.5, timestamp '2024-02-01' + i * interval '7 hours', nullif('note ' || i % 7, 'note 0')
  FROM generate_series(1, 60) AS i;
CREATE INDEX orders_customer ON orders (customer_id, placed DESC) INCLUDE (total);
CREATE TABLE items (order_id bigint REFERENCES orders, product_id int REFERENCES products, quantity int DEFAULT 1, PRIMARY KEY (order_id, product_id));
INSERT INTO items SELECT i % 60 + 1, i % 25 + 1, i % 4 + 1 FROM generate_series(1, 150) AS i ON CONFLICT DO NOTHING;

CREATE TABLE app.users (id int PRIMARY KEY, login text UNIQUE, data jsonb, ip inet, mac macaddr, uid uuid, at point, area box, span tstzrange, spans int4multirange, bits bit(8), raw bytea, cash money);
INSERT INTO app.users SELECT i, 'user' || i, jsonb_build_object('k', i), ('10.0.0.' || i)::inet, '08:00:2b:01:02:03', ('00000000-0000-4000-8000-' || lpad(i::text, 12, '0'))::uuid,
       point(i, i), box(point(0, 0), point(i, i)), tstzrange('2024-01-01+00', timestamptz '2024-01-01+00' + i * interval '1 day'), int4multirange(int4range(i, i + 2), int4range(i + 5, i + 9)), i::bit(8), decode(lpad(to_hex(i), 2, '0'), 'hex'), i::numeric::money
  FROM generate_series(1, 12) AS i;
CREATE TABLE "Mixed Case"."Order" ("Id" int PRIMARY KEY, "select" text, "a""b" int, "Ünïcode" text);
INSERT INTO "Mixed Case"."Order" VALUES (1, 'x', 2, 'ü'), (2, 'y', 3, NULL);
CREATE TABLE contacts (id int PRIMARY KEY, places address[], mark positive, feelings moods, spread floatrange);
INSERT INTO contacts VALUES (1, ARRAY[ROW('a', 'b', 1)::address, ROW('c', 'd', 2)::address], 5, '{sad,ok}', '[1.5,2.5)'), (2, NULL, 7, NULL, 'empty');

CREATE TABLE measures (id int, at date NOT NULL, value float8) PARTITION BY RANGE (at);
CREATE TABLE measures_2023 PARTITION OF measures FOR VALUES FROM ('2023-01-01') TO ('2024-01-01');
CREATE TABLE measures_2024 PARTITION OF measures FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (id);
CREATE TABLE measures_2024_a PARTITION OF measures_2024 FOR VALUES IN (1, 2, 3);
CREATE TABLE measures_2024_b PARTITION OF measures_2024 DEFAULT;
CREATE TABLE measures_rest PARTITION OF measures DEFAULT;
INSERT INTO measures SELECT i % 5, date '2023-06-01' + i * 11, i / 7.0 FROM generate_series(1, 80) AS i;
CREATE INDEX measures_at ON measures (at);
CREATE TABLE hashed (k int, v text) PARTITION BY HASH (k);
CREATE TABLE hashed_0 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE hashed_1 PARTITION OF hashed FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO hashed SELECT i, 'v' || i FROM generate_series(1, 10) AS i;
CREATE TABLE person (id int, name text);
CREATE TABLE employee (salary numeric) INHERITS (person);
CREATE TABLE manager (bonus numeric) INHERITS (employee);
INSERT INTO person VALUES (1, 'a');
INSERT INTO employee VALUES (2, 'b', 10);
INSERT INTO manager VALUES (3, 'c', 20, 5);

CREATE VIEW active_customers AS SELECT id, name, feeling FROM customers WHERE active;
CREATE VIEW order_totals AS SELECT c.name, count(*) AS n, sum(o.total) AS total FROM customers c JOIN orders o ON o.customer_id = c.id GROUP BY c.name;
CREATE VIEW nested_totals WITH (security_barrier) AS SELECT * FROM order_totals WHERE n > 1;
CREATE VIEW invoker_totals WITH (security_invoker) AS SELECT * FROM nested_totals;
CREATE VIEW app.logins AS SELECT login, lower(login) AS folded, data ->> 'k' AS k FROM app.users;
CREATE RECURSIVE VIEW ancestors (id, root) AS SELECT id, id FROM customers WHERE parent IS NULL UNION ALL SELECT c.id, a.root FROM customers c JOIN ancestors a ON c.parent = a.id;
CREATE MATERIALIZED VIEW monthly AS SELECT date_trunc('month', placed) AS month, sum(total) AS total FROM orders GROUP BY 1;
CREATE UNIQUE INDEX monthly_month ON monthly (month);
CREATE SEQUENCE numbers CACHE 5;
SELECT nextval('numbers');
CREATE SEQUENCE app.counter AS int INCREMENT 2 MINVALUE 1 MAXVALUE 1000 CYCLE;
CREATE PUBLICATION everything FOR TABLE customers, orders;

CREATE FUNCTION vat(numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT $1 * 0.2';
CREATE FUNCTION vat(numeric, rate numeric) RETURNS numeric LANGUAGE sql IMMUTABLE RETURN $1 * rate;
CREATE FUNCTION app.order_count(customer int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM public.orders WHERE customer_id = customer';
CREATE FUNCTION orders_of(int) RETURNS SETOF orders LANGUAGE sql STABLE AS 'SELECT * FROM public.orders WHERE customer_id = $1';
CREATE FUNCTION describe(customers) RETURNS text LANGUAGE sql STABLE AS 'SELECT $1.name || '' of '' || ($1.home).city';
CREATE FUNCTION at_most(VARIADIC ints int[]) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT max(i) FROM unnest(ints) AS i';
CREATE FUNCTION with_defaults(a int, b int DEFAULT 2, c text DEFAULT 'x') RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT a || c || b';
CREATE FUNCTION swap(INOUT a int, INOUT b int) LANGUAGE sql IMMUTABLE AS 'SELECT b, a';
CREATE FUNCTION table_of(n int) RETURNS TABLE (i int, square int) LANGUAGE plpgsql STABLE AS $$ begin return query select g, g * g from generate_series(1, n) as g; end $$;
CREATE FUNCTION twice(anyelement) RETURNS anyarray LANGUAGE sql IMMUTABLE AS 'SELECT ARRAY[$1, $1]';
CREATE AGGREGATE product(numeric) (sfunc = numeric_mul, stype = numeric, initcond = '1');
CREATE FUNCTION money_of(pair) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1.x + $1.y';
CREATE CAST (pair AS int) WITH FUNCTION money_of(pair);
CREATE FUNCTION add_pairs(pair, pair) RETURNS pair LANGUAGE sql IMMUTABLE AS 'SELECT ROW($1.x + $2.x, $1.y + $2.y)::public.pair';
CREATE OPERATOR + (leftarg = pair, rightarg = pair, function = add_pairs, commutator = +);
CREATE FUNCTION nearly(float8, float8) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT abs($1 - $2) < 0.1';
CREATE OPERATOR ~~~ (leftarg = float8, rightarg = float8, function = nearly);
CREATE FUNCTION volatile_reader(int) RETURNS bigint LANGUAGE plpgsql AS $$ begin return (select count(*) from customers where id > $1); end $$;
CREATE PROCEDURE add_order(customer int, total numeric) LANGUAGE sql AS 'INSERT INTO orders (customer_id, total) VALUES (customer, total)';

CREATE FUNCTION touch_row() RETURNS trigger LANGUAGE plpgsql AS $$ begin new.note := coalesce(new.note, '') || '!'; return new; end $$;
CREATE TRIGGER orders_touch BEFORE UPDATE ON orders FOR EACH ROW WHEN (old.state IS DISTINCT FROM new.state) EXECUTE FUNCTION touch_row();
CREATE TABLE log (id bigserial PRIMARY KEY, what text, at timestamptz DEFAULT now());
CREATE RULE log_deletes AS ON DELETE TO products DO ALSO INSERT INTO log (what) VALUES ('deleted ' || old.sku);
CREATE RULE insert_active AS ON INSERT TO active_customers DO INSTEAD INSERT INTO customers (name) VALUES (new.name);

ALTER TABLE app.users ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON app.users FOR SELECT USING (login = current_user OR id < 5);
GRANT SELECT ON ALL TABLES IN SCHEMA public, app TO corpus_clerk;

SELECT lo_from_bytea(4711, '\x0102030405');
COMMENT ON LARGE OBJECT 4711 IS 'five bytes';

-- --- what writes

CREATE FUNCTION writer() RETURNS int LANGUAGE plpgsql AS $$ begin insert into public.log (what) values ('writer'); return 1; end $$;
CREATE FUNCTION writer(int) RETURNS int LANGUAGE plpgsql AS $$ begin insert into public.log (what) values ($1::text); return $1; end $$;
CREATE FUNCTION writer(text) RETURNS text LANGUAGE plpgsql AS $$ begin insert into public.log (what) values ($1); return $1; end $$;
CREATE FUNCTION truth() RETURNS boolean LANGUAGE plpgsql AS $$ begin insert into public.log (what) values ('truth'); return true; end $$;
CREATE FUNCTION writing_set(n int) RETURNS SETOF int LANGUAGE plpgsql AS $$ begin insert into public.log (what) values ('set'); return query select generate_series(1, n); end $$;
CREATE FUNCTION writing_sql(int) RETURNS bigint LANGUAGE sql AS 'INSERT INTO public.log (what) VALUES ($1::text) RETURNING id';
CREATE FUNCTION writing_atomic(a int) RETURNS bigint LANGUAGE sql BEGIN ATOMIC INSERT INTO public.log (what) VALUES (a::text) RETURNING id; END;
CREATE FUNCTION calls_writer(int) RETURNS int LANGUAGE sql AS 'SELECT public.writer($1)';
CREATE FUNCTION "Nextval"(text) RETURNS bigint LANGUAGE sql AS 'SELECT nextval($1::regclass)';
CREATE FUNCTION "Mixed Case"."Write Me"("An Argument" int) RETURNS int LANGUAGE sql AS 'SELECT public.writer($1)';
CREATE FUNCTION stable_nextval() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT nextval(''public.numbers'')';
CREATE FUNCTION immutable_nextval() RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ begin return nextval('public.numbers'); end $$;
CREATE FUNCTION stable_caller(int) RETURNS int LANGUAGE plpgsql STABLE AS $$ begin return public.writer($1); end $$;
CREATE FUNCTION immutable_caller(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ begin return public.writer($1); end $$;
CREATE FUNCTION stable_dynamic(text) RETURNS text LANGUAGE plpgsql STABLE AS $$ declare r text; begin execute 'select public.' || 'writer($1)' into r using $1; return r; end $$;
CREATE FUNCTION mixed(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION mixed(text) RETURNS text LANGUAGE plpgsql AS $$ begin perform public.writer($1); return $1; end $$;
CREATE FUNCTION defaulted(a int, b int DEFAULT public.writer(7)) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
CREATE FUNCTION many_defaults(a int DEFAULT 1, b int DEFAULT 2, c int DEFAULT 3) RETURNS int LANGUAGE plpgsql AS $$ begin return public.writer(a + b + c); end $$;
CREATE FUNCTION variadic_writer(VARIADIC int[]) RETURNS int LANGUAGE plpgsql AS $$ begin return public.writer($1[1]); end $$;
CREATE FUNCTION poly_writer(anyelement) RETURNS anyelement LANGUAGE plpgsql AS $$ begin perform public.writer(); return $1; end $$;
CREATE FUNCTION out_writer(IN a int, OUT b int, OUT c int) LANGUAGE plpgsql AS $$ begin b := public.writer(a); c := 2; end $$;
CREATE FUNCTION table_writer(n int) RETURNS TABLE (i int) LANGUAGE plpgsql AS $$ begin perform public.writer(n); return query select 1; end $$;
CREATE FUNCTION record_writer() RETURNS record LANGUAGE plpgsql AS $$ begin perform public.writer(); return row(1, 'a'::text); end $$;
-- Names that hide PostgreSQL's own where shadow comes before pg_catalog.
CREATE FUNCTION shadow.lower(text) RETURNS text LANGUAGE sql AS 'SELECT public.writer($1)';
CREATE FUNCTION shadow.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ begin perform public.writer(); return pg_catalog.now(); end $$;
CREATE FUNCTION shadow.int4_eq(int, int) RETURNS boolean LANGUAGE plpgsql AS $$ begin perform public.writer(); return $1 operator(pg_catalog.=) $2; end $$;
CREATE OPERATOR shadow.= (leftarg = int, rightarg = int, function = shadow.int4_eq);
CREATE OPERATOR shadow.<= (leftarg = int, rightarg = int, function = shadow.int4_eq);
CREATE OPERATOR shadow.>= (leftarg = int, rightarg = int, function = shadow.int4_eq);
CREATE OPERATOR shadow.<> (leftarg = int, rightarg = int, function = shadow.int4_eq);
CREATE FUNCTION shadow.text_like(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ begin perform public.writer(); return true; end $$;
CREATE OPERATOR shadow.~~ (leftarg = text, rightarg = text, function = shadow.text_like);
CREATE OPERATOR shadow.~ (leftarg = text, rightarg = text, function = shadow.text_like);
CREATE TABLE shadow.customers (id int, name text);
INSERT INTO shadow.customers VALUES (1, 'shadow');
CREATE VIEW shadow.orders AS SELECT public.writer(1) AS id;
CREATE VIEW shadow.pg_class AS SELECT public.writer(1) AS oid, 'x'::text AS relname;
CREATE FUNCTION shadow.vat(numeric) RETURNS numeric LANGUAGE sql AS 'SELECT public.writer(1)::numeric';
CREATE FUNCTION shadow.either(int) RETURNS int LANGUAGE sql AS 'SELECT public.writer($1)';
CREATE FUNCTION app.either(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE DOMAIN shadow.positive AS int CHECK (public.writer(VALUE) > 0);
CREATE FUNCTION shadow.count(int) RETURNS int LANGUAGE sql AS 'SELECT public.writer($1)';

-- Operators, casts, types.
CREATE FUNCTION shout(text) RETURNS text LANGUAGE sql AS 'SELECT public.writer($1)';
CREATE OPERATOR !!! (rightarg = text, function = shout);
CREATE TABLE pairs (id int, p pair);
INSERT INTO pairs VALUES (1, ROW(1, 2)), (2, ROW(3, 4));
CREATE TYPE ticket AS (number int);
CREATE FUNCTION ticket_text(ticket) RETURNS text LANGUAGE sql AS 'SELECT public.writer($1.number::text)';
CREATE FUNCTION ticket_int(ticket) RETURNS int LANGUAGE sql AS 'SELECT public.writer($1.number)';
CREATE FUNCTION int_ticket(int) RETURNS ticket LANGUAGE sql AS 'SELECT ROW(public.writer($1))::public.ticket';
CREATE CAST (int AS ticket) WITH FUNCTION int_ticket(int);
CREATE TABLE tickets (id int, t ticket);
INSERT INTO tickets VALUES (1, ROW(11)), (2, ROW(12));
CREATE DOMAIN checked AS int CHECK (public.writer(VALUE) IS NOT NULL);
CREATE DOMAIN checked_twice AS checked CHECK (VALUE < 1000);
CREATE TYPE holds_checked AS (a int, b checked);
CREATE FUNCTION touch(customers) RETURNS int LANGUAGE sql AS 'SELECT public.writer($1.id)';
CREATE FUNCTION mark(pairs) RETURNS int LANGUAGE plpgsql AS $$ begin return public.writer($1.id); end $$;
CREATE FUNCTION tally(bigint, int) RETURNS bigint LANGUAGE plpgsql AS $$ begin perform public.writer($2); return $1 + $2; end $$;
CREATE AGGREGATE writing_sum(int) (sfunc = tally, stype = bigint, initcond = '0');
CREATE FUNCTION last_act(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT $1 + public.writer(1)';
CREATE AGGREGATE writing_end(bigint) (sfunc = int8pl, stype = bigint, initcond = '0', finalfunc = last_act);
CREATE AGGREGATE writing_rank(VARIADIC "any" ORDER BY VARIADIC "any") (sfunc = ordered_set_transition_multi, stype = internal, finalfunc = rank_final, finalfunc_extra, hypothetical);

-- What a call runs besides the function: its defaults, and the checks of the types it takes.
CREATE FUNCTION numbered(a int, n bigint DEFAULT nextval('public.numbers')) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
CREATE FUNCTION labelled_atomic(a int) RETURNS int LANGUAGE sql STABLE BEGIN ATOMIC SELECT public.writer(a); END;
CREATE FUNCTION takes_checked(checked) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE FUNCTION takes_twice(a int, b checked_twice DEFAULT NULL) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + coalesce($2, 0)';
CREATE FUNCTION takes_holding(holds_checked) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT ($1).b + 1';
CREATE FUNCTION takes_checked_array(VARIADIC checked[]) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT cardinality($1)';
CREATE FUNCTION gives_checked(int) RETURNS checked LANGUAGE plpgsql STABLE AS $$ begin return $1; end $$;
CREATE OPERATOR ??? (rightarg = checked, function = takes_checked);
CREATE TABLE checked_rows (id int, c checked);
INSERT INTO checked_rows VALUES (1, 5);
CREATE FUNCTION post(address) RETURNS int LANGUAGE sql AS 'SELECT public.writer($1.zip)';
CREATE SCHEMA corpus_clerk;
GRANT USAGE ON SCHEMA corpus_clerk TO corpus_clerk;
CREATE FUNCTION corpus_clerk.vat(numeric) RETURNS numeric LANGUAGE sql AS 'SELECT public.writer(1)::numeric';
CREATE VIEW corpus_clerk.orders AS SELECT public.writer(2) AS id;
GRANT SELECT ON corpus_clerk.orders TO corpus_clerk;

-- Views.
CREATE VIEW writing_view AS SELECT public.writer(1) AS w;
CREATE VIEW over_writing_view AS SELECT w + 1 AS w FROM writing_view;
CREATE VIEW far_over AS SELECT * FROM (SELECT w FROM over_writing_view UNION ALL SELECT 1) AS u;
CREATE VIEW filtered AS SELECT id FROM customers WHERE public.truth();
CREATE VIEW barrier_writer WITH (security_barrier) AS SELECT id, public.writer(id) AS w FROM customers WHERE id < 3;
CREATE VIEW invoker_writer WITH (security_invoker) AS SELECT id, public.writer(id) AS w FROM customers WHERE id < 3;
CREATE VIEW next_number AS SELECT nextval('numbers') AS n;
CREATE VIEW locking_view AS SELECT id, name FROM customers WHERE id = 1 FOR UPDATE;
CREATE VIEW over_locking AS SELECT name FROM locking_view;
CREATE VIEW operator_view AS SELECT !!! name AS loud FROM customers WHERE id = 1;
CREATE VIEW cast_view AS SELECT id::ticket AS t FROM customers WHERE id = 1;
CREATE VIEW domain_view AS SELECT id::checked AS c FROM customers WHERE id = 1;
CREATE VIEW aggregate_view AS SELECT writing_sum(id) AS s FROM customers WHERE id < 3;
CREATE VIEW stable_view AS SELECT stable_nextval() AS n;
CREATE VIEW lock_view AS SELECT pid, mode FROM pg_locks;
CREATE VIEW sequence_view AS SELECT last_value FROM numbers;
CREATE VIEW advisory_view AS SELECT pg_try_advisory_lock(42) AS locked;
CREATE VIEW takes_view AS SELECT takes_checked(5) AS t;
CREATE VIEW default_view AS SELECT defaulted(1) AS d;
CREATE VIEW settings_view AS SELECT set_config('app.x', 'y', false) AS s;
CREATE VIEW attribute_view AS SELECT c.touch FROM customers AS c WHERE c.id = 1;
CREATE VIEW lateral_view AS SELECT c.id, l.w FROM customers c, LATERAL (SELECT public.writer(c.id) AS w) AS l WHERE c.id = 1;
CREATE MATERIALIZED VIEW calm AS SELECT w FROM writing_view;
CREATE MATERIALIZED VIEW unfilled AS SELECT 1 AS a WITH NO DATA;
CREATE VIEW over_calm AS SELECT w FROM calm;

-- What a standby has not.
CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY, what text);
INSERT INTO fleeting VALUES (1, 'a');
CREATE VIEW over_fleeting AS SELECT id FROM fleeting;
CREATE VIEW calm_over_fleeting AS SELECT c.id FROM customers c LEFT JOIN over_fleeting f USING (id);
CREATE UNLOGGED SEQUENCE fleeting_numbers;
CREATE TABLE partly (k int, v text) PARTITION BY LIST (k);
CREATE TABLE partly_1 PARTITION OF partly FOR VALUES IN (1);
CREATE UNLOGGED TABLE partly_2 PARTITION OF partly FOR VALUES IN (2);
INSERT INTO partly VALUES (1, 'a'), (2, 'b');
CREATE TABLE heir (id int);
CREATE UNLOGGED TABLE heir_child () INHERITS (heir);
INSERT INTO heir_child VALUES (1);
CREATE FUNCTION reads_fleeting() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM public.fleeting';
CREATE FUNCTION reads_fleeting_row(int) RETURNS text LANGUAGE plpgsql STABLE AS $$ begin return (select what from public.fleeting where id = $1); end $$;
CREATE FUNCTION reads_locks() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT last_value FROM public.numbers';
CREATE MATERIALIZED VIEW filled_from_fleeting AS SELECT id FROM fleeting;
CREATE FOREIGN DATA WRAPPER nothing;
CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing;
CREATE FOREIGN TABLE far_away (id int, name text) SERVER nowhere;
CREATE VIEW over_far_away AS SELECT id FROM far_away;

-- Labelled better than they are, and what is made of such.
CREATE FUNCTION stable_shout(text) RETURNS text LANGUAGE plpgsql STABLE AS $$ begin return public.WRITER($1); end $$;
CREATE OPERATOR !!~ (rightarg = text, function = stable_shout);
CREATE FUNCTION stable_operator(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT OPERATOR(public.!!~) $1';
CREATE FUNCTION stable_tally(bigint, int) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$ begin perform public . writer /* here */ ($2); return $1; end $$;
CREATE AGGREGATE stable_sum(int) (sfunc = stable_tally, stype = bigint, initcond = '0');
CREATE TYPE coupon AS (number int);
CREATE FUNCTION int_coupon(int) RETURNS coupon LANGUAGE plpgsql STABLE AS $$ begin return row("public"."writer"($1))::public.coupon; end $$;
CREATE CAST (int AS coupon) WITH FUNCTION int_coupon(int);
CREATE FUNCTION stable_cast(int) RETURNS text LANGUAGE plpgsql STABLE AS $$ begin return ($1::public.coupon)::text; end $$;
CREATE DOMAIN stably_checked AS int CHECK (public.stable_caller(VALUE) IS NOT NULL);
CREATE FUNCTION takes_stably_checked(stably_checked) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + 1';
CREATE FUNCTION stably_defaulted(a int, b int DEFAULT public.stable_caller(7)) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT $1 + $2';
CREATE FUNCTION stable_atomic(a int) RETURNS int LANGUAGE sql STABLE BEGIN ATOMIC SELECT public.stable_caller(a); END;
CREATE FUNCTION atomic_nextval() RETURNS bigint LANGUAGE sql STABLE BEGIN ATOMIC SELECT nextval('public.numbers'); END;
CREATE FUNCTION stable_quoted(int) RETURNS int LANGUAGE plpgsql STABLE AS $$ begin return "Mixed Case"."Write Me"($1); end $$;
CREATE FUNCTION stable_format(int) RETURNS int LANGUAGE plpgsql STABLE AS $$ declare r int; begin execute format('select public.%I($1)', 'writer') into r using $1; return r; end $$;
CREATE FUNCTION stable_column(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT c.touch FROM public.customers AS c WHERE id = $1';
CREATE FUNCTION stable_touch(customers) RETURNS int LANGUAGE plpgsql STABLE AS $$ begin return public.writer($1.id); end $$;
CREATE FUNCTION stable_path(int) RETURNS int LANGUAGE plpgsql STABLE SET search_path = corpus_clerk, public AS $$ begin return vat($1); end $$;
CREATE FUNCTION stable_reader() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM public.far_over';
CREATE FUNCTION stable_chain(int) RETURNS int LANGUAGE plpgsql STABLE AS $$ begin if $1 > 0 then return public.stable_chain($1 - 1); end if; return public.stable_caller($1); end $$;
CREATE FUNCTION named_writer() RETURNS text LANGUAGE sql STABLE AS 'SELECT name AS writer FROM public.customers AS nextval WHERE id = 1';
CREATE FUNCTION factorial(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ begin return case when $1 < 2 then 1 else $1 * public.factorial($1 - 1) end; end $$;
CREATE FUNCTION calls_factorial(int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT public.factorial($1) + 1';

-- Policies that do more than look.
CREATE TABLE guarded (id int, owner text);
INSERT INTO guarded VALUES (1, 'corpus_clerk'), (2, 'x');
ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
ALTER TABLE guarded FORCE ROW LEVEL SECURITY;
CREATE POLICY watched ON guarded USING (public.truth() AND owner <> 'x');
CREATE VIEW over_guarded WITH (security_invoker) AS SELECT id FROM guarded;
CREATE TABLE calmly_guarded (id int, owner text);
INSERT INTO calmly_guarded VALUES (1, 'corpus_clerk'), (2, 'x');
ALTER TABLE calmly_guarded ENABLE ROW LEVEL SECURITY;
CREATE POLICY mine ON calmly_guarded USING (owner = current_user);
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO corpus_clerk;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO corpus_clerk;

-- In the manner of extensions.
CREATE FUNCTION dblink(text) RETURNS SETOF record LANGUAGE plpgsql AS $$ begin perform public.writer($1); return query select 1; end $$;
CREATE FUNCTION dblink_exec(text, text) RETURNS text LANGUAGE plpgsql AS $$ begin execute $2; return 'OK'; end $$;
CREATE FUNCTION run_sql(text) RETURNS void LANGUAGE plpgsql AS $$ begin execute $1; end $$;
CREATE PROCEDURE write_and_commit() LANGUAGE plpgsql AS $$ begin insert into public.log (what) values ('p'); commit; end $$;
CREATE PROCEDURE out_procedure(INOUT a int) LANGUAGE plpgsql AS $$ begin a := public.writer(a); end $$;
CREATE PROCEDURE does_nothing() LANGUAGE sql AS 'SELECT 1';
ANALYZE;
