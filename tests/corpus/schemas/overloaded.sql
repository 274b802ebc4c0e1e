-- Functions, operators and casts of PostgreSQL's own names, or to its own types, which write, added
-- to main.sql in a database of its own. They win by the types of their arguments, without any
-- search_path, so that no use of the name is shown to be a read.

CREATE FUNCTION lower(int) RETURNS int LANGUAGE sql AS 'SELECT public.writer($1)';
CREATE FUNCTION length(mood) RETURNS int LANGUAGE sql AS 'SELECT public.writer(1)';
CREATE FUNCTION abs(text) RETURNS text LANGUAGE sql AS 'SELECT public.writer($1)';
CREATE FUNCTION now(int) RETURNS int LANGUAGE sql AS 'SELECT public.writer($1)';
CREATE FUNCTION to_char(mood, text) RETURNS text LANGUAGE sql AS 'SELECT public.writer($2)';
CREATE FUNCTION format(mood) RETURNS text LANGUAGE sql AS 'SELECT public.writer($1::text)';
CREATE FUNCTION generate_series(text, text) RETURNS SETOF int LANGUAGE sql AS 'SELECT public.writer(1)';
CREATE FUNCTION count_writer(bigint, mood) RETURNS bigint LANGUAGE sql AS 'SELECT $1 + public.writer(1)';
CREATE AGGREGATE sum(mood) (sfunc = count_writer, stype = bigint, initcond = '0');
CREATE FUNCTION text_plus(text, int) RETURNS text LANGUAGE sql AS 'SELECT public.writer($1)';
CREATE OPERATOR + (leftarg = text, rightarg = int, function = text_plus);
CREATE FUNCTION mood_contains(mood, mood) RETURNS boolean LANGUAGE plpgsql AS $$ begin perform public.writer(); return $1 operator(pg_catalog.=) $2; end $$;
CREATE OPERATOR @> (leftarg = mood, rightarg = mood, function = mood_contains);
CREATE CAST (ticket AS text) WITH FUNCTION ticket_text(ticket) AS ASSIGNMENT;
CREATE CAST (ticket AS int) WITH FUNCTION ticket_int(ticket) AS ASSIGNMENT;
ANALYZE;
