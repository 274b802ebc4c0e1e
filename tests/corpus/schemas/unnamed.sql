-- What may write without being named, added to main.sql in a database of its own: one such object
-- is enough to make every statement about the users' own tables doubtful.

CREATE FUNCTION pair_eq(pair, pair) RETURNS boolean LANGUAGE plpgsql AS $$ begin perform public.writer(); return $1.x operator(pg_catalog.=) $2.x; end $$;
CREATE OPERATOR = (leftarg = pair, rightarg = pair, function = pair_eq);
CREATE FUNCTION pair_lt(pair, pair) RETURNS boolean LANGUAGE plpgsql AS $$ begin perform public.writer(); return $1.x operator(pg_catalog.<) $2.x; end $$;
CREATE OPERATOR < (leftarg = pair, rightarg = pair, function = pair_lt);
CREATE CAST (ticket AS text) WITH FUNCTION ticket_text(ticket) AS IMPLICIT;
CREATE VIEW implicit_view AS SELECT upper(t) AS u FROM tickets;
ANALYZE;
