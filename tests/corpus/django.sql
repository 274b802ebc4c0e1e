-- What Django sends: introspection, and the work of an application.

SELECT oid, typarray FROM pg_type WHERE typname = 'hstore'
BEGIN
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" WHERE "customers"."id" = 1 LIMIT 21
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" LIMIT 5
SELECT COUNT(*) AS "__count" FROM "customers" WHERE "customers"."active"
SELECT 1 AS "a" FROM "customers" WHERE UPPER("customers"."name"::text) LIKE UPPER('%a%') LIMIT 1
SELECT "orders"."id", "orders"."customer_id", "orders"."state", "orders"."total", "orders"."placed", "orders"."note", "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "orders" INNER JOIN "customers" ON ("orders"."customer_id" = "customers"."id") ORDER BY "orders"."placed" DESC LIMIT 3
SELECT "orders"."id", "orders"."customer_id", "orders"."state", "orders"."total", "orders"."placed", "orders"."note" FROM "orders" WHERE "orders"."customer_id" IN (1, 2, 3)
SELECT SUM("orders"."total") AS "total__sum", AVG("orders"."total") AS "total__avg", MAX("orders"."placed") AS "placed__max" FROM "orders"
SELECT "orders"."state" AS "state", COUNT("orders"."id") AS "n" FROM "orders" GROUP BY 1 ORDER BY 2 DESC
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" WHERE ("customers"."name"::text LIKE 'n%' OR NOT (NOT "customers"."active"))
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" WHERE "customers"."tags" @> (ARRAY['t1'])::text[]
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" WHERE "customers"."tags" && (ARRAY['t1', 'u1'])::text[]
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" WHERE CASE WHEN "customers"."tags" IS NULL THEN NULL ELSE coalesce(array_length("customers"."tags", 1), 0) END = 2
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" WHERE ("customers"."profile" -> 'lang') = '"en"'::jsonb
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" WHERE "customers"."profile" ? 'n'
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" WHERE "customers"."profile" @> '{"lang": "de"}'::jsonb
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" WHERE ("customers"."profile" #> '{list,0}') = '1'::jsonb
SELECT "orders"."id", "orders"."customer_id", "orders"."state", "orders"."total", "orders"."placed", "orders"."note" FROM "orders" WHERE "orders"."placed" BETWEEN '2024-01-01 00:00:00-06:00'::timestamptz AND '2024-12-31 23:59:59.999999-06:00'::timestamptz
SELECT "orders"."id", "orders"."customer_id", "orders"."state", "orders"."total", "orders"."placed", "orders"."note" FROM "orders" WHERE ("orders"."placed" AT TIME ZONE 'America/Chicago')::date > '2024-02-03'::date
SELECT DATE_TRUNC('month', "orders"."placed" AT TIME ZONE 'America/Chicago') AS "m", SUM("orders"."total") AS "s" FROM "orders" GROUP BY 1
SELECT "orders"."id", "orders"."customer_id", "orders"."state", "orders"."total", "orders"."placed", "orders"."note", ROW_NUMBER() OVER (PARTITION BY "orders"."customer_id" ORDER BY "orders"."placed") AS "r" FROM "orders"
SELECT * FROM ( SELECT "orders"."id" AS "col1", "orders"."customer_id" AS "col2", "orders"."state" AS "col3", "orders"."total" AS "col4", "orders"."placed" AS "col5", "orders"."note" AS "col6", RANK() OVER (ORDER BY "orders"."total" DESC) AS "r" FROM "orders" ) "qualify" WHERE "r" <= 3
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born", (SELECT U0."total" AS "total" FROM "orders" U0 WHERE U0."customer_id" = ("customers"."id") ORDER BY U0."placed" DESC LIMIT 1) AS "last" FROM "customers"
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" WHERE EXISTS(SELECT 1 AS "a" FROM "orders" U0 WHERE (U0."customer_id" = ("customers"."id") AND U0."total" > 100) LIMIT 1)
(SELECT "customers"."id" AS "id" FROM "customers") UNION (SELECT "orders"."id" AS "id" FROM "orders")
(SELECT "customers"."id" AS "id" FROM "customers") INTERSECT (SELECT "orders"."id" AS "id" FROM "orders")
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" ORDER BY LOWER("customers"."name") DESC, "customers"."created" ASC NULLS LAST
SELECT "products"."id", "products"."sku", "products"."title", "products"."price", to_tsvector(COALESCE("products"."title", '')) AS "s" FROM "products" WHERE to_tsvector(COALESCE("products"."title", '')) @@ (plainto_tsquery('product'))
SELECT "products"."id", "products"."sku", "products"."title", "products"."price", ts_rank(to_tsvector(COALESCE("products"."title", '')), plainto_tsquery('product')) AS "r" FROM "products" ORDER BY 5 DESC
SELECT "orders"."id", "orders"."customer_id", "orders"."state", "orders"."total", "orders"."placed", "orders"."note" FROM "orders" WHERE "orders"."id" = 1 FOR UPDATE
SELECT "orders"."id", "orders"."customer_id", "orders"."state", "orders"."total", "orders"."placed", "orders"."note", "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "orders" INNER JOIN "customers" ON ("orders"."customer_id" = "customers"."id") LIMIT 1 FOR UPDATE OF "orders" SKIP LOCKED
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" WHERE "customers"."id" IN (1, 2)
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" ORDER BY "customers"."created" ASC LIMIT 1
SELECT "customers"."id", "customers"."name" FROM "customers" WHERE "customers"."id" IN (1, 2, 3)
SELECT DISTINCT DATE_TRUNC('year', "customers"."born") AS "datefield" FROM "customers" WHERE "customers"."born" IS NOT NULL ORDER BY 1 ASC
SELECT DISTINCT DATE_TRUNC('month', "orders"."placed" AT TIME ZONE 'America/Chicago') AS "datetimefield" FROM "orders" WHERE "orders"."placed" IS NOT NULL ORDER BY 1 ASC
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" WHERE "customers"."name"::text ~ '^n.*1$'
SELECT "orders"."id", "orders"."customer_id", "orders"."state", "orders"."total", "orders"."placed", "orders"."note" FROM "orders" WHERE "orders"."total" BETWEEN 1 AND 50
SELECT "orders"."id", "orders"."customer_id", "orders"."state", "orders"."total", "orders"."placed", "orders"."note" FROM "orders" WHERE "orders"."total" > ("orders"."customer_id" * 2)
SELECT DISTINCT ON ("orders"."customer_id") "orders"."id", "orders"."customer_id", "orders"."state", "orders"."total", "orders"."placed", "orders"."note" FROM "orders" ORDER BY "orders"."customer_id" ASC, "orders"."placed" DESC
EXPLAIN SELECT "orders"."id", "orders"."customer_id", "orders"."state", "orders"."total", "orders"."placed", "orders"."note" FROM "orders"
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" ORDER BY RANDOM() ASC LIMIT 2
SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers" INNER JOIN "customers" T2 ON ("customers"."parent" = T2."id") WHERE T2."parent" IS NOT NULL
DECLARE "_django_curs_140695474203520_sync_1" NO SCROLL CURSOR FOR SELECT "customers"."id", "customers"."name", "customers"."active", "customers"."created", "customers"."parent", "customers"."tags", "customers"."profile", "customers"."born" FROM "customers"
UPDATE "orders" SET "total" = ("orders"."total" + 1) WHERE "orders"."id" = 1
INSERT INTO "orders" ("customer_id", "state", "total", "placed", "note") VALUES (1, 'new', 1, '2024-01-01 00:00:00+00:00'::timestamptz, NULL) RETURNING "orders"."id"
INSERT INTO "orders" ("customer_id", "state", "total", "placed", "note") SELECT * FROM UNNEST(('{1,1,1}'::int2[])::bigint[], ('{new,new,new}')::text[], ('{1,1,1}'::numeric[])::numeric[], ('{"2024-01-01 00:00:00+00:00","2024-01-01 00:00:00+00:00","2024-01-01 00:00:00+00:00"}'::timestamptz[])::timestamp with time zone[], ('{NULL,NULL,NULL}')::text[]) RETURNING "orders"."id"
SELECT "orders"."id", "orders"."customer_id", "orders"."state", "orders"."total", "orders"."placed", "orders"."note" FROM "orders" WHERE ("orders"."customer_id" = 1 AND "orders"."state" = 'new' AND "orders"."total" = 77) LIMIT 21
INSERT INTO "products" ("sku", "title", "price") VALUES ('sku-1', 'x', 1) ON CONFLICT DO NOTHING

            SELECT
                c.relname,
                CASE
                    WHEN c.relispartition THEN 'p'
                    WHEN c.relkind IN ('m', 'v') THEN 'v'
                    ELSE 't'
                END,
                obj_description(c.oid, 'pg_class')
            FROM pg_catalog.pg_class c
            LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v')
                AND n.nspname NOT IN ('pg_catalog', 'pg_toast')
                AND pg_catalog.pg_table_is_visible(c.oid)

            SELECT
                c.conname,
                array(
                    SELECT attname
                    FROM unnest(c.conkey) WITH ORDINALITY cols(colid, arridx)
                    JOIN pg_attribute AS ca ON cols.colid = ca.attnum
                    WHERE ca.attrelid = c.conrelid
                    ORDER BY cols.arridx
                ),
                c.contype,
                (SELECT fkc.relname || '.' || fka.attname
                FROM pg_attribute AS fka
                JOIN pg_class AS fkc ON fka.attrelid = fkc.oid
                WHERE fka.attrelid = c.confrelid AND fka.attnum = c.confkey[1]),
                cl.reloptions
            FROM pg_constraint AS c
            JOIN pg_class AS cl ON c.conrelid = cl.oid
            WHERE cl.relname = 'customers' AND pg_catalog.pg_table_is_visible(cl.oid)

            SELECT
                indexname,
                array_agg(attname ORDER BY arridx),
                indisunique,
                indisprimary,
                array_agg(ordering ORDER BY arridx),
                amname,
                exprdef,
                s2.attoptions
            FROM (
                SELECT
                    c2.relname as indexname, idx.*, attr.attname, am.amname,
                    CASE
                        WHEN idx.indexprs IS NOT NULL THEN
                            pg_get_indexdef(idx.indexrelid)
                    END AS exprdef,
                    CASE am.amname
                        WHEN 'btree' THEN
                            CASE (option & 1)
                                WHEN 1 THEN 'DESC' ELSE 'ASC'
                            END
                    END as ordering,
                    c2.reloptions as attoptions
                FROM (
                    SELECT *
                    FROM
                        pg_index i,
                        unnest(i.indkey, i.indoption)
                            WITH ORDINALITY koi(key, option, arridx)
                ) idx
                LEFT JOIN pg_class c ON idx.indrelid = c.oid
                LEFT JOIN pg_class c2 ON idx.indexrelid = c2.oid
                LEFT JOIN pg_am am ON c2.relam = am.oid
                LEFT JOIN
                    pg_attribute attr ON attr.attrelid = c.oid AND attr.attnum = idx.key
                WHERE c.relname = 'customers' AND pg_catalog.pg_table_is_visible(c.oid)
            ) s2
            GROUP BY indexname, indisunique, indisprimary, amname, exprdef, attoptions;

            SELECT a1.attname, c2.relname, a2.attname
            FROM pg_constraint con
            LEFT JOIN pg_class c1 ON con.conrelid = c1.oid
            LEFT JOIN pg_class c2 ON con.confrelid = c2.oid
            LEFT JOIN
                pg_attribute a1 ON c1.oid = a1.attrelid AND a1.attnum = con.conkey[1]
            LEFT JOIN
                pg_attribute a2 ON c2.oid = a2.attrelid AND a2.attnum = con.confkey[1]
            WHERE
                c1.relname = 'customers' AND
                con.contype = 'f' AND
                c1.relnamespace = c2.relnamespace AND
                pg_catalog.pg_table_is_visible(c1.oid)

            SELECT
                a.attname AS column_name,
                NOT (a.attnotnull OR (t.typtype = 'd' AND t.typnotnull)) AS is_nullable,
                pg_get_expr(ad.adbin, ad.adrelid) AS column_default,
                CASE WHEN collname = 'default' THEN NULL ELSE collname END AS collation,
                a.attidentity != '' AS is_autofield,
                col_description(a.attrelid, a.attnum) AS column_comment
            FROM pg_attribute a
            LEFT JOIN pg_attrdef ad ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum
            LEFT JOIN pg_collation co ON a.attcollation = co.oid
            JOIN pg_type t ON a.atttypid = t.oid
            JOIN pg_class c ON a.attrelid = c.oid
            JOIN pg_namespace n ON c.relnamespace = n.oid
            WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v')
                AND c.relname = 'customers'
                AND n.nspname NOT IN ('pg_catalog', 'pg_toast')
                AND pg_catalog.pg_table_is_visible(c.oid)
SELECT * FROM "customers" LIMIT 1

            SELECT
                s.relname AS sequence_name,
                a.attname AS colname
            FROM
                pg_class s
                JOIN pg_depend d ON d.objid = s.oid
                    AND d.classid = 'pg_class'::regclass
                    AND d.refclassid = 'pg_class'::regclass
                JOIN pg_attribute a ON d.refobjid = a.attrelid
                    AND d.refobjsubid = a.attnum
                JOIN pg_class tbl ON tbl.oid = d.refobjid
                    AND tbl.relname = 'customers'
                    AND pg_catalog.pg_table_is_visible(tbl.oid)
            WHERE
                s.relkind = 'S';
SELECT * FROM "orders" LIMIT 1
