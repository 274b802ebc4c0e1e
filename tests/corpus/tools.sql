-- What drivers, browsers of databases, BI tools and monitors ask the catalogues, in their manner.

-- JDBC: DatabaseMetaData
SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, c.relname AS TABLE_NAME, CASE n.nspname ~ '^pg_' OR n.nspname = 'information_schema' WHEN true THEN CASE WHEN n.nspname = 'pg_catalog' OR n.nspname = 'information_schema' THEN CASE c.relkind WHEN 'r' THEN 'SYSTEM TABLE' WHEN 'v' THEN 'SYSTEM VIEW' ELSE NULL END ELSE NULL END WHEN false THEN CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'p' THEN 'PARTITIONED TABLE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' END ELSE NULL END AS TABLE_TYPE, d.description AS REMARKS FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_description d ON (c.oid = d.objoid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass) WHERE c.relnamespace = n.oid AND n.nspname LIKE 'public' AND c.relname LIKE 'cust%' ORDER BY TABLE_TYPE, TABLE_SCHEM, TABLE_NAME
SELECT * FROM (SELECT n.nspname, c.relname, a.attname, a.atttypid, a.attnotnull OR (t.typtype = 'd' AND t.typnotnull) AS attnotnull, a.atttypmod, a.attlen, t.typtypmod, row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum) AS attnum, nullif(a.attidentity, '') AS attidentity, nullif(a.attgenerated, '') AS attgenerated, pg_catalog.pg_get_expr(def.adbin, def.adrelid) AS adsrc, dsc.description, t.typbasetype, t.typtype FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON (c.relnamespace = n.oid) JOIN pg_catalog.pg_attribute a ON (a.attrelid = c.oid) JOIN pg_catalog.pg_type t ON (a.atttypid = t.oid) LEFT JOIN pg_catalog.pg_attrdef def ON (a.attrelid = def.adrelid AND a.attnum = def.adnum) LEFT JOIN pg_catalog.pg_description dsc ON (c.oid = dsc.objoid AND a.attnum = dsc.objsubid) WHERE c.relkind IN ('r', 'p', 'v', 'f', 'm') AND a.attnum > 0 AND NOT a.attisdropped AND c.relname LIKE 'orders') c WHERE true ORDER BY nspname, c.relname, attnum
SELECT result.TABLE_CAT, result.COLUMN_NAME, result.KEY_SEQ FROM (SELECT NULL AS TABLE_CAT, a.attname AS COLUMN_NAME, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, i.indkey AS KEYS, a.attnum AS A_ATTNUM FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid) JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid) WHERE ct.relname = 'items' AND i.indisprimary) result WHERE result.A_ATTNUM = (result.KEYS).x ORDER BY 2 --! error=42809
SELECT result.COLUMN_NAME, result.KEY_SEQ FROM (SELECT a.attname AS COLUMN_NAME, (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, information_schema._pg_expandarray(i.indkey) AS KEYS, a.attnum AS A_ATTNUM FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON (ct.oid = a.attrelid) JOIN pg_catalog.pg_index i ON (a.attrelid = i.indrelid) WHERE ct.relname = 'items' AND i.indisprimary) result WHERE result.A_ATTNUM = (result.KEYS).x ORDER BY 2
SELECT NULL::text AS PKTABLE_CAT, pkn.nspname AS PKTABLE_SCHEM, pkc.relname AS PKTABLE_NAME, pka.attname AS PKCOLUMN_NAME, fkc.relname AS FKTABLE_NAME, fka.attname AS FKCOLUMN_NAME, pos.n AS KEY_SEQ, CASE con.confupdtype WHEN 'c' THEN 0 WHEN 'n' THEN 2 ELSE 3 END AS UPDATE_RULE, con.conname AS FK_NAME FROM pg_catalog.pg_namespace pkn, pg_catalog.pg_class pkc, pg_catalog.pg_attribute pka, pg_catalog.pg_class fkc, pg_catalog.pg_attribute fka, pg_catalog.pg_constraint con, pg_catalog.generate_series(1, 32) pos (n) WHERE pkn.oid = pkc.relnamespace AND pkc.oid = pka.attrelid AND pka.attnum = con.confkey[pos.n] AND con.confrelid = pkc.oid AND fkc.oid = fka.attrelid AND fka.attnum = con.conkey[pos.n] AND con.conrelid = fkc.oid AND con.contype = 'f' AND fkc.relname = 'items' ORDER BY 2, 3, 9, 7
SELECT NULL AS TABLE_CAT, n.nspname AS TABLE_SCHEM, ct.relname AS TABLE_NAME, NOT i.indisunique AS NON_UNIQUE, ci.relname AS INDEX_NAME, CASE i.indisclustered WHEN true THEN 1 ELSE CASE am.amname WHEN 'hash' THEN 2 ELSE 3 END END AS TYPE, trim(BOTH '"' FROM pg_catalog.pg_get_indexdef(ci.oid, 1, false)) AS COLUMN_NAME, ci.reltuples AS CARDINALITY, pg_catalog.pg_get_expr(i.indpred, i.indrelid) AS FILTER_CONDITION FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_namespace n ON (ct.relnamespace = n.oid) JOIN pg_catalog.pg_index i ON (ct.oid = i.indrelid) JOIN pg_catalog.pg_class ci ON (ci.oid = i.indexrelid) JOIN pg_catalog.pg_am am ON (ci.relam = am.oid) WHERE ct.relname = 'customers' ORDER BY 5
SELECT nspname AS TABLE_SCHEM, NULL AS TABLE_CATALOG FROM pg_catalog.pg_namespace WHERE nspname <> 'pg_toast' AND (nspname !~ '^pg_temp_' OR nspname = (pg_catalog.current_schemas(true))[1]) AND (nspname !~ '^pg_toast_temp_' OR nspname = replace((pg_catalog.current_schemas(true))[1], 'pg_temp_', 'pg_toast_temp_')) ORDER BY TABLE_SCHEM
SELECT datname AS TABLE_CAT FROM pg_catalog.pg_database WHERE datallowconn = true ORDER BY datname
SELECT t.typname, t.oid FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON (t.typnamespace = n.oid) WHERE n.nspname != 'pg_toast' AND (t.typrelid = 0 OR (SELECT c.relkind = 'c' FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid)) ORDER BY 2 LIMIT 50
SELECT typinput = 'pg_catalog.array_in'::regproc AS is_array, typtype, typname, pg_type.oid FROM pg_catalog.pg_type LEFT JOIN (SELECT ns.oid AS nspoid, ns.nspname, r.r FROM pg_namespace AS ns JOIN (SELECT s.r, (current_schemas(false))[s.r] AS nspname FROM generate_series(1, array_upper(current_schemas(false), 1)) AS s (r)) AS r USING (nspname)) AS sp ON sp.nspoid = typnamespace WHERE typname = 'mood' ORDER BY sp.r, pg_type.oid DESC
SELECT pg_type.oid, typname FROM pg_catalog.pg_type LEFT JOIN (SELECT ns.oid AS nspoid, ns.nspname, r.r FROM pg_namespace AS ns JOIN (SELECT s.r, (current_schemas(false))[s.r] AS nspname FROM generate_series(1, array_upper(current_schemas(false), 1)) AS s (r)) AS r USING (nspname)) AS sp ON sp.nspoid = typnamespace WHERE typname = $1 ORDER BY sp.r, pg_type.oid DESC LIMIT 1 --! $=address
SELECT e.typdelim FROM pg_catalog.pg_type t, pg_catalog.pg_type e WHERE t.oid = $1 AND t.typelem = e.oid --! $=1007
SELECT p.proname AS PROCEDURE_NAME, n.nspname AS PROCEDURE_SCHEM, d.description AS REMARKS, p.proname || '_' || p.oid AS SPECIFIC_NAME FROM pg_catalog.pg_namespace n, pg_catalog.pg_proc p LEFT JOIN pg_catalog.pg_description d ON (p.oid = d.objoid) LEFT JOIN pg_catalog.pg_class c ON (d.classoid = c.oid AND c.relname = 'pg_proc') WHERE p.pronamespace = n.oid AND n.nspname = 'app' AND p.prokind = 'f' ORDER BY 2, 1, p.oid::text
SELECT nspname, relname, attname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE a.attrelid = 'customers'::regclass AND a.attnum = 1
SELECT c.oid, a.attnum, a.attname, c.relname, n.nspname, a.attnotnull OR (t.typtype = 'd' AND t.typnotnull), a.attidentity != '' OR pg_catalog.pg_get_expr(d.adbin, d.adrelid) LIKE '%nextval(%' FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON (c.relnamespace = n.oid) JOIN pg_catalog.pg_attribute a ON (c.oid = a.attrelid) JOIN pg_catalog.pg_type t ON (a.atttypid = t.oid) LEFT JOIN pg_catalog.pg_attrdef d ON (d.adrelid = a.attrelid AND d.adnum = a.attnum) JOIN (SELECT 1259 AS oid, 1 AS attnum UNION ALL SELECT 1259, 2) vals ON (c.oid = vals.oid AND a.attnum = vals.attnum)
SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_index_keys'
SELECT string_agg(word, ',') FROM pg_catalog.pg_get_keywords() WHERE word <> ALL ('{a,abs,all}'::text[])
SELECT typlen FROM pg_catalog.pg_type t, pg_catalog.pg_namespace n WHERE t.typnamespace = n.oid AND t.typname = 'name' AND n.nspname = 'pg_catalog'
SELECT rolname FROM pg_catalog.pg_roles ORDER BY 1 LIMIT 3
SELECT nspname AS TABLE_SCHEM, relname AS TABLE_NAME, c.relacl FROM pg_catalog.pg_namespace n, pg_catalog.pg_class c, pg_catalog.pg_roles r WHERE c.relnamespace = n.oid AND c.relowner = r.oid AND c.relkind IN ('r', 'p') AND n.nspname = 'app' ORDER BY 1, 2
SHOW TRANSACTION ISOLATION LEVEL
SET extra_float_digits = 3
SET application_name = 'PostgreSQL JDBC Driver'

-- Npgsql, asyncpg, psycopg: types
SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid FROM (SELECT typ.oid, typ.typnamespace, typ.typname, typ.typtype, typ.typrelid, typ.typnotnull, typ.relkind, elemtyp.oid AS elemtypoid, CASE WHEN elemproc.proname = 'array_recv' THEN 'a' ELSE elemtyp.typtype END AS elemtyptype FROM (SELECT typ.oid, typnamespace, typname, typrelid, typnotnull, relkind, typelem AS elemoid, CASE WHEN proc.proname = 'array_recv' THEN 'a' ELSE typ.typtype END AS typtype, CASE WHEN proc.proname = 'array_recv' THEN typ.typelem WHEN typ.typtype = 'r' THEN rngsubtype WHEN typ.typtype = 'd' THEN typ.typbasetype END AS elemtypoid FROM pg_type AS typ LEFT JOIN pg_class AS cls ON (cls.oid = typ.typrelid) LEFT JOIN pg_proc AS proc ON proc.oid = typ.typreceive LEFT JOIN pg_range ON (pg_range.rngtypid = typ.oid)) AS typ LEFT JOIN pg_type AS elemtyp ON elemtyp.oid = elemtypoid LEFT JOIN pg_proc AS elemproc ON elemproc.oid = elemtyp.typreceive) AS t JOIN pg_namespace AS ns ON (ns.oid = typnamespace) WHERE typtype IN ('b', 'r', 'm', 'e', 'd') ORDER BY t.oid LIMIT 40
SELECT typ.oid, att.attname, att.atttypid FROM pg_type AS typ JOIN pg_namespace AS ns ON (ns.oid = typ.typnamespace) JOIN pg_class AS cls ON (cls.oid = typ.typrelid) JOIN pg_attribute AS att ON (att.attrelid = typ.typrelid) WHERE (typ.typtype = 'c' AND cls.relkind = 'c') AND attnum > 0 AND NOT attisdropped ORDER BY typ.oid, att.attnum
SELECT pg_type.oid, enumlabel FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid ORDER BY oid, enumsortorder
WITH RECURSIVE typeinfo_tree (oid, ns, name, kind, basetype, elemtype, depth) AS (SELECT t.oid, t.typnamespace, t.typname, t.typtype, t.typbasetype, t.typelem, 0 FROM pg_catalog.pg_type t WHERE t.oid = any($1::oid[]) UNION ALL SELECT t.oid, t.typnamespace, t.typname, t.typtype, t.typbasetype, t.typelem, tt.depth + 1 FROM pg_catalog.pg_type t, typeinfo_tree tt WHERE tt.elemtype > 0 AND t.oid = tt.elemtype) SELECT DISTINCT *, basetype::regtype::text AS basetype_name, elemtype::regtype::text FROM typeinfo_tree ORDER BY depth DESC --! $={1007,1009}
SELECT typname AS name, oid, typarray AS array_oid, oid::regtype::text AS regtype, typdelim AS delimiter FROM pg_type t WHERE t.oid = to_regtype($1) ORDER BY t.oid --! $=mood
SELECT t.typname AS name, t.oid, t.typarray, coalesce(a.fnames, '{}') AS field_names, coalesce(a.ftypes, '{}') AS field_types FROM pg_type t LEFT JOIN (SELECT attrelid, array_agg(attname) AS fnames, array_agg(atttypid) AS ftypes FROM (SELECT a.attrelid, a.attname, a.atttypid FROM pg_attribute a JOIN pg_type t ON t.typrelid = a.attrelid WHERE t.oid = to_regtype('address') AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum) x GROUP BY attrelid) a ON a.attrelid = t.typrelid WHERE t.oid = to_regtype('address')
SELECT b.oid, b.typarray, n.oid, r.rngsubtype FROM pg_catalog.pg_type b LEFT JOIN pg_catalog.pg_type n ON n.oid = b.typarray JOIN pg_catalog.pg_range r ON r.rngtypid = b.oid ORDER BY 1
select version()
SELECT current_setting('server_version_num')::int >= 90000

-- information_schema
SELECT * FROM information_schema.schemata ORDER BY schema_name
SELECT table_schema, table_name, table_type FROM information_schema.tables WHERE table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1, 2
SELECT column_name, data_type, udt_name, is_nullable, column_default, character_maximum_length, numeric_precision FROM information_schema.columns WHERE table_schema = 'public' AND table_name = 'products' ORDER BY ordinal_position
SELECT tc.constraint_name, tc.constraint_type, kcu.column_name FROM information_schema.table_constraints tc JOIN information_schema.key_column_usage kcu USING (constraint_schema, constraint_name) WHERE tc.table_name = 'orders' ORDER BY 1, 3
SELECT rc.constraint_name, ccu.table_name, rc.delete_rule FROM information_schema.referential_constraints rc JOIN information_schema.constraint_column_usage ccu ON ccu.constraint_name = rc.unique_constraint_name ORDER BY 1
SELECT table_name, view_definition IS NOT NULL FROM information_schema.views WHERE table_schema = 'public' ORDER BY 1
SELECT routine_name, data_type FROM information_schema.routines WHERE routine_schema = 'app' ORDER BY 1
SELECT parameter_name, data_type FROM information_schema.parameters WHERE specific_schema = 'public' ORDER BY specific_name, ordinal_position LIMIT 20
SELECT sequence_name, start_value, increment FROM information_schema.sequences ORDER BY 1
SELECT trigger_name, event_manipulation, action_timing FROM information_schema.triggers ORDER BY 1, 2
SELECT domain_name, data_type FROM information_schema.domains WHERE domain_schema = 'public' ORDER BY 1
SELECT grantee, privilege_type FROM information_schema.role_table_grants WHERE table_name = 'customers' ORDER BY 1, 2
SELECT udt_name, attribute_name FROM information_schema.attributes WHERE udt_schema = 'public' ORDER BY 1, ordinal_position
SELECT collation_name FROM information_schema.collations WHERE collation_schema = 'public'
SELECT check_clause FROM information_schema.check_constraints WHERE constraint_name = 'known_state'
SELECT element_types.data_type FROM information_schema.element_types WHERE object_name = 'customers'
SELECT foreign_table_name FROM information_schema.foreign_tables
SELECT view_name, table_name FROM information_schema.view_table_usage WHERE view_schema = 'app'
SELECT * FROM information_schema.sql_features WHERE is_supported = 'YES' LIMIT 3
SELECT * FROM information_schema.enabled_roles
SELECT count(*) FROM information_schema.columns c JOIN information_schema.tables t USING (table_schema, table_name) WHERE t.table_type = 'BASE TABLE' AND table_schema = 'public'
SELECT catalog_name FROM information_schema.information_schema_catalog_name

-- pgAdmin and DBeaver
SELECT db.oid AS did, db.datname, db.datallowconn, pg_encoding_to_char(db.encoding) AS serverencoding, has_database_privilege(db.oid, 'CREATE') AS cancreate, datistemplate FROM pg_catalog.pg_database db WHERE db.datname = current_database()
SELECT gss_authenticated, encrypted FROM pg_catalog.pg_stat_gssapi WHERE pid = pg_backend_pid()
SELECT roles.oid AS id, roles.rolname AS name, roles.rolsuper AS is_superuser, CASE WHEN roles.rolsuper THEN true ELSE roles.rolcreaterole END AS can_create_role, CASE WHEN pg_catalog.pg_has_role(roles.rolname, 'pg_signal_backend', 'MEMBER') THEN true ELSE false END AS can_signal_backend FROM pg_catalog.pg_roles AS roles WHERE rolname = current_user
SELECT nsp.oid, nsp.nspname AS name, has_schema_privilege(nsp.oid, 'CREATE') AS can_create, has_schema_privilege(nsp.oid, 'USAGE') AS has_usage, des.description FROM pg_catalog.pg_namespace nsp LEFT OUTER JOIN pg_catalog.pg_description des ON (des.objoid = nsp.oid AND des.classoid = 'pg_namespace'::regclass) WHERE nspname NOT LIKE E'pg\\_%' AND NOT ((nsp.nspname = 'pg_catalog' AND EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'pg_class' AND relnamespace = nsp.oid LIMIT 1)) OR (nsp.nspname = 'information_schema' AND EXISTS (SELECT 1 FROM pg_catalog.pg_class WHERE relname = 'tables' AND relnamespace = nsp.oid LIMIT 1))) ORDER BY nspname
SELECT rel.oid, rel.relname AS name, (SELECT count(*) FROM pg_catalog.pg_trigger WHERE tgrelid = rel.oid AND tgisinternal = FALSE) AS triggercount, (SELECT count(1) FROM pg_catalog.pg_inherits WHERE inhrelid = rel.oid LIMIT 1) AS is_inherits, rel.relispartition FROM pg_catalog.pg_class rel WHERE rel.relkind IN ('r', 's', 't', 'p') AND rel.relnamespace = 'public'::regnamespace ORDER BY rel.relname
SELECT att.attname AS name, att.*, def.*, pg_catalog.pg_get_expr(def.adbin, def.adrelid) AS defval, CASE WHEN att.attndims > 0 THEN 1 ELSE 0 END AS isarray, format_type(ty.oid, NULL) AS typname, format_type(ty.oid, att.atttypmod) AS displaytypname, tn.nspname AS typnspname FROM pg_catalog.pg_attribute att JOIN pg_catalog.pg_type ty ON ty.oid = atttypid JOIN pg_catalog.pg_namespace tn ON tn.oid = ty.typnamespace LEFT OUTER JOIN pg_catalog.pg_attrdef def ON adrelid = att.attrelid AND adnum = att.attnum WHERE att.attrelid = 'customers'::regclass AND att.attnum > 0 AND att.attisdropped IS FALSE ORDER BY att.attnum
SELECT pr.oid, pr.proname || '(' || coalesce(pg_catalog.pg_get_function_identity_arguments(pr.oid), '') || ')' AS name, lanname, pg_catalog.pg_get_userbyid(proowner) AS funcowner FROM pg_catalog.pg_proc pr JOIN pg_catalog.pg_type typ ON typ.oid = prorettype JOIN pg_catalog.pg_language lng ON lng.oid = prolang WHERE pr.prokind IN ('f', 'w') AND pronamespace = 'app'::regnamespace ORDER BY proname
SELECT pid, datname, usename, application_name, client_addr, backend_start, state, wait_event_type || ': ' || wait_event AS wait_event, query FROM pg_catalog.pg_stat_activity WHERE datname = current_database() ORDER BY pid
SELECT 'session_stats' AS chart_name, pg_catalog.row_to_json(t) AS chart_data FROM (SELECT (SELECT count(*) FROM pg_catalog.pg_stat_activity) AS "Total", (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE state = 'active') AS "Active") t UNION ALL SELECT 'tps_stats', pg_catalog.row_to_json(t) FROM (SELECT (SELECT sum(xact_commit) + sum(xact_rollback) FROM pg_catalog.pg_stat_database) AS "Transactions") t
SELECT x.* FROM (SELECT pg_catalog.pg_get_viewdef('order_totals'::regclass, true) AS definition, pg_catalog.pg_get_ruledef(r.oid) FROM pg_catalog.pg_rewrite r WHERE r.ev_class = 'order_totals'::regclass) x
SELECT c.oid, c.*, t.relname AS tabrelname, rt.relnamespace AS refnamespace, d.description, case when c.contype = 'c' then "substring"(pg_get_constraintdef(c.oid), 7) else null end consrc_copy FROM pg_catalog.pg_constraint c INNER JOIN pg_catalog.pg_class t ON t.oid = c.conrelid LEFT OUTER JOIN pg_catalog.pg_class rt ON rt.oid = c.confrelid LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_constraint'::regclass WHERE c.conrelid = 'orders'::regclass ORDER BY c.oid
SELECT c.oid, c.*, d.description, pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS partition_expr, pg_catalog.pg_get_partkeydef(c.oid) AS partition_key FROM pg_catalog.pg_class c LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass WHERE c.relnamespace = 'public'::regnamespace AND c.relkind NOT IN ('i', 'I', 'c') ORDER BY c.relname
SELECT t.oid, t.*, c.relkind, format_type(nullif(t.typbasetype, 0), t.typtypmod) AS base_type_name, d.description FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid = t.typelem LEFT OUTER JOIN pg_catalog.pg_class c ON c.oid = t.typrelid LEFT OUTER JOIN pg_catalog.pg_description d ON t.oid = d.objoid WHERE t.typname IS NOT NULL AND (c.relkind IS NULL OR c.relkind = 'c') AND (et.typcategory IS NULL OR et.typcategory <> 'C') ORDER BY t.oid LIMIT 30
SELECT a.oid, a.*, pd.description FROM pg_catalog.pg_roles a LEFT JOIN pg_catalog.pg_shdescription pd ON a.oid = pd.objoid ORDER BY a.rolname
select c.oid, pg_catalog.pg_total_relation_size(c.oid) as total_rel_size, pg_catalog.pg_relation_size(c.oid) as rel_size FROM pg_class c WHERE c.relnamespace = 'app'::regnamespace AND c.relkind = 'r'
SELECT i.*, i.indkey as keys, c.relname, c.relnamespace, c.relam, c.reltablespace, tc.relname as tabrelname, dsc.description, pg_catalog.pg_get_expr(i.indpred, i.indrelid) as pred_expr, pg_catalog.pg_get_expr(i.indexprs, i.indrelid, true) as expr, pg_catalog.pg_relation_size(i.indexrelid) as index_rel_size, pg_catalog.pg_stat_get_numscans(i.indexrelid) as index_num_scans FROM pg_catalog.pg_index i INNER JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid INNER JOIN pg_catalog.pg_class tc ON tc.oid = i.indrelid LEFT OUTER JOIN pg_catalog.pg_description dsc ON i.indexrelid = dsc.objoid WHERE i.indrelid = 'orders'::regclass ORDER BY tabrelname, c.relname
SELECT pg_catalog.pg_get_triggerdef(tgoid) FROM (SELECT oid AS tgoid FROM pg_catalog.pg_trigger WHERE NOT tgisinternal) t
SELECT p.polname, p.polpermissive, CASE WHEN p.polroles = '{0}' THEN NULL ELSE array_to_string(array(SELECT rolname FROM pg_catalog.pg_roles WHERE oid = ANY (p.polroles) ORDER BY 1), ',') END, pg_catalog.pg_get_expr(p.polqual, p.polrelid), CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN '*' THEN NULL END AS cmd FROM pg_catalog.pg_policy p ORDER BY 1
SELECT db.datname, pg_catalog.shobj_description(db.oid, 'pg_database'), pg_catalog.pg_tablespace_location(db.dattablespace) FROM pg_catalog.pg_database db ORDER BY 1
SELECT count(1) AS count FROM public.customers
SELECT * FROM public.customers ORDER BY id ASC LIMIT 1000
SELECT x.* FROM public.orders x ORDER BY x.placed DESC
select * from pg_catalog.pg_extension order by extname
SELECT DISTINCT dep.deptype, dep.classid, cl.relkind, ad.adbin, coalesce(coc.relname, clrw.relname) AS ownertable FROM pg_depend dep LEFT JOIN pg_class cl ON dep.objid = cl.oid LEFT JOIN pg_attribute att ON dep.objid = att.attrelid AND dep.objsubid = att.attnum LEFT JOIN pg_rewrite rw ON dep.objid = rw.oid LEFT JOIN pg_class clrw ON clrw.oid = rw.ev_class LEFT JOIN pg_constraint co ON dep.objid = co.oid LEFT JOIN pg_class coc ON co.conrelid = coc.oid LEFT JOIN pg_attrdef ad ON ad.oid = dep.objid WHERE dep.refobjid = 'customers'::regclass ORDER BY 1, 2
SELECT pg_catalog.pg_describe_object(classid, objid, objsubid), deptype FROM pg_catalog.pg_depend WHERE refobjid = 'mood'::regtype ORDER BY 1
SELECT (pg_catalog.aclexplode(relacl)).privilege_type, (pg_catalog.aclexplode(relacl)).grantee::regrole FROM pg_catalog.pg_class WHERE relname = 'customers' AND relnamespace = 'public'::regnamespace
SELECT has_table_privilege('corpus_clerk', 'customers', 'SELECT'), has_column_privilege('customers', 'name', 'UPDATE'), has_sequence_privilege('numbers', 'USAGE'), has_type_privilege('mood', 'USAGE'), has_any_column_privilege('customers', 'REFERENCES'), row_security_active('guarded')
SELECT obj_description('customers'::regclass, 'pg_class'), col_description('customers'::regclass, 2), pg_get_userbyid(10), pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'known_state'
SELECT pg_get_functiondef('vat(numeric)'::regprocedure), pg_get_function_result('vat(numeric)'::regprocedure), pg_get_function_arg_default('with_defaults(int,int,text)'::regprocedure, 2), pg_get_statisticsobjdef(oid) FROM pg_statistic_ext
SELECT pg_identify_object('pg_class'::regclass, 'customers'::regclass, 0), pg_identify_object_as_address('pg_class'::regclass, 'customers'::regclass, 0), pg_get_object_address('table', '{customers}', '{}')
SELECT * FROM pg_partition_tree('measures') ORDER BY level, relid::text
SELECT * FROM pg_partition_ancestors('measures_2024_a')
SELECT pg_get_indexdef('customers_name'::regclass), pg_index_column_has_property('customers_name'::regclass, 1, 'asc'), pg_index_has_property('customers_name'::regclass, 'clusterable'), pg_indexam_has_property(403, 'can_order')

-- Metabase, Superset, Grafana
SELECT "public"."orders"."state" AS "state", date_trunc('month', "public"."orders"."placed") AS "placed", count(*) AS "count" FROM "public"."orders" GROUP BY "public"."orders"."state", date_trunc('month', "public"."orders"."placed") ORDER BY "public"."orders"."state" ASC, date_trunc('month', "public"."orders"."placed") ASC
SELECT "source"."substring1" AS "x", "source"."n" FROM (SELECT substring("public"."customers"."name", 1, 1234) AS "substring1", "public"."customers"."id" AS "n" FROM "public"."customers" LIMIT 10000) AS "source" ORDER BY 2
SELECT CAST("public"."orders"."placed" AS date) AS "placed", sum("public"."orders"."total") AS "sum", SUM(CASE WHEN "public"."orders"."state" = 'paid' THEN 1 ELSE 0.0 END) / CAST(COUNT(*) AS DOUBLE PRECISION) AS "share" FROM "public"."orders" LEFT JOIN "public"."customers" AS "Customers" ON "public"."orders"."customer_id" = "Customers"."id" WHERE "Customers"."active" = TRUE AND "public"."orders"."placed" >= timestamp '2024-02-01 00:00' GROUP BY CAST("public"."orders"."placed" AS date) ORDER BY 1
SELECT (FLOOR((("public"."orders"."total" - 0.0) / 100.0)) * 100.0) + 0.0 AS "total", COUNT(*) AS "count" FROM "public"."orders" GROUP BY 1 ORDER BY 1
SELECT count(distinct "public"."orders"."state") AS "count" FROM "public"."orders"
/* Metabase:: userID: 1 queryType: MBQL queryHash: abc */ SELECT "public"."products"."id" AS "id", "public"."products"."title" FROM "public"."products" LIMIT 2000
SELECT "c"."column_name" AS "name", CASE WHEN "c"."udt_schema" IN ('public', 'pg_catalog') THEN FORMAT('%s', "c"."udt_name") ELSE FORMAT('"%s"."%s"', "c"."udt_schema", "c"."udt_name") END AS "database-type", "c"."ordinal_position" - 1 AS "database-position", "pk"."column_name" IS NOT NULL AS "pk?" FROM "information_schema"."columns" AS "c" LEFT JOIN (SELECT "tc"."table_schema", "tc"."table_name", "kc"."column_name" FROM "information_schema"."table_constraints" AS "tc" INNER JOIN "information_schema"."key_column_usage" AS "kc" ON ("tc"."constraint_name" = "kc"."constraint_name") AND ("tc"."table_schema" = "kc"."table_schema") WHERE "tc"."constraint_type" = 'PRIMARY KEY') AS "pk" ON ("c"."table_name" = "pk"."table_name") AND ("c"."column_name" = "pk"."column_name") WHERE c.table_schema !~ '^information_schema|catalog_history|pg_' AND c.table_name IN ('orders') ORDER BY "c"."table_schema", "c"."ordinal_position"
with table_privileges as (select NULL as role, t.schemaname as schema, t.objectname as table, pg_catalog.has_any_column_privilege(current_user, '"' || replace(t.schemaname, '"', '""') || '"' || '.' || '"' || replace(t.objectname, '"', '""') || '"', 'update') as update from (select schemaname, tablename as objectname from pg_catalog.pg_tables union select schemaname, viewname as objectname from pg_views union select schemaname, matviewname from pg_matviews) t where t.schemaname !~ '^pg_' and t.schemaname <> 'information_schema' and pg_catalog.has_schema_privilege(current_user, t.schemaname, 'usage')) select t.* from table_privileges t order by 2, 3
SELECT DATE_TRUNC('day', placed) AS __timestamp, state AS state, SUM(total) AS "SUM(total)" FROM public.orders JOIN (SELECT state AS state__, SUM(total) AS mme_inner__ FROM public.orders WHERE placed >= TO_TIMESTAMP('2024-02-01 00:00:00.000000', 'YYYY-MM-DD HH24:MI:SS.US') GROUP BY state ORDER BY mme_inner__ DESC LIMIT 25) AS anon_1 ON state = state__ GROUP BY DATE_TRUNC('day', placed), state ORDER BY "SUM(total)" DESC LIMIT 10000
SELECT min(placed) AS mindate, max(placed) AS maxdate FROM (SELECT * FROM orders WHERE state <> 'x') AS virtual_table
SELECT floor(extract(epoch FROM placed) / 3600) * 3600 AS "time", state AS metric, avg(total) AS "total" FROM orders WHERE placed BETWEEN '2024-02-01T00:00:00Z' AND '2024-02-20T00:00:00Z' GROUP BY 1, 2 ORDER BY 1, 2
SELECT extract(epoch from placed) as time_sec, total as value FROM orders WHERE extract(epoch from placed) >= 0 ORDER BY placed ASC
SELECT CASE WHEN quote_ident(table_schema) IN (SELECT CASE WHEN trim(s[i]) = '"$user"' THEN user ELSE trim(s[i]) END FROM generate_series(array_lower(string_to_array(current_setting('search_path'), ','), 1), array_upper(string_to_array(current_setting('search_path'), ','), 1)) AS i, string_to_array(current_setting('search_path'), ',') AS s) THEN quote_ident(table_name) ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS "table" FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog') ORDER BY 1
SELECT quote_ident(column_name) AS "column", data_type AS "type" FROM information_schema.columns WHERE quote_ident(table_name) = 'orders' ORDER BY 1
SELECT PERCENTILE_CONT(0.95) WITHIN GROUP (ORDER BY total) AS p95, width_bucket(total, 0, 700, 7) AS bucket FROM orders GROUP BY 2 ORDER BY 2
WITH "final" AS (SELECT "customer_id", row_number() OVER (PARTITION BY "customer_id" ORDER BY "placed") AS "__rn" FROM "orders") SELECT count(*) FROM "final" WHERE "__rn" = 1
SELECT date_part('dow', placed)::int AS dow, date_part('hour', placed)::int AS hour, count(*) FROM orders GROUP BY 1, 2 ORDER BY 1, 2
SELECT state, sum(total) AS total, round(100.0 * sum(total) / sum(sum(total)) OVER (), 2) AS percent FROM orders GROUP BY ROLLUP (state) ORDER BY 1
SELECT d::date AS day, coalesce(sum(o.total), 0) AS total FROM generate_series('2024-02-01'::date, '2024-02-10'::date, interval '1 day') AS d LEFT JOIN orders o ON o.placed::date = d::date GROUP BY 1 ORDER BY 1
SELECT c.feeling, count(*) FILTER (WHERE o.state = 'paid') AS paid, count(DISTINCT c.id) AS buyers FROM customers c LEFT JOIN orders o ON o.customer_id = c.id GROUP BY c.feeling ORDER BY 1

-- monitors
SELECT * FROM pg_stat_activity
SELECT state, count(*) FROM pg_stat_activity GROUP BY state
SELECT max(extract(epoch FROM now() - xact_start)) FROM pg_stat_activity WHERE state = 'idle in transaction'
SELECT * FROM pg_stat_database WHERE datname = current_database()
SELECT sum(blks_hit) / nullif(sum(blks_hit + blks_read), 0) FROM pg_stat_database
SELECT relname, seq_scan, idx_scan, n_live_tup, n_dead_tup, last_autovacuum FROM pg_stat_user_tables ORDER BY relname
SELECT indexrelname, idx_scan FROM pg_stat_user_indexes WHERE idx_scan = 0 ORDER BY 1
SELECT relname, heap_blks_read, heap_blks_hit FROM pg_statio_user_tables ORDER BY 1
SELECT * FROM pg_stat_bgwriter
SELECT * FROM pg_stat_archiver
SELECT * FROM pg_stat_wal
SELECT * FROM pg_stat_slru ORDER BY name
SELECT * FROM pg_stat_io WHERE backend_type = 'client backend'
SELECT application_name, state, sync_state FROM pg_stat_replication
SELECT pid, status FROM pg_stat_wal_receiver
SELECT * FROM pg_stat_ssl WHERE pid = pg_backend_pid()
SELECT * FROM pg_stat_progress_vacuum
SELECT * FROM pg_stat_progress_create_index
SELECT * FROM pg_stat_database_conflicts ORDER BY datname
SELECT * FROM pg_stat_user_functions
SELECT * FROM pg_stat_xact_user_tables ORDER BY relname LIMIT 2
SELECT * FROM pg_stat_checkpointer --! since=17
SELECT * FROM pg_stat_subscription
SELECT * FROM pg_replication_slots
SELECT slot_name, pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) FROM pg_replication_slots
SELECT pg_is_in_recovery()
SELECT CASE WHEN pg_is_in_recovery() THEN 0 ELSE 1 END
SELECT pg_last_wal_replay_lsn(), pg_last_wal_receive_lsn(), pg_last_xact_replay_timestamp()
SELECT CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 ELSE extract(epoch FROM now() - pg_last_xact_replay_timestamp()) END AS lag
SELECT pg_postmaster_start_time(), pg_conf_load_time(), extract(epoch FROM now() - pg_postmaster_start_time()) AS uptime
SELECT datname, pg_database_size(datname), age(datfrozenxid), mxid_age(datminmxid) FROM pg_database ORDER BY 1
SELECT relname, age(relfrozenxid) >= 0 FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY 1
SELECT pg_size_pretty(pg_total_relation_size('customers')), pg_size_pretty(123456789::numeric), pg_size_bytes('1 GB')
SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relkind = 'i'
SELECT pg_table_size('customers'), pg_indexes_size('orders'), pg_relation_size('customers', 'fsm'), pg_tablespace_size('pg_default') > 0
SELECT locktype, mode, granted FROM pg_locks WHERE pid = pg_backend_pid()
SELECT blocked.pid, blocking.pid FROM pg_locks blocked JOIN pg_locks blocking ON blocking.locktype = blocked.locktype AND blocking.pid <> blocked.pid WHERE NOT blocked.granted
SELECT pid, pg_blocking_pids(pid) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0
SELECT gid, prepared FROM pg_prepared_xacts
SELECT name, setting, source, sourcefile, pending_restart FROM pg_settings WHERE source NOT IN ('default', 'override') ORDER BY name
SELECT name, default_version, installed_version FROM pg_available_extensions ORDER BY 1
SELECT schemaname, tablename, attname, n_distinct, null_frac FROM pg_stats WHERE schemaname = 'public' ORDER BY 2, 3
SELECT starelid::regclass, stawidth FROM pg_statistic WHERE starelid = 'customers'::regclass ORDER BY staattnum
SELECT * FROM pg_hba_file_rules LIMIT 1
SELECT sourcefile, name FROM pg_file_settings LIMIT 1
SELECT usename, usesuper FROM pg_user ORDER BY 1
SELECT rolname FROM pg_authid ORDER BY 1
SELECT schemaname, tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 2, 3
SELECT schemaname, viewname FROM pg_views WHERE schemaname = 'app'
SELECT matviewname, ispopulated FROM pg_matviews ORDER BY 1
SELECT * FROM pg_policies ORDER BY policyname
SELECT tablename, rulename FROM pg_rules WHERE schemaname = 'public' ORDER BY 1, 2
SELECT schemaname, sequencename, last_value FROM pg_sequences ORDER BY 1, 2
SELECT pubname, tablename FROM pg_publication_tables ORDER BY 1, 2
SELECT count(*) FROM pg_timezone_names WHERE name = 'UTC'
SELECT abbrev FROM pg_timezone_abbrevs WHERE abbrev = 'UTC'
SELECT evtname FROM pg_event_trigger
SELECT * FROM pg_shmem_allocations LIMIT 1
SELECT name, used_bytes > 0 FROM pg_backend_memory_contexts WHERE name = 'TopMemoryContext'
SELECT pg_backend_pid() > 0, pg_my_temp_schema(), pg_is_other_temp_schema(0), inet_server_port() > 0, pg_jit_available(), pg_trigger_depth()
SELECT current_user, session_user, user, current_role, current_catalog, current_schema, current_schemas(true), current_query()
SELECT system_identifier > 0 FROM pg_control_system()
SELECT timeline_id FROM pg_control_checkpoint()
SELECT * FROM pg_control_init()
SELECT pg_stat_get_db_numbackends(oid) FROM pg_database WHERE datname = current_database()
SELECT pg_stat_get_numscans('customers'::regclass), pg_stat_get_live_tuples('customers'::regclass)
SELECT pg_notification_queue_usage()
SELECT pg_current_logfile()
SELECT name FROM pg_ls_waldir() LIMIT 1
SELECT word, catcode FROM pg_get_keywords() WHERE word = 'select'
SELECT pg_filenode_relation(0, 1259), pg_relation_filenode('pg_class') IS NULL, pg_relation_filepath('customers') IS NOT NULL
SELECT * FROM pg_config WHERE name = 'VERSION'
SELECT * FROM pg_wait_events WHERE type = 'Timeout' ORDER BY name LIMIT 3 --! since=17
SELECT * FROM pg_aios --! since=18
