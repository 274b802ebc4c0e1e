-- What ORMs send, in their manner: ActiveRecord, Hibernate, Prisma, GORM, Sequelize, TypeORM.

-- ActiveRecord
SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull, a.atttypid, a.atttypmod, c.collname, col_description(a.attrelid, a.attnum) AS comment, attidentity AS identity, attgenerated as attgenerated FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum LEFT JOIN pg_type t ON a.atttypid = t.oid LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation WHERE a.attrelid = '"customers"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
SELECT c.relname FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ANY (current_schemas(false)) AND c.relname = 'schema_migrations' AND c.relkind IN ('r','p')
SELECT a.attname FROM (SELECT indrelid, indkey, generate_subscripts(indkey, 1) idx FROM pg_index WHERE indrelid = '"customers"'::regclass AND indisprimary) i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[i.idx] ORDER BY i.idx
SELECT distinct i.relname, d.indisunique, d.indkey, pg_get_indexdef(d.indexrelid), pg_catalog.obj_description(i.oid, 'pg_class') AS comment, d.indisvalid FROM pg_class t INNER JOIN pg_index d ON t.oid = d.indrelid INNER JOIN pg_class i ON d.indexrelid = i.oid LEFT JOIN pg_namespace n ON n.oid = t.relnamespace WHERE i.relkind IN ('i', 'I') AND d.indisprimary = 'f' AND t.relname = 'customers' AND n.nspname = ANY (current_schemas(false)) ORDER BY i.relname
SELECT t2.oid::regclass::text AS to_table, a1.attname AS column, a2.attname AS primary_key, c.conname AS name, c.confupdtype AS on_update, c.confdeltype AS on_delete, c.convalidated AS valid FROM pg_constraint c JOIN pg_class t1 ON c.conrelid = t1.oid JOIN pg_class t2 ON c.confrelid = t2.oid JOIN pg_attribute a1 ON a1.attnum = c.conkey[1] AND a1.attrelid = t1.oid JOIN pg_attribute a2 ON a2.attnum = c.confkey[1] AND a2.attrelid = t2.oid WHERE c.contype = 'f' AND t1.relname = 'orders' ORDER BY c.conname
SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype, t.typbasetype FROM pg_type as t LEFT JOIN pg_range as r ON oid = rngtypid WHERE t.typname IN ('int2', 'int4', 'int8', 'oid', 'float4', 'float8', 'numeric', 'bool') ORDER BY 1
SELECT type.typname AS name, type.OID AS oid, n.nspname AS schema, string_agg(enum.enumlabel, ',' ORDER BY enum.enumsortorder) AS value FROM pg_enum AS enum JOIN pg_type AS type ON (type.oid = enum.enumtypid) JOIN pg_namespace n ON type.typnamespace = n.oid WHERE n.nspname = ANY (current_schemas(false)) GROUP BY type.OID, n.nspname, type.typname
SELECT "customers".* FROM "customers" WHERE "customers"."id" = $1 LIMIT $2 --! $=1|1
SELECT "customers".* FROM "customers" ORDER BY "customers"."id" ASC LIMIT $1 --! $=1
SELECT 1 AS one FROM "customers" WHERE "customers"."name" = $1 LIMIT $2 --! $=x|1
SELECT COUNT(*) FROM "orders" WHERE "orders"."customer_id" = $1 --! $=1
SELECT "orders".* FROM "orders" WHERE "orders"."customer_id" IN ($1, $2, $3) --! $=1|2|3
SELECT DISTINCT "customers"."id" FROM "customers" LEFT OUTER JOIN "orders" ON "orders"."customer_id" = "customers"."id" WHERE "orders"."state" = $1 ORDER BY 1 --! $=paid
SELECT "customers"."id" AS t0_r0, "customers"."name" AS t0_r1, "orders"."id" AS t1_r0, "orders"."total" AS t1_r1 FROM "customers" LEFT OUTER JOIN "orders" ON "orders"."customer_id" = "customers"."id" WHERE "customers"."id" = $1 --! $=2
SELECT COUNT(count_column) FROM (SELECT 1 AS count_column FROM "orders" LIMIT $1) subquery_for_count --! $=5
SELECT SUM("orders"."total") AS sum_total, "orders"."state" AS orders_state FROM "orders" GROUP BY "orders"."state" ORDER BY 2
SELECT "orders".* FROM "orders" WHERE "orders"."placed" BETWEEN $1 AND $2 AND NOT ("orders"."note" IS NULL) --! $=2024-02-01|2024-02-09
SELECT "customers".* FROM "customers" WHERE (name ILIKE '%5%') AND "customers"."active" = TRUE
SELECT "customers"."name" FROM "customers" WHERE "customers"."id" IN (SELECT "orders"."customer_id" FROM "orders" WHERE "orders"."total" > $1) --! $=500
SELECT "customers".* FROM "customers" WHERE "customers"."id" = $1 LIMIT $2 FOR UPDATE --! $=1|1
INSERT INTO "orders" ("customer_id", "state", "total", "placed") VALUES ($1, $2, $3, $4) RETURNING "id" --! $=1|new|3|2024-01-01
UPDATE "customers" SET "name" = $1 WHERE "customers"."id" = $2 --! $=x|1
UPDATE "orders" SET "total" = COALESCE("total", 0) + $1 WHERE "orders"."id" = $2 --! $=1|1
DELETE FROM "items" WHERE "items"."order_id" = $1 --! $=1
SELECT pg_try_advisory_lock(2053462845)
SELECT pg_advisory_unlock(2053462845)
SET client_min_messages TO 'warning'
SET standard_conforming_strings = on
SET SESSION timezone TO 'UTC'
SELECT extversion FROM pg_extension WHERE extname = 'plpgsql'
SELECT extname FROM pg_extension
SHOW max_identifier_length
TRUNCATE TABLE "items", "log" RESTART IDENTITY CASCADE
ALTER TABLE "orders" DISABLE TRIGGER ALL;ALTER TABLE "items" DISABLE TRIGGER ALL
SAVEPOINT active_record_1; RELEASE SAVEPOINT active_record_1

-- Hibernate
select c1_0.id, c1_0.active, c1_0.name from customers c1_0 where c1_0.id=$1 --! $=1
select o1_0.customer_id, o1_0.id, o1_0.state, o1_0.total from orders o1_0 where o1_0.customer_id=$1 --! $=1
select c1_0.id, c1_0.name, o1_0.customer_id, o1_0.id, o1_0.total from customers c1_0 left join orders o1_0 on c1_0.id=o1_0.customer_id where c1_0.id in ($1, $2) order by c1_0.id, o1_0.id --! $=1|2
select c1_0.id from customers c1_0 where lower(c1_0.name) like $1 escape '' order by c1_0.id offset $2 rows fetch first $3 rows only --! $=name%|1|2
select count(o1_0.id) from orders o1_0 where o1_0.total>(select avg(o2_0.total) from orders o2_0)
select o1_0.state, sum(o1_0.total), count(distinct o1_0.customer_id) from orders o1_0 group by o1_0.state having count(o1_0.id)>$1 order by 1 --! $=2
select c1_0.id from customers c1_0 where exists(select 1 from orders o1_0 where c1_0.id=o1_0.customer_id and o1_0.state=$1) --! $=sent
select o1_0.id, case when o1_0.total>100 then 'big' else 'small' end from orders o1_0 fetch first 3 rows only
select c1_0.id from customers c1_0 where array_position(c1_0.tags, $1)>0 --! $=t1
select distinct c1_0.feeling from customers c1_0 where c1_0.born<cast($1 as date) order by 1 --! $=1975-01-01
select c1_0.id, c1_0.name from customers c1_0 where c1_0.id=$1 for no key update --! $=1
select c1_0.id from customers c1_0 order by c1_0.id fetch first 1 rows only for no key update skip locked
select nextval('orders_id_seq')
select next_val from (select nextval('numbers') as next_val) as s
insert into orders (customer_id,state,total) values ($1,$2,$3) --! $=1|new|4
update customers set name=$1, active=$2 where id=$3 --! $=x|true|1
delete from items where order_id=$1 and product_id=$2 --! $=1|1
select sequence_name from information_schema.sequences
select * from information_schema.sequences
select tablename from pg_tables where schemaname = 'public' order by 1
select string_agg(o1_0.note, ',') within group (order by o1_0.id) from orders o1_0 --! error=42883
select listagg.x from (select string_agg(o.note, ',' order by o.id) as x from orders o) listagg
with recursive anc (id, parent) as (select c.id, c.parent from customers c where c.id = $1 union all select p.id, p.parent from customers p join anc a on a.parent = p.id) select id from anc order by id --! $=30
select t1.id,t1.name from customers t1 where (t1.id,t1.name) in (select t2.id,t2.name from customers t2 where t2.active) order by 1

-- Prisma
SELECT "public"."customers"."id", "public"."customers"."name", "public"."customers"."feeling"::text FROM "public"."customers" WHERE ("public"."customers"."id" = $1 AND 1=1) LIMIT $2 OFFSET $3 --! $=1|1|0
SELECT "public"."orders"."id", "public"."orders"."customer_id" FROM "public"."orders" WHERE "public"."orders"."customer_id" IN ($1,$2) OFFSET $3 --! $=1|2|0
SELECT COUNT(*) FROM (SELECT "public"."orders"."id" FROM "public"."orders" WHERE 1=1 OFFSET $1) AS "sub" --! $=0
SELECT COUNT(*), SUM("total"), AVG("total") FROM (SELECT "public"."orders"."id", "public"."orders"."total" FROM "public"."orders" WHERE 1=1 OFFSET $1) AS "sub" --! $=0
SELECT "t1"."id", "t1"."name", "customers_orders"."__prisma_data__" AS "orders" FROM "public"."customers" AS "t1" LEFT JOIN LATERAL (SELECT COALESCE(JSONB_AGG("__prisma_data__"), '[]') AS "__prisma_data__" FROM (SELECT "t3"."__prisma_data__" FROM (SELECT JSONB_BUILD_OBJECT('id', "t2"."id", 'total', "t2"."total") AS "__prisma_data__" FROM (SELECT "t2".* FROM "public"."orders" AS "t2" WHERE "t1"."id" = "t2"."customer_id") AS "t2") AS "t3") AS "t4") AS "customers_orders" ON TRUE WHERE "t1"."id" < $1 ORDER BY "t1"."id" --! $=4
SELECT "public"."customers"."id" FROM "public"."customers" WHERE ("public"."customers"."id") IN (SELECT "t1"."customer_id" FROM "public"."orders" AS "t1" WHERE ("t1"."state" = $1 AND "t1"."customer_id" IS NOT NULL)) ORDER BY "public"."customers"."id" ASC LIMIT $2 --! $=paid|3
SELECT "public"."customers"."id" FROM "public"."customers" WHERE ("public"."customers"."profile"#>ARRAY[$1]::text[])::jsonb = $2::jsonb --! $=lang|"en"
SELECT "public"."customers"."id" FROM "public"."customers" WHERE "public"."customers"."feeling" = CAST($1::text AS "public"."mood") ORDER BY 1 LIMIT 2 --! $=ok
SELECT 1 FROM "public"."customers" WHERE "public"."customers"."tags" @> $1 LIMIT 1 --! $={t1}
INSERT INTO "public"."orders" ("customer_id","total") VALUES ($1,$2) RETURNING "public"."orders"."id" --! $=1|5
UPDATE "public"."customers" SET "name" = $1 WHERE ("public"."customers"."id" = $2 AND 1=1) RETURNING "public"."customers"."id" --! $=x|1
DELETE FROM "public"."items" WHERE ("public"."items"."order_id" IN ($1) AND 1=1) --! $=1
SELECT namespace.nspname AS namespace, attr.attname AS column_name, format_type(attr.atttypid, attr.atttypmod) AS formatted_type, pg_get_expr(attdef.adbin, attdef.adrelid) AS column_default, info.* FROM pg_attribute attr JOIN pg_class cls ON cls.oid = attr.attrelid JOIN pg_namespace namespace ON namespace.oid = cls.relnamespace LEFT JOIN pg_attrdef attdef ON attdef.adrelid = attr.attrelid AND attdef.adnum = attr.attnum LEFT JOIN (SELECT table_name, column_name AS c2, data_type FROM information_schema.columns WHERE table_schema = 'public') info ON info.table_name = cls.relname AND info.c2 = attr.attname WHERE cls.relname = 'customers' AND attr.attnum > 0 ORDER BY attr.attnum
WITH rawindex AS (SELECT indrelid, indexrelid, indisunique, indisprimary, unnest(indkey) AS indkeyid, generate_subscripts(indkey, 1) AS indkeyidx, unnest(indclass) AS indclass, unnest(indoption) AS indoption FROM pg_index WHERE indpred IS NULL AND NOT indisexclusion) SELECT schemainfo.nspname, indexinfo.relname AS index_name, tableinfo.relname AS table_name, columninfo.attname AS column_name, rawindex.indisunique, CASE rawindex.indoption & 1 WHEN 1 THEN 'DESC' ELSE 'ASC' END AS column_order FROM rawindex JOIN pg_class AS tableinfo ON tableinfo.oid = rawindex.indrelid JOIN pg_class AS indexinfo ON indexinfo.oid = rawindex.indexrelid JOIN pg_namespace AS schemainfo ON schemainfo.oid = tableinfo.relnamespace LEFT JOIN pg_attribute AS columninfo ON columninfo.attrelid = tableinfo.oid AND columninfo.attnum = rawindex.indkeyid WHERE schemainfo.nspname = 'public' ORDER BY 1, 3, 2, rawindex.indkeyidx
SELECT EXISTS(SELECT 1 FROM pg_namespace WHERE nspname = $1), version(), current_setting('server_version_num')::integer as numeric_version --! $=public
SELECT pg_advisory_lock(72707369)
SELECT n.nspname AS namespace, t.typname AS name, array_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_type t JOIN pg_enum e ON t.oid = e.enumtypid JOIN pg_namespace n ON n.oid = t.typnamespace GROUP BY 1, 2
SELECT 1
SELECT $1 --! $=1

-- GORM
SELECT * FROM "customers" WHERE "customers"."id" = 1 ORDER BY "customers"."id" LIMIT 1
SELECT * FROM "orders" WHERE "orders"."customer_id" IN (1,2,3) AND state <> 'x'
SELECT count(*) FROM "customers" WHERE name = 'x' AND active IS NOT NULL
SELECT "name","id" FROM "customers" WHERE (name LIKE 'n%' OR active = true) AND NOT id = 3 ORDER BY id desc LIMIT 3 OFFSET 1
SELECT "orders"."id","orders"."total","Customer"."id" AS "Customer__id","Customer"."name" AS "Customer__name" FROM "orders" LEFT JOIN "customers" "Customer" ON "orders"."customer_id" = "Customer"."id" WHERE "orders"."id" = 1
SELECT CURRENT_DATABASE()
SELECT count(*) FROM information_schema.tables WHERE table_schema = CURRENT_SCHEMA() AND table_name = 'customers' AND table_type = 'BASE TABLE'
SELECT c.column_name, c.is_nullable = 'YES', c.udt_name, c.character_maximum_length, c.numeric_precision, c.numeric_precision_radix, c.numeric_scale, c.datetime_precision, 8 * typlen, c.column_default, pd.description, c.identity_increment FROM information_schema.columns AS c JOIN pg_type AS pgt ON c.udt_name = pgt.typname LEFT JOIN pg_catalog.pg_description as pd ON pd.objsubid = c.ordinal_position AND pd.objoid = (SELECT oid FROM pg_catalog.pg_class WHERE relname = c.table_name AND relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = c.table_schema)) where table_catalog = current_database() AND table_schema = CURRENT_SCHEMA() AND table_name = 'orders' ORDER BY c.ordinal_position
SELECT constraint_name FROM information_schema.table_constraints tc JOIN information_schema.constraint_column_usage AS ccu USING (constraint_schema, constraint_catalog, table_name, constraint_name) JOIN information_schema.columns AS c ON c.table_schema = tc.constraint_schema AND tc.table_name = c.table_name AND ccu.column_name = c.column_name WHERE constraint_type IN ('PRIMARY KEY', 'UNIQUE') AND c.table_name = 'orders'
SELECT a.attname as column_name, format_type(a.atttypid, a.atttypmod) AS data_type FROM pg_attribute a JOIN pg_class b ON a.attrelid = b.oid AND relnamespace = (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = CURRENT_SCHEMA()) WHERE a.attnum > 0 AND a.attisdropped = false AND b.relname = 'orders' ORDER BY a.attnum
INSERT INTO "orders" ("customer_id","total") VALUES (1,5),(2,6) ON CONFLICT DO NOTHING RETURNING "id"
UPDATE "customers" SET "name"='x',"active"=true WHERE "id" = 1
DELETE FROM "items" WHERE (order_id = 1 AND quantity > 0)
SELECT * FROM "customers" WHERE id = 1 FOR UPDATE NOWAIT
SELECT * FROM "customers" WHERE EXISTS (SELECT 1 FROM "orders" WHERE orders.customer_id = customers.id)
SELECT AVG(total) as average FROM "orders" GROUP BY "state" HAVING AVG(total) > (SELECT AVG(total) FROM "orders" WHERE state = 'new')

-- Sequelize
SELECT "id", "name", "active" FROM "customers" AS "Customer" WHERE "Customer"."id" = 1
SELECT count(*) AS "count" FROM "orders" AS "Order" WHERE "Order"."state" IN ('new', 'paid')
SELECT "Customer"."id", "Customer"."name", "orders"."id" AS "orders.id", "orders"."total" AS "orders.total" FROM "customers" AS "Customer" LEFT OUTER JOIN "orders" AS "orders" ON "Customer"."id" = "orders"."customer_id" AND "orders"."total" > 100 WHERE "Customer"."id" < 4 ORDER BY "Customer"."id", "orders"."id"
SELECT "Customer".*, "orders"."id" AS "orders.id" FROM (SELECT "Customer"."id" FROM "customers" AS "Customer" ORDER BY "Customer"."id" LIMIT 2) AS "Customer" LEFT OUTER JOIN "orders" AS "orders" ON "Customer"."id" = "orders"."customer_id" ORDER BY 1, 2
SELECT "state", sum("total") AS "total_sum" FROM "orders" AS "Order" GROUP BY "state" ORDER BY "total_sum" DESC
SELECT max("placed") AS "max" FROM "orders" AS "Order"
SELECT "id" FROM "customers" AS "Customer" WHERE "Customer"."name" ILIKE '%n%' AND ("Customer"."profile"#>>'{lang}') = 'en' ORDER BY "Customer"."created" DESC LIMIT 3
SELECT "id" FROM "customers" AS "Customer" WHERE ("Customer"."tags" @> ARRAY['t1']::TEXT[]) ORDER BY 1
SELECT "id" FROM "customers" AS "Customer" WHERE CAST(("Customer"."profile"#>>'{n}') AS DOUBLE PRECISION) > 25 ORDER BY 1
SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' AND table_type LIKE '%TABLE' AND table_name != 'spatial_ref_sys' ORDER BY 1
SELECT pk.constraint_type as "Constraint", c.column_name as "Field", c.column_default as "Default", c.is_nullable as "Null", (CASE WHEN c.udt_name = 'hstore' THEN c.udt_name ELSE c.data_type END) || (CASE WHEN c.character_maximum_length IS NOT NULL THEN '(' || c.character_maximum_length || ')' ELSE '' END) as "Type", (SELECT array_agg(e.enumlabel) FROM pg_catalog.pg_type t JOIN pg_catalog.pg_enum e ON t.oid = e.enumtypid WHERE t.typname = c.udt_name) AS "special" FROM information_schema.columns c LEFT JOIN (SELECT tc.table_schema, tc.table_name, cu.column_name, tc.constraint_type FROM information_schema.TABLE_CONSTRAINTS tc JOIN information_schema.KEY_COLUMN_USAGE cu ON tc.table_schema = cu.table_schema and tc.table_name = cu.table_name and tc.constraint_name = cu.constraint_name and tc.constraint_type = 'PRIMARY KEY') pk ON pk.table_schema = c.table_schema AND pk.table_name = c.table_name AND pk.column_name = c.column_name WHERE c.table_name = 'customers' AND c.table_schema = 'public' ORDER BY c.ordinal_position
SELECT i.relname AS name, ix.indisprimary AS primary, ix.indisunique AS unique, ix.indkey AS indkey, array_agg(a.attnum) as column_indexes, array_agg(a.attname) AS column_names, pg_get_indexdef(ix.indexrelid) AS definition FROM pg_class t, pg_class i, pg_index ix, pg_attribute a WHERE t.oid = ix.indrelid AND i.oid = ix.indexrelid AND a.attrelid = t.oid AND t.relkind = 'r' and t.relname = 'orders' GROUP BY i.relname, ix.indexrelid, ix.indisprimary, ix.indisunique, ix.indkey ORDER BY i.relname
SELECT 1+1 AS result
SHOW SERVER_VERSION
INSERT INTO "customers" ("id","name") VALUES (DEFAULT,$1) RETURNING "id","name" --! $=x
UPDATE "customers" SET "name"=$1 WHERE "id" = $2 RETURNING * --! $=x|1
DELETE FROM "items" WHERE ctid IN (SELECT ctid FROM "items" WHERE "order_id" = 1 LIMIT 1)
START TRANSACTION ISOLATION LEVEL REPEATABLE READ
CREATE TABLE IF NOT EXISTS "made" ("id" SERIAL, "name" VARCHAR(255), PRIMARY KEY ("id"))

-- TypeORM
SELECT "Customer"."id" AS "Customer_id", "Customer"."name" AS "Customer_name" FROM "customers" "Customer" WHERE (("Customer"."id" = $1)) LIMIT 1 --! $=1
SELECT DISTINCT "distinctAlias"."Customer_id" AS "ids_Customer_id" FROM (SELECT "Customer"."id" AS "Customer_id", "orders"."id" AS "orders_id" FROM "customers" "Customer" LEFT JOIN "orders" "orders" ON "orders"."customer_id" = "Customer"."id") "distinctAlias" ORDER BY "Customer_id" ASC LIMIT 3
SELECT COUNT(1) AS "cnt" FROM "orders" "Order" WHERE "Order"."state" = $1 --! $=paid
SELECT COUNT(DISTINCT("Customer"."id")) AS "cnt" FROM "customers" "Customer" INNER JOIN "orders" "o" ON "o"."customer_id" = "Customer"."id"
SELECT 1 AS "row_exists" FROM (SELECT 1 AS dummy_column) "dummy_table" WHERE EXISTS (SELECT 1 FROM "customers" "Customer" WHERE "Customer"."active" = $1) LIMIT 1 --! $=true
SELECT * FROM current_schema()
SELECT * FROM current_database()
SELECT version()
SELECT "table_schema", "table_name", obj_description(('"' || "table_schema" || '"."' || "table_name" || '"')::regclass, 'pg_class') AS table_comment FROM "information_schema"."tables" WHERE ("table_schema" = 'public' AND "table_name" = 'customers')
SELECT columns.*, pg_catalog.col_description(('"' || table_catalog || '"."' || table_schema || '"."' || table_name || '"')::regclass::oid, ordinal_position) AS description, ('"' || "udt_schema" || '"."' || "udt_name" || '"')::"regtype" AS "regtype", pg_catalog.format_type("col_attr"."atttypid", "col_attr"."atttypmod") AS "format_type" FROM "information_schema"."columns" LEFT JOIN "pg_catalog"."pg_attribute" AS "col_attr" ON "col_attr"."attname" = "columns"."column_name" AND "col_attr"."attrelid" = (SELECT "cls"."oid" FROM "pg_catalog"."pg_class" AS "cls" LEFT JOIN "pg_catalog"."pg_namespace" AS "ns" ON "ns"."oid" = "cls"."relnamespace" WHERE "cls"."relname" = "columns"."table_name" AND "ns"."nspname" = "columns"."table_schema") WHERE "table_schema" = 'public' AND "table_name" = 'contacts' ORDER BY ordinal_position
SELECT "ns"."nspname" AS "table_schema", "t"."relname" AS "table_name", "cnst"."conname" AS "constraint_name", pg_get_constraintdef("cnst"."oid") AS "expression", CASE "cnst"."contype" WHEN 'p' THEN 'PRIMARY' WHEN 'u' THEN 'UNIQUE' WHEN 'c' THEN 'CHECK' WHEN 'x' THEN 'EXCLUDE' END AS "constraint_type", "a"."attname" AS "column_name" FROM "pg_constraint" "cnst" INNER JOIN "pg_class" "t" ON "t"."oid" = "cnst"."conrelid" INNER JOIN "pg_namespace" "ns" ON "ns"."oid" = "cnst"."connamespace" LEFT JOIN "pg_attribute" "a" ON "a"."attrelid" = "cnst"."conrelid" AND "a"."attnum" = ANY ("cnst"."conkey") WHERE "t"."relkind" IN ('r', 'p') AND (("ns"."nspname" = 'public' AND "t"."relname" = 'orders')) ORDER BY 3, 6
SELECT "con"."conname" AS "constraint_name", "con"."nspname" AS "table_schema", "con"."relname" AS "table_name", "att2"."attname" AS "column_name", "cl"."relname" AS "referenced_table_name", "con"."confdeltype" AS "on_delete" FROM (SELECT UNNEST("con1"."conkey") AS "parent", UNNEST("con1"."confkey") AS "child", "con1"."confrelid", "con1"."conrelid", "con1"."conname", "con1"."contype", "ns"."nspname", "cl"."relname", "con1"."confdeltype" FROM "pg_class" "cl" INNER JOIN "pg_namespace" "ns" ON "cl"."relnamespace" = "ns"."oid" INNER JOIN "pg_constraint" "con1" ON "con1"."conrelid" = "cl"."oid" WHERE "con1"."contype" = 'f') "con" INNER JOIN "pg_attribute" "att" ON "att"."attrelid" = "con"."confrelid" AND "att"."attnum" = "con"."child" INNER JOIN "pg_class" "cl" ON "cl"."oid" = "con"."confrelid" INNER JOIN "pg_attribute" "att2" ON "att2"."attrelid" = "con"."conrelid" AND "att2"."attnum" = "con"."parent" ORDER BY 1, 4
SELECT "Order"."id", "Order"."total" FROM "orders" "Order" WHERE "Order"."placed" < now() AND "Order"."total" BETWEEN $1 AND $2 ORDER BY "Order"."placed" DESC NULLS LAST LIMIT 10 --! $=5|50
SELECT "o"."state" AS "state", SUM("o"."total") AS "sum" FROM "orders" "o" GROUP BY "o"."state" ORDER BY sum DESC
INSERT INTO "orders"("customer_id", "state", "total") VALUES ($1, DEFAULT, $2) RETURNING "id", "state" --! $=1|5
UPDATE "customers" SET "name" = $1, "created" = CURRENT_TIMESTAMP WHERE "id" IN ($2) --! $=x|1
DELETE FROM "items" WHERE "order_id" = $1 AND "product_id" = $2 --! $=1|1
SELECT "Customer"."id" FROM "customers" "Customer" WHERE "Customer"."id" = $1 FOR NO KEY UPDATE --! $=1
CREATE EXTENSION IF NOT EXISTS "plpgsql"
