-- Types, operators and built-in functions in the manner of PostgreSQL's regression tests.

-- constants and numbers
SELECT 1, -2, +3, 1.5, .5, 5., 1e3, 1.5e-3, 0x1F, 0o17, 0b101, 1_000_000
SELECT true, false, NULL, 'x', '', 'it''s', 't'::bool, 'no'::boolean
SELECT E'a\tb\n\u0041\x41\101', $$dollar$$, $x$a $$ b$x$, U&'\0041\+000042', B'101', X'1F', N'n'
SELECT 'one'
  'two'
SELECT 7 / 2, -7 / 2, 7 % 3, 7.0 / 2, 2 ^ 10, |/ 16, ||/ 27, @ -5, 5 & 3, 5 | 3, 5 # 3, ~5, 1 << 4, 256 >> 2
SELECT abs(-1), ceil(1.2), ceiling(-1.2), floor(-1.5), round(1.567, 2), trunc(-1.9), trunc(1.23456, 3), sign(-3)
SELECT sqrt(2), cbrt(27), exp(1), ln(2), log(100), log(2, 8), power(2, 3), pi(), degrees(1), radians(180)
SELECT sin(1), cos(1), tan(1), cot(1), asin(1), acos(1), atan(1), atan2(1, 2), sind(30), cosd(60), tand(45), sinh(1), acosh(2)
SELECT div(7, 2), mod(7, 3), gcd(12, 18), lcm(4, 6), factorial(5), width_bucket(5, 0, 10, 5), width_bucket(5, ARRAY[1, 3, 9])
SELECT 1::int2, 2::int4, 3::int8, 4::float4, 5::float8, 6::numeric(5, 2), 7::decimal, 8::real, 9::double precision
SELECT 'NaN'::float8, 'Infinity'::numeric, '-inf'::float4, 'NaN'::numeric = 'NaN'::numeric
SELECT 1::smallint + 2::bigint, 1::numeric * 2::float8, 3::int / 2::real
SELECT numeric '123.456', scale(1.50), min_scale(1.50), trim_scale(1.50), 12345678901234567890 * 2
SELECT to_number('1,234.5', '9,999.9'), to_char(1234.5, 'FM9,999.00'), to_char(5, 'RN'), to_char(-1, 'S9'), to_hex(255)
SELECT 9223372036854775807 + 0, (-2147483648)::int, 32767::int2
SELECT 1 / 0 --! error=22012
SELECT 'x'::int --! error=22P02
SELECT 2147483647 + 1 --! error=22003
SELECT greatest(1, 2.5, NULL), least('a', 'b'), coalesce(NULL, NULL, 3), nullif(1, 1)
SELECT random() BETWEEN 0 AND 1
SELECT floor(random() * 1) AS zero
SELECT random_normal(0, 1) IS NOT NULL
SELECT random(1, 10) BETWEEN 1 AND 10 --! since=17
SELECT erf(1), erfc(1) IS NOT NULL
SELECT '12.50'::money, 12::money * 2, '$1.00'::money / '$0.50'::money, cash_words('$3.00')
SELECT money(1), cash::numeric FROM app.users WHERE id = 3
SELECT int4(1.6), int8('5'), float8(2), "char"(65), name('x'), bool(1), text(4::numeric)

-- text
SELECT 'a' || 'b', 'a' || 1, NULL || 'a', concat('a', NULL, 1), concat_ws('-', 'a', NULL, 'b')
SELECT length('héllo'), char_length('x'), octet_length('é'), bit_length('a'), upper('abc'), lower('ABC'), initcap('two words')
SELECT substring('abcdef' FROM 2 FOR 3), substring('abcdef', 4), substring('abc' FROM '.$'), substring('abcdef' SIMILAR 'a#"%#"f' ESCAPE '#'), substr('abc', 2)
SELECT position('c' IN 'abc'), strpos('abc', 'b'), overlay('abcdef' PLACING 'xx' FROM 2 FOR 3), left('abc', 2), right('abc', -1)
SELECT trim('  a '), trim(LEADING 'x' FROM 'xxa'), trim(TRAILING 'a'), btrim('xax', 'x'), ltrim(' a'), rtrim('a ')
SELECT lpad('a', 3, '*'), rpad('a', 3), repeat('ab', 3), reverse('abc'), replace('aXa', 'X', '-'), translate('abc', 'ab', 'x')
SELECT split_part('a,b,c', ',', -1), string_to_array('a,b,c', ',', 'b'), string_to_table('a b', ' '), array_to_string(ARRAY['a', NULL], ',', '?')
SELECT ascii('a'), chr(65), to_ascii('x', 'LATIN1'), quote_ident('a b'), quote_literal('it''s'), quote_nullable(NULL), format('%s %I %L %%', 'a', 'b c', 'd')
SELECT md5('a'), encode(sha256('a'), 'hex'), sha224('a'), sha384('b'), sha512('c'), encode('a', 'base64'), decode('YQ==', 'base64'), convert_from('\x41', 'UTF8'), convert_to('a', 'LATIN1')
SELECT starts_with('abc', 'a'), 'abc' ^@ 'ab', unistr('\0041'), normalize('é', NFD) IS NFC NORMALIZED, 'x' IS NORMALIZED
SELECT regexp_match('foobar', '(o+)(b)'), regexp_matches('a1b2', '\d', 'g'), regexp_replace('abc', '(b)', '[\1]'), regexp_split_to_array('a1b', '\d'), regexp_split_to_table('a1b', '\d')
SELECT regexp_count('abcabc', 'b'), regexp_instr('abc', 'c'), regexp_like('Abc', 'a', 'i'), regexp_substr('abc', '[bc]+')
SELECT 'abc' ~ 'b', 'abc' ~* 'B', 'abc' !~ 'x', 'abc' LIKE 'a%', 'a%' LIKE 'a\%', 'abc' SIMILAR TO '(a|b)%', 'x' ~~ 'x', 'x' !~~* 'X'
SELECT 'a' < 'B' COLLATE "C", 'a' COLLATE german = 'a', COLLATION FOR ('a' COLLATE "POSIX")
SELECT name COLLATE "C" FROM customers ORDER BY name COLLATE "C" LIMIT 1
SELECT 'abc'::varchar(2), 'a'::char(3) || 'b', 'abc'::name, 'abc'::"char", 'x'::bpchar = 'x  ', CAST('abcdef' AS char varying(3))
SELECT 'a'::bytea, '\x6162'::bytea, E'\\000'::bytea, get_byte('abc', 1), set_byte('abc', 0, 65), get_bit('a'::bytea, 1), bit_count('\xff'::bytea), length('\x00'::bytea)
SELECT B'1010' & B'0110', B'10' || B'01', ~B'10', B'1010' << 1, bit_length(B'101'), 5::bit(4), B'101'::int, get_bit(B'101', 1), '101'::varbit, overlay(B'000' PLACING B'1' FROM 2)
SELECT parse_ident('a."B c"'), pg_client_encoding(), to_char(1, '"text"')
SELECT casefold('ABC') --! since=18
SELECT reverse('abc'::bytea), crc32('a'), crc32c('a') --! since=18

-- dates and times
SELECT date '2024-02-29' + 1, date '2024-03-01' - date '2024-02-01', '2024-01-01'::date + time '10:00', date '2024-01-31' + interval '1 month'
SELECT timestamp '2024-01-01 12:34:56.789', timestamptz '2024-01-01 12:00+02', time '10:00', timetz '10:00+01', interval '1 year 2 mons 3 days 04:05:06'
SELECT interval '1' day, interval '1-2' year to month, interval(2) '1.234 sec', interval 'P1Y2M', interval '1 day ago', '1 week'::interval / 2, interval '1 h' * 2.5, -interval '1 min'
SELECT extract(year FROM timestamp '2024-05-06'), extract(epoch FROM interval '1 day'), extract(isodow FROM date '2024-01-01'), date_part('quarter', date '2024-05-01')
SELECT date_trunc('month', timestamp '2024-05-06 10:00'), date_trunc('day', timestamptz '2024-05-06 10:00+00', 'Europe/Berlin'), date_bin('15 min', timestamp '2024-01-01 10:07', '2024-01-01')
SELECT age(timestamp '2024-01-01', timestamp '2020-02-03'), justify_days('35 days'), justify_hours('27 h'), justify_interval('1 mon -1 h')
SELECT timestamptz '2024-01-01 00:00+00' AT TIME ZONE 'America/New_York', timestamp '2024-01-01' AT TIME ZONE 'UTC', timezone('UTC', timestamptz '2024-01-01+00')
SELECT to_char(timestamp '2024-05-06 07:08:09', 'YYYY-MM-DD HH24:MI:SS Day DDD "Q"Q'), to_date('06 May 2024', 'DD Mon YYYY'), to_timestamp('2024', 'YYYY'), to_timestamp(0)
SELECT make_date(2024, 1, 2), make_time(1, 2, 3.5), make_timestamp(2024, 1, 2, 3, 4, 5), make_timestamptz(2024, 1, 2, 3, 4, 5, 'UTC'), make_interval(years => 1, secs => 2.5)
SELECT (date '2024-01-01', date '2024-02-01') OVERLAPS (date '2024-01-15', interval '1 month')
SELECT isfinite(date 'infinity'), date 'epoch', timestamp '-infinity' < now()
SELECT now() = transaction_timestamp(), statement_timestamp() >= now(), clock_timestamp() >= now()
SELECT CURRENT_DATE = now()::date, CURRENT_TIME IS NOT NULL, CURRENT_TIMESTAMP(0) IS NOT NULL, LOCALTIME(1) IS NOT NULL, LOCALTIMESTAMP = now()::timestamp
SELECT now(), CURRENT_TIMESTAMP, clock_timestamp()
SELECT timeofday()
SELECT id FROM orders WHERE placed > now() - interval '100 years' ORDER BY id LIMIT 1
SELECT count(*) FROM orders WHERE placed::date = '2024-02-03'
SELECT generate_series(date '2024-01-01', date '2024-01-03', '1 day')
SELECT generate_series(timestamptz '2024-01-01 00:00+00', '2024-01-02 00:00+00', '12 h', 'UTC')
SELECT date_add(timestamptz '2024-01-01 00:00+00', '1 day', 'UTC'), date_subtract(timestamptz '2024-01-01+00', '1 h')
SELECT 'today'::date = CURRENT_DATE, 'yesterday'::date < 'tomorrow'::date
SELECT timestamptz '2024-01-01+00' AT LOCAL --! since=17
SELECT pg_sleep(0)
SELECT pg_sleep_for('0 s'), pg_sleep_until(now())

-- arrays
SELECT ARRAY[1, 2, 3], '{1,2}'::int[], ARRAY[[1, 2], [3, 4]], '{}'::text[], ARRAY[]::int[], '[2:3]={a,b}'::text[]
SELECT (ARRAY[1, 2, 3])[2], (ARRAY[1, 2, 3])[1:2], (ARRAY[1, 2, 3])[:2], (ARRAY[[1, 2], [3, 4]])[2][1], ('{a,b}'::text[])[5]
SELECT ARRAY[1, 2] || 3, 0 || ARRAY[1], ARRAY[1] || ARRAY[2, 3], ARRAY[1, 2] = ARRAY[1, 2], ARRAY[1, 2] < ARRAY[1, 3]
SELECT ARRAY[1, 2, 3] @> ARRAY[2], ARRAY[2] <@ ARRAY[1, 2], ARRAY[1, 2] && ARRAY[2, 3]
SELECT array_length(ARRAY[1, 2], 1), cardinality(ARRAY[[1], [2]]), array_ndims(ARRAY[[1]]), array_dims(ARRAY[1, 2]), array_lower('[5:6]={1,2}'::int[], 1), array_upper(ARRAY[1], 1)
SELECT array_append(ARRAY[1], 2), array_prepend(0, ARRAY[1]), array_cat(ARRAY[1], ARRAY[2]), array_remove(ARRAY[1, 2, 1], 1), array_replace(ARRAY[1, 2], 2, 3), array_position(ARRAY['a', 'b'], 'b'), array_positions(ARRAY[1, 1], 1)
SELECT array_fill(7, ARRAY[2, 2]), trim_array(ARRAY[1, 2, 3], 1), unnest(ARRAY[1, 2]), array_to_string(ARRAY[1, NULL], ',', '*')
SELECT * FROM unnest(ARRAY[1, 2], ARRAY['a', 'b', 'c']) AS u (n, s)
SELECT i, t FROM unnest('{x,y}'::text[]) WITH ORDINALITY AS u (t, i) ORDER BY i
SELECT tags[1], tags[1:1], array_length(tags, 1) FROM customers WHERE id = 1
SELECT id FROM customers WHERE tags @> '{t1}' ORDER BY id
SELECT id FROM customers WHERE tags && ARRAY['t1', 'u2'] ORDER BY id
SELECT id FROM customers WHERE 't2' = ANY (tags) ORDER BY id
SELECT generate_subscripts('{a,b}'::text[], 1), array_agg(x) FROM generate_series(1, 2) AS x GROUP BY 1
SELECT places, places[1], (places[1]).city, array_length(places, 1) FROM contacts WHERE id = 1
SELECT feelings[2], mark + 1, spread @> 2.0::float8, lower(spread) FROM contacts WHERE id = 1
SELECT array_sample(ARRAY[1], 1), array_shuffle(ARRAY[1])
SELECT array_sort(ARRAY[3, 1, 2]), array_reverse(ARRAY[1, 2]) --! since=18
SELECT string_to_array('1,2', ',')::int[], '{1,2}'::int[]::text, ARRAY[1.6]::int[]
SELECT ARRAY[ROW(1, 'a'), ROW(2, 'b')], (ARRAY['a', 'b'])::varchar(1)[]

-- ranges
SELECT int4range(1, 5), int8range(1, 5, '[]'), numrange(1.5, NULL), tsrange('2024-01-01', '2024-01-02'), daterange('2024-01-01', '2024-01-03', '(]'), '[1,3)'::int4range, 'empty'::int4range
SELECT int4range(1, 5) @> 3, int4range(1, 5) && int4range(4, 9), int4range(1, 3) -|- int4range(3, 5), int4range(1, 2) << int4range(5, 6), int4range(1, 5) * int4range(3, 9), int4range(1, 3) + int4range(2, 5), int4range(1, 5) - int4range(3, 9)
SELECT lower(int4range(1, 5)), upper(int4range(1, 5)), isempty('empty'::int4range), lower_inc('[1,2]'::numrange), upper_inf('[1,)'::int4range), range_merge(int4range(1, 2), int4range(5, 6))
SELECT '{[1,3),[5,7)}'::int4multirange, int4multirange(int4range(1, 2), int4range(4, 6)), multirange(int4range(1, 2)), unnest('{[1,3),[5,7)}'::int4multirange)
SELECT spans @> 3, span @> timestamptz '2024-01-02+00', lower(span), spans * '{[1,4)}'::int4multirange FROM app.users WHERE id = 2
SELECT id FROM products WHERE available @> 5 ORDER BY id
SELECT id FROM products WHERE available && int4range(30, 33) ORDER BY id
SELECT floatrange(1.5, 2.5) * floatrange(2, 3), upper('[1,2]'::floatrange)
SELECT range_agg(available) FROM products WHERE id IN (1, 20)

-- JSON
SELECT '{"a": 1, "b": [1, 2]}'::json, '{"b": 1, "a": {"c": null}}'::jsonb, json '[]', jsonb 'null'
SELECT '{"a": {"b": [10, 20]}}'::jsonb -> 'a' -> 'b' ->> 1, '{"a": {"b": 1}}'::json #>> '{a,b}', '[1, 2]'::jsonb -> -1, '{"a": 1}'::jsonb #> '{a}'
SELECT ('{"a": {"b": 1}}'::jsonb)['a']['b'], ('[1, 2]'::jsonb)[0]
SELECT '{"a": 1}'::jsonb @> '{}', '{"a": 1}'::jsonb <@ '{"a": 1, "b": 2}', '{"a": 1}'::jsonb ? 'a', '{"a": 1}'::jsonb ?| ARRAY['b', 'a'], '{"a": 1}'::jsonb ?& ARRAY['a']
SELECT '{"a": 1}'::jsonb || '{"b": 2}', '{"a": 1, "b": 2}'::jsonb - 'a', '[1, 2]'::jsonb - 0, '{"a": {"b": 1}}'::jsonb #- '{a,b}', '{"a": 1}'::jsonb - ARRAY['a']
SELECT '{"a": [1, 2, 3]}'::jsonb @? '$.a[*] ? (@ > 2)', '{"a": 1}'::jsonb @@ '$.a == 1'
SELECT jsonb_path_query('{"a": [1, 2]}', '$.a[*]'), jsonb_path_query_array('[1, 2]', '$[*] ? (@ > $x)', '{"x": 1}'), jsonb_path_query_first('[1]', '$[0]'), jsonb_path_exists('{}', '$.a'), jsonb_path_match('{"a": 1}', '$.a == 1')
SELECT jsonb_path_query_tz('["2024-01-01"]', '$[*].datetime()'), jsonpath '$.a.b[*] ? (@.c > 1)'
SELECT to_json(1), to_jsonb('x'::text), row_to_json(ROW(1, 'a')), array_to_json(ARRAY[1, 2]), json_build_object('a', 1, 'b', ARRAY[2]), jsonb_build_array(1, 'x', NULL), json_object('{a,1,b,2}'), jsonb_object('{a}', '{1}')
SELECT json_typeof('[]'), jsonb_typeof('{}'), jsonb_array_length('[1]'), jsonb_pretty('{"a": 1}'), json_strip_nulls('{"a": null}'), jsonb_strip_nulls('{"a": null}')
SELECT jsonb_set('{"a": 1}', '{a}', '2'), jsonb_set_lax('{"a": 1}', '{a}', NULL), jsonb_insert('[1]', '{0}', '0'), jsonb_extract_path('{"a": {"b": 1}}', 'a', 'b'), json_extract_path_text('{"a": "x"}', 'a')
SELECT * FROM jsonb_each('{"a": 1, "b": 2}') ORDER BY key
SELECT * FROM json_each_text('{"a": "x"}')
SELECT jsonb_object_keys('{"a": 1, "b": 2}')
SELECT * FROM jsonb_array_elements('[1, {"a": 2}]') WITH ORDINALITY
SELECT value FROM json_array_elements_text('["a", "b"]')
SELECT * FROM jsonb_to_record('{"a": 1, "b": "x"}') AS r (a int, b text)
SELECT * FROM json_to_recordset('[{"a": 1}, {"a": 2}]') AS r (a int)
SELECT * FROM jsonb_populate_record(NULL::address, '{"city": "x"}')
SELECT * FROM jsonb_populate_recordset(NULL::pair, '[{"x": 1, "y": 2}]')
SELECT profile ->> 'lang', (profile -> 'n')::int + 1, profile['list'][0] FROM customers WHERE id = 1
SELECT id FROM customers WHERE profile @> '{"lang": "de"}' ORDER BY id LIMIT 2
SELECT id FROM customers WHERE profile ->> 'lang' = 'en' AND (profile ->> 'n')::int > 10 ORDER BY id
SELECT profile ->> 'lang' AS lang, count(*) FROM customers GROUP BY 1 ORDER BY 1
SELECT JSON_OBJECT('a': 1, 'b' VALUE 2 ABSENT ON NULL), JSON_OBJECT('x': NULL NULL ON NULL RETURNING jsonb), JSON_ARRAY(1, 'x', NULL NULL ON NULL), JSON_ARRAY(SELECT id FROM person ORDER BY id)
SELECT JSON_OBJECTAGG(id: name), JSON_ARRAYAGG(id ORDER BY id RETURNING jsonb) FROM person
SELECT '{}' IS JSON, '[1]' IS JSON ARRAY, '{"a": 1}' IS JSON OBJECT WITH UNIQUE KEYS, '1' IS JSON SCALAR, 'x' IS NOT JSON
SELECT JSON('{"a": 1}'), JSON_SCALAR(1.5), JSON_SERIALIZE('{}' RETURNING text) --! since=17
SELECT JSON_VALUE('{"a": 1}', '$.a' RETURNING int), JSON_QUERY('{"a": [1]}', '$.a' WITH WRAPPER), JSON_EXISTS('{"a": 1}', '$.a') --! since=17
SELECT JSON_VALUE('{}', '$.a' DEFAULT 5 ON EMPTY ERROR ON ERROR), JSON_QUERY('"x"', '$' OMIT QUOTES) --! since=17
SELECT * FROM JSON_TABLE('[{"a": 1, "b": ["x", "y"]}]'::jsonb, '$[*]' COLUMNS (n FOR ORDINALITY, a int PATH '$.a', NESTED PATH '$.b[*]' COLUMNS (b text PATH '$'))) AS j --! since=17
SELECT j.x FROM customers c, JSON_TABLE(c.profile, '$.list[*]' COLUMNS (x int PATH '$')) AS j WHERE c.id = 1 --! since=17

-- text search
SELECT to_tsvector('The quick brown foxes'), to_tsvector('simple', 'The foxes'), 'a b'::tsvector, setweight('a:1'::tsvector, 'A'), strip('a:1'::tsvector), length('a b'::tsvector)
SELECT to_tsquery('fat & rat'), plainto_tsquery('fat rat'), phraseto_tsquery('fat rat'), websearch_to_tsquery('"fat rat" -cat'), 'a & !b | c'::tsquery, querytree('a & b'::tsquery), numnode('a & b'::tsquery)
SELECT to_tsvector('fat cats') @@ to_tsquery('cat'), 'a b'::tsvector || 'c'::tsvector, 'a'::tsquery && 'b', !!'a'::tsquery, 'a'::tsquery <-> 'b', 'a & b'::tsquery @> 'a'
SELECT ts_rank('a:1 b:2'::tsvector, 'a'), ts_rank_cd('a:1 b:2', 'a & b'), ts_headline('english', 'The fat cats', to_tsquery('cat'), 'StartSel=<, StopSel=>')
SELECT ts_rewrite('a & b'::tsquery, 'a', 'c'), ts_lexize('english_stem', 'stars'), ts_debug('a cat'), ts_delete('a b'::tsvector, 'a'), ts_filter('a:1A'::tsvector, '{a}'), tsvector_to_array('a b')
SELECT * FROM ts_parse('default', 'foo bar')
SELECT * FROM ts_token_type('default') LIMIT 2
SELECT id, ts_rank(doc, q) FROM products, to_tsquery('english', 'product & jump') AS q WHERE doc @@ q ORDER BY id LIMIT 3
SELECT get_current_ts_config(), 'english'::regconfig, 'simple'::regdictionary
SELECT unnest('a:1,2B b:3'::tsvector)
SELECT word FROM ts_stat('SELECT doc FROM products') ORDER BY 1 LIMIT 1

-- geometry, networks, identifiers
SELECT point(1, 2), '(1,2)'::point, line '{1,2,3}', lseg '[(0,0),(1,1)]', box '((0,0),(1,1))', path '[(0,0),(1,1)]', polygon '((0,0),(1,1),(1,0))', circle '<(0,0),1>'
SELECT point(1, 2) <-> point(4, 6), box(point(0, 0), point(2, 2)) @> point(1, 1), circle(point(0, 0), 1) && circle(point(1, 0), 1), point(1, 2) + point(1, 1), lseg '[(0,0),(1,1)]' # lseg '[(0,1),(1,0)]', ?- lseg '[(0,0),(1,0)]'
SELECT area(box '((0,0),(2,2))'), center(circle '<(1,1),2>'), diameter(circle '<(0,0),2>'), height(box '((0,0),(1,2))'), npoints(polygon '((0,0),(1,1))'), isclosed(path '((0,0),(1,1))'), slope(point(0, 0), point(1, 1)), bound_box(box '((0,0),(1,1))', box '((2,2),(3,3))')
SELECT id FROM app.users ORDER BY at <-> point(3, 3), id LIMIT 2
SELECT id FROM app.users WHERE area @> point(5, 5) ORDER BY id LIMIT 2
SELECT inet '10.0.0.1/24', cidr '10.0.0.0/8', macaddr '08:00:2b:01:02:03', macaddr8 '08:00:2b:01:02:03:04:05', host(inet '10.0.0.1/24'), masklen('10.0.0.0/8'), network('10.0.0.1/24'), broadcast('10.0.0.0/24'), family('::1'), abbrev(cidr '10.1.0.0/16')
SELECT inet '10.0.0.1' << inet '10.0.0.0/8', inet '10.0.0.0/8' >>= inet '10.0.0.1', inet '10.0.0.1' + 5, inet '10.0.0.9' - inet '10.0.0.1', ~inet '10.0.0.1', set_masklen(inet '10.0.0.1', 16), inet_merge('10.0.0.1', '10.0.1.1'), trunc(macaddr '08:00:2b:01:02:03')
SELECT login FROM app.users WHERE ip << '10.0.0.0/24' AND ip > '10.0.0.9' ORDER BY ip
SELECT uid, uid = '00000000-0000-4000-8000-000000000001' FROM app.users ORDER BY uid LIMIT 1
SELECT gen_random_uuid() <> gen_random_uuid()
SELECT gen_random_uuid()
SELECT uuidv4() IS NOT NULL, uuidv7() < uuidv7(), uuid_extract_version(uuidv7()) --! since=18
SELECT uuid_extract_timestamp('00000000-0000-1000-8000-000000000000') --! since=17
SELECT '0/16B3748'::pg_lsn - '0/0'::pg_lsn, '0/1'::pg_lsn < '0/2', '1'::xid, '1:2:'::pg_snapshot, '5'::xid8, '(0,1)'::tid, 5::oid, '1 2'::oidvector
SELECT raw, encode(raw, 'hex'), bits, bits & B'00000011' FROM app.users WHERE id = 3

-- XML: the server may be built without
SELECT xmlcomment('x') --! error=0A000
SELECT xmlelement(name a, xmlattributes(1 AS b), 'x') --! error=0A000
SELECT xmlforest(name, id) FROM customers WHERE id = 1 --! error=0A000
SELECT '<a/>'::xml --! error=0A000
SELECT xpath('/a/text()', '<a>x</a>') --! error=0A000
SELECT * FROM xmltable('/r/a' PASSING '<r><a>1</a></r>' COLUMNS a int PATH '.') --! error=0A000
SELECT xml_is_well_formed('<a>') --! error=0A000
SELECT NULL::xml IS DOCUMENT
SELECT table_to_xmlschema('person', true, true, '') --! error=0A000

-- casts, domains, composites, enums
SELECT CAST('1' AS int), '1'::int::text::varchar(5), int '3', CAST(1.5 AS int), 1::bool, 'yes'::bool::int, '2024-01-01'::timestamp::date
SELECT 'customers'::regclass, 'customers'::regclass::oid > 0, 'int4'::regtype, 'lower(text)'::regprocedure, 'version'::regproc, '+(int,int)'::regoperator, 'pg_catalog'::regnamespace, 'postgres'::regrole, '"C"'::regcollation
SELECT to_regclass('nothing'), to_regtype('int'), to_regproc('now'), to_regprocedure('abs(int)'), to_regoper('||/'), to_regoperator('+(int,int)'), to_regnamespace('app'), to_regrole('nobody'), to_regcollation('"C"')
SELECT pg_typeof(1), pg_typeof('x'), pg_typeof(NULL), pg_typeof(ARRAY[1.5]), format_type('int4'::regtype, NULL), pg_typeof(c) FROM customers c WHERE id = 1
SELECT 'ok'::mood > 'sad', enum_first(NULL::mood), enum_last(NULL::mood), enum_range('sad'::mood, 'ok')
SELECT feeling::text || '!', max(feeling) FROM customers GROUP BY feeling ORDER BY feeling
SELECT 5::positive + 1, 'a@b'::email || 'c'
SELECT 0::positive --! error=23514
SELECT 'x'::mood --! error=22P02
SELECT ROW(1, 2, 'x'), (1, 2)::pair, ROW('s', 'c', 3)::address, (ROW('s', 'c', 3)::address).zip, ROW(1, NULL) IS NULL, ROW() IS NOT NULL
SELECT home, (home).city, (home).zip + 1 FROM customers WHERE id = 2
SELECT (home).* FROM customers WHERE id = 2
SELECT ROW(c.*) = c FROM customers c WHERE id = 1
SELECT CASE id WHEN 1 THEN 'one' WHEN 2 THEN 'two' ELSE 'many' END FROM customers WHERE id < 4 ORDER BY id
SELECT CASE WHEN id < 2 THEN 1.5 WHEN id IS NULL THEN 0 END FROM customers WHERE id < 4 ORDER BY id
SELECT pg_input_is_valid('1', 'int4'), (pg_input_error_info('x', 'int4')).sql_error_code
SELECT num_nulls(1, NULL), num_nonnulls(1, NULL), isfinite('infinity'::timestamp), pg_column_size(1), pg_column_compression('x'::text) IS NULL
SELECT hashtext('x') IS NOT NULL, hash_array(ARRAY[1]) IS NOT NULL, hashint4(1)
SELECT satisfies_hash_partition('hashed'::regclass, 2, 0, 4), pg_partition_root('measures_2024_a')

-- set-returning functions and row sources
SELECT * FROM generate_series(1, 3)
SELECT * FROM generate_series(3, 1, -1) AS g (i) WHERE i > 1
SELECT generate_series(1, 2), generate_series(1, 3)
SELECT * FROM ROWS FROM (generate_series(1, 2), unnest(ARRAY['a', 'b', 'c'])) WITH ORDINALITY AS r (a, b, n)
SELECT * FROM ROWS FROM (json_to_recordset('[{"a": 1}]') AS (a int), generate_series(1, 2)) AS r (a, g)
SELECT n, square FROM table_of(4) WHERE square > 4 --! error=42703
SELECT i, square FROM table_of(4) WHERE square > 4
SELECT (table_of(2)).*
SELECT id, vat(price), vat(price, rate => 0.07) FROM products WHERE id < 3 ORDER BY id
SELECT at_most(1, 5, 3), with_defaults(1), with_defaults(1, c => 'z'), twice('x'::text), (swap(1, 2)).a
SELECT id FROM products WHERE vat(price) > 5 ORDER BY vat(price), id
SELECT describe(c) FROM customers c WHERE describe(c) LIKE '%city 1' ORDER BY id LIMIT 1
SELECT c.name, o.total FROM customers c, LATERAL orders_of(c.id) AS o WHERE c.id < 3 ORDER BY 1, 2
SELECT volatile_reader(3)
SELECT count(*) FROM customers WHERE volatile_reader(id) > 5
SELECT product(id) FROM customers WHERE id < 4
SELECT (p + ROW(1, 1)::pair).x, p::int FROM pairs ORDER BY id
SELECT price ~~~ 1.2 FROM products WHERE id = 1
SELECT pg_catalog.abs(-1), pg_catalog.upper('x'), 1 OPERATOR(pg_catalog.+) 2, '1'::pg_catalog.int4
