"""The questions by which one database's catalogue is read. Right on PostgreSQL 12 to 18.

They run with an empty search_path, so that nothing but pg_catalog is found unqualified and all that
PostgreSQL writes out (types, expressions, definitions of views) names its schemas. What initdb made
has an oid below FirstNormalObjectId and is left out, and so is what is temporary.
"""

from typing import Final

from pgproxy.routing.bodies import LONGEST_BODY
from pgproxy.routing.functions import READ_SAFE_OF_EXTENSIONS

_FIRST_NORMAL: Final = 16_384  # access/transam.h: FirstNormalObjectId

# Asked before search_path is emptied, so by full names: nothing of the database's own may run.
CONFIGURED_PATH: Final = """
SELECT setting, source FROM pg_catalog.pg_settings
WHERE name OPERATOR(pg_catalog.=) 'search_path'
"""

# Some are not known to every version, so that they cannot go with the log-in.
SESSION: Final = """
SET search_path = '';
SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'
"""

# Pairs of an extension and a function of it.
_SAFE: Final = ", ".join(
    [f"('{extension}', '{name}')" for extension, name in sorted(READ_SAFE_OF_EXTENSIONS)]
)
_SAFE_NAMES: Final = ",".join(sorted({name for _, name in READ_SAFE_OF_EXTENSIONS}))

_SCHEMAS: Final = """
schemas AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_(toast|temp)')
"""

# What is stored for it is a list of identifiers; a role's own goes before its database's.
SEARCH_PATHS: Final = """
SELECT coalesce(rolname, '')::text, text
FROM (SELECT DISTINCT ON (setrole) setrole, substr(entry, length('search_path=') + 1) AS text
      FROM pg_db_role_setting, unnest(setconfig) AS entry
      WHERE entry LIKE 'search\\_path=%'
        AND setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
      ORDER BY setrole, setdatabase DESC) AS settings
LEFT JOIN pg_roles AS roles ON roles.oid = setrole
WHERE setrole = 0 OR rolname IS NOT NULL
"""

# Functions that may write, whatever they are called themselves: what their defaults and their bodies
# in standard SQL call is noted by PostgreSQL, but for its own functions; types that they take or
# return are checked by functions, if a domain is anywhere in them.
_WRITING: Final = f"""
checking AS (
  SELECT contypid AS oid FROM pg_constraint AS c
  WHERE contypid <> 0 AND contype = 'c' AND EXISTS (
    SELECT FROM pg_depend JOIN pg_proc AS f ON f.oid = refobjid
    WHERE classid = 'pg_constraint'::regclass AND objid = c.oid
      AND refclassid = 'pg_proc'::regclass AND provolatile = 'v')
  UNION
  SELECT holder FROM checking CROSS JOIN LATERAL (
    SELECT oid FROM pg_type
    WHERE typbasetype = checking.oid OR typelem = checking.oid AND typcategory = 'A'
    UNION ALL
    SELECT reltype FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
    WHERE atttypid = checking.oid AND NOT attisdropped AND reltype <> 0
    UNION ALL
    SELECT rngtypid FROM pg_range WHERE rngsubtype = checking.oid) AS holders (holder)
),
writing AS (
  SELECT oid FROM pg_proc WHERE provolatile = 'v'
  UNION
  SELECT f.oid FROM pg_depend JOIN pg_proc AS f ON f.oid = objid
  JOIN pg_proc AS called ON called.oid = refobjid AND called.oid <> f.oid
  WHERE classid = 'pg_proc'::regclass AND refclassid = 'pg_proc'::regclass
    AND called.provolatile = 'v'
  UNION
  SELECT f.oid FROM pg_proc AS f CROSS JOIN LATERAL
    regexp_matches(pg_get_expr(f.proargdefaults, 0), '(\\w+)\\(', 'g') AS called
  JOIN pg_proc AS own ON own.proname = called[1] AND own.provolatile = 'v'
    AND own.oid < {_FIRST_NORMAL}
  WHERE f.oid >= {_FIRST_NORMAL} AND f.proargdefaults IS NOT NULL
  UNION
  SELECT f.oid FROM pg_proc AS f JOIN checking
    ON checking.oid = prorettype OR checking.oid = ANY (coalesce(proallargtypes, proargtypes::oid[]))
  WHERE f.oid >= {_FIRST_NORMAL}
)
"""

# An aggregate does what its support functions do. Of an ordered-set aggregate's arguments a call
# has some behind WITHIN GROUP. What takes a row can be written as its column: record, the
# polymorphic types that stand for one, and what composites are cast to without a word.
FUNCTIONS: Final = f"""
WITH RECURSIVE {_SCHEMAS}, {_WRITING},
rows AS (
  SELECT oid FROM pg_type
  WHERE typtype = 'c' OR typtype = 'd' AND typbasetype >= {_FIRST_NORMAL}
     OR typname IN ('record', 'any', 'anyelement', 'anynonarray', 'anycompatible',
                    'anycompatiblenonarray') AND typnamespace = 'pg_catalog'::regnamespace
  UNION
  SELECT casttarget FROM pg_cast JOIN pg_type ON pg_type.oid = castsource
  WHERE castcontext = 'i' AND typtype = 'c'
)
SELECT nspname::text, proname::text,
       CASE WHEN prokind = 'a' THEN
              (SELECT CASE aggkind WHEN 'n' THEN pronargs ELSE aggnumdirectargs END
               FROM pg_aggregate WHERE aggfnoid = f.oid)
            ELSE pronargs - pronargdefaults END::int,
       CASE WHEN provariadic = 0 THEN pronargs ELSE -1 END::int,
       CASE WHEN prokind = 'a' THEN EXISTS (
              SELECT FROM pg_aggregate AS a JOIN pg_proc AS support ON support.oid IN (
                a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggserialfn, a.aggdeserialfn,
                a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)
              WHERE a.aggfnoid = f.oid AND support.oid IN (SELECT oid FROM writing))
            WHEN proname = ANY ('{{{_SAFE_NAMES}}}')
              AND EXISTS (
                SELECT FROM pg_depend AS d JOIN pg_extension AS e ON e.oid = refobjid
                WHERE classid = 'pg_proc'::regclass AND objid = f.oid AND deptype = 'e'
                  AND (extname, proname) IN ({_SAFE})) THEN false
            ELSE f.oid IN (SELECT oid FROM writing) END,
       pronargs > 0 AND pronargs - pronargdefaults <= 1
         AND CASE WHEN provariadic <> 0 AND pronargs = 1 THEN provariadic ELSE proargtypes[0] END
             IN (SELECT oid FROM rows)
FROM pg_proc AS f JOIN schemas ON schemas.oid = pronamespace
WHERE f.oid >= {_FIRST_NORMAL} AND prokind <> 'p'
  AND prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
"""

OPERATORS: Final = f"""
WITH RECURSIVE {_SCHEMAS}, {_WRITING}
SELECT nspname::text, oprname::text, bool_or(oprcode IN (SELECT oid FROM writing))
FROM pg_operator JOIN schemas ON schemas.oid = oprnamespace
WHERE pg_operator.oid >= {_FIRST_NORMAL}
GROUP BY nspname, oprname
"""

# Whoever's they are, with their names as the grammar takes them.
_VOLATILE: Final = """
volatile AS (
  SELECT pg_proc.oid, quote_ident(nspname) || '.' || quote_ident(proname) AS function, proargtypes
  FROM pg_proc JOIN pg_namespace ON pg_namespace.oid = pronamespace WHERE provolatile = 'v'
),
casts AS (
  SELECT castsource, casttarget, castcontext, function
  FROM pg_cast JOIN volatile ON volatile.oid = castfunc
)
"""

# What objects that are not volatile themselves run all the same, as texts: the bodies of functions;
# what PostgreSQL has noted that functions and aggregates use, by their arguments, defaults, support
# functions and bodies in standard SQL (where its own functions are in the parse tree alone); the
# functions of operators and casts, of which some are called unseen; the paths that functions set, and
# whom "$user" means in those that run as their owners.
BODIES: Final = f"""
WITH {_SCHEMAS},
functions AS (
  SELECT f.oid, nspname, proname, prosrc, provolatile, lanname IN ('c', 'internal') AS is_closed,
         quote_ident(nspname) || '.' || quote_ident(proname) || '(' AS call
  FROM pg_proc AS f JOIN schemas ON schemas.oid = pronamespace
  JOIN pg_language AS l ON l.oid = prolang
  WHERE f.oid >= {_FIRST_NORMAL}
),
open AS (SELECT oid, nspname, proname, call FROM functions WHERE provolatile <> 'v' AND NOT is_closed),
casts AS (
  SELECT castcontext, casttarget, call,
         format_type(castsource, NULL) || ' to ' || format_type(casttarget, NULL) AS types
  FROM pg_cast JOIN open ON open.oid = castfunc
),
comparing AS (
  SELECT opf.oid, opfname FROM pg_opfamily AS opf JOIN pg_am ON pg_am.oid = opfmethod
  WHERE amname IN ('btree', 'hash')
)
SELECT 'function', nspname::text, proname::text, left(prosrc, {LONGEST_BODY + 1})
FROM functions WHERE provolatile <> 'v' AND NOT is_closed AND prosrc <> ''
UNION ALL
SELECT 'function', f.nspname::text, f.proname::text, string_agg(DISTINCT used.text, ' ')
FROM functions AS f JOIN pg_depend ON classid = 'pg_proc'::regclass AND objid = f.oid
JOIN (SELECT 'pg_proc'::regclass AS class, oid, call AS text FROM functions
      UNION ALL
      SELECT 'pg_class'::regclass, c.oid, quote_ident(nspname) || '.' || quote_ident(relname)
      FROM pg_class AS c JOIN schemas ON schemas.oid = relnamespace
      UNION ALL
      SELECT 'pg_type'::regclass, t.oid, quote_ident(nspname) || '.' || quote_ident(e.typname)
      FROM pg_type AS t JOIN pg_type AS e
        ON e.oid = CASE t.typcategory WHEN 'A' THEN t.typelem ELSE t.oid END
      JOIN schemas ON schemas.oid = e.typnamespace LEFT JOIN pg_class AS c ON c.oid = e.typrelid
      WHERE e.typtype IN ('d', 'r', 'm') OR e.typtype = 'c' AND relkind = 'c') AS used
  ON used.class = refclassid AND used.oid = refobjid AND refobjid <> f.oid
WHERE f.provolatile <> 'v' GROUP BY f.oid, f.nspname, f.proname
UNION ALL
SELECT 'function', f.nspname::text, f.proname::text,
       string_agg(DISTINCT 'pg_catalog.' || own.proname || '(', ' ')
FROM functions AS f JOIN pg_proc ON pg_proc.oid = f.oid AND f.prosrc = ''
CROSS JOIN LATERAL
  regexp_matches(to_jsonb(pg_proc) ->> 'prosqlbody', 'funcid ([0-9]+)', 'g') AS called
JOIN pg_proc AS own ON own.oid = called[1]::oid AND own.oid < {_FIRST_NORMAL}
WHERE f.provolatile <> 'v' GROUP BY f.oid, f.nspname, f.proname
UNION ALL
SELECT 'operator', schemas.nspname::text, oprname::text, call
FROM pg_operator JOIN schemas ON schemas.oid = oprnamespace JOIN open ON open.oid = oprcode
UNION ALL
SELECT 'cast', nspname::text, typname::text, call
FROM casts JOIN pg_type AS t ON t.oid = casttarget JOIN pg_namespace AS n ON n.oid = typnamespace
UNION ALL
SELECT 'implicit', '', 'implicit cast from ' || types, call FROM casts WHERE castcontext = 'i'
UNION ALL
SELECT 'implicit', '', 'operator family ' || quote_ident(opfname), call
FROM pg_amproc JOIN comparing ON comparing.oid = amprocfamily JOIN open ON open.oid = amproc
UNION ALL
SELECT 'implicit', '', 'operator family ' || quote_ident(opfname), call
FROM pg_amop JOIN comparing ON comparing.oid = amopfamily
JOIN pg_operator ON pg_operator.oid = amopopr JOIN open ON open.oid = oprcode
UNION ALL
SELECT DISTINCT 'path', '', '', substr(entry, length('search_path=') + 1)
FROM pg_proc, unnest(proconfig) AS entry WHERE entry LIKE 'search\\_path=%'
UNION ALL
SELECT DISTINCT 'path', '', '', quote_ident(rolname)
FROM pg_proc JOIN pg_roles ON pg_roles.oid = proowner
WHERE prosecdef AND pg_proc.oid >= {_FIRST_NORMAL}
"""

# What using a type runs, as a SELECT that runs as much. Of a row type only the columns matter whose
# types are not PostgreSQL's own, or whose values may be made by a volatile cast.
# pg_range has rngmultitypid from version 14 on.
TYPES: Final = f"""
WITH {_SCHEMAS}, {_VOLATILE},
parts AS (
  SELECT t.oid, 'NULL::' || format_type(typbasetype, NULL) AS part
  FROM pg_type AS t WHERE typtype = 'd'
  UNION
  SELECT t.oid, 'NULL::' || format_type(atttypid, NULL)
  FROM pg_type AS t JOIN pg_attribute ON attrelid = typrelid
  WHERE t.oid >= {_FIRST_NORMAL} AND typtype = 'c' AND attnum > 0 AND NOT attisdropped
    AND (atttypid >= {_FIRST_NORMAL} OR atttypid IN (SELECT casttarget FROM casts))
  UNION
  SELECT rngtypid, 'NULL::' || format_type(rngsubtype, NULL) FROM pg_range
  UNION
  SELECT (to_jsonb(pg_range) ->> 'rngmultitypid')::oid, 'NULL::' || format_type(rngtypid, NULL)
  FROM pg_range
  UNION
  SELECT t.oid, function || '(NULL)'
  FROM pg_type AS t, unnest(ARRAY[
    typinput, typreceive, typoutput, typsend, typmodin, typmodout]) AS support
  JOIN volatile ON volatile.oid = support
  WHERE typtype = 'b'
  UNION
  SELECT rngtypid, function || '(NULL)'
  FROM pg_range, unnest(ARRAY[rngcanonical, rngsubdiff]) AS support
  JOIN volatile ON volatile.oid = support
),
checks AS (
  SELECT contypid, string_agg('(' || pg_get_expr(conbin, 0) || ')', ' AND ') AS condition
  FROM pg_constraint WHERE contypid <> 0 AND contype = 'c' GROUP BY contypid
)
SELECT nspname::text, typname::text,
       coalesce('SELECT ' || string_agg(part, ', ') || coalesce(' WHERE ' || min(condition), ''),
                '')
FROM pg_type AS t
JOIN schemas ON schemas.oid = typnamespace
LEFT JOIN parts ON parts.oid = t.oid
LEFT JOIN checks ON contypid = t.oid
WHERE t.oid >= {_FIRST_NORMAL} AND typtype IN ('b', 'c', 'd', 'e', 'r', 'm')
  AND typisdefined AND NOT (typtype = 'b' AND typcategory = 'A')
GROUP BY t.oid, nspname, typname
"""

CASTS: Final = f"""
WITH {_VOLATILE}
SELECT nspname::text, typname::text,
       'cast from ' || format_type(castsource, NULL) || ' to ' || format_type(casttarget, NULL)
         || ' by function ' || function
FROM casts JOIN pg_type AS target ON target.oid = casttarget
JOIN pg_namespace ON pg_namespace.oid = typnamespace
"""

# What runs without being named: implicit casts, what writes a value out, what compares and hashes
# values for ORDER BY, DISTINCT and joins. Other support functions are C and take internal values.
IMPLICIT: Final = f"""
WITH {_VOLATILE},
comparing AS (
  SELECT opf.oid, opfname FROM pg_opfamily AS opf JOIN pg_am ON pg_am.oid = opfmethod
  WHERE amname IN ('btree', 'hash')
)
SELECT 'implicit cast from ' || format_type(castsource, NULL) || ' to '
         || format_type(casttarget, NULL) || ' by function ' || function, function
FROM casts WHERE castcontext = 'i'
UNION
SELECT 'output of type ' || format_type(t.oid, NULL) || ' by function ' || function, function
FROM pg_type AS t, unnest(ARRAY[typoutput, typsend]) AS support
JOIN volatile ON volatile.oid = support
WHERE t.oid >= {_FIRST_NORMAL}
UNION
SELECT 'operator family ' || quote_ident(opfname) || ' by function ' || function, function
FROM pg_amproc JOIN comparing ON comparing.oid = amprocfamily JOIN volatile ON volatile.oid = amproc
WHERE 'internal'::regtype <> ALL (proargtypes)
UNION
SELECT 'operator family ' || quote_ident(opfname) || ' by function ' || function, function
FROM pg_amop JOIN comparing ON comparing.oid = amopfamily
JOIN pg_operator ON pg_operator.oid = amopopr JOIN volatile ON volatile.oid = oprcode
"""

# What a table has of a descendant it shows when it is read itself.
RELATIONS: Final = f"""
WITH RECURSIVE {_SCHEMAS},
unfit AS (
  SELECT oid, CASE relkind WHEN 'f' THEN 'foreign' ELSE 'unlogged' END AS kind FROM pg_class
  WHERE oid >= {_FIRST_NORMAL} AND (relkind = 'f' OR relpersistence = 'u')
    AND relkind IN ('r', 'p', 'f', 'S', 'm')
  UNION
  SELECT inhparent, kind FROM unfit JOIN pg_inherits ON inhrelid = unfit.oid
),
kinds AS (
  SELECT c.oid, coalesce(
    unfit.kind,
    CASE WHEN relkind = 'v' THEN 'view' WHEN relkind = 'S' THEN 'sequence'
         WHEN relrowsecurity AND EXISTS (
           SELECT FROM pg_policy WHERE polrelid = c.oid AND polcmd IN ('r', '*')) THEN 'policy'
    END) AS kind
  FROM pg_class AS c
  LEFT JOIN (SELECT oid, min(kind) AS kind FROM unfit GROUP BY oid) AS unfit ON unfit.oid = c.oid
  WHERE c.oid >= {_FIRST_NORMAL} AND relkind IN ('r', 'p', 'v', 'f', 'S', 'm')
)
SELECT c.oid, nspname::text, relname::text, kind
FROM kinds JOIN pg_class AS c ON c.oid = kinds.oid JOIN schemas ON schemas.oid = relnamespace
WHERE kind IS NOT NULL
"""

VIEWS: Final = "SELECT oid, pg_get_viewdef(oid) FROM unnest($1::oid[]) AS oid"
POLICIES: Final = """
SELECT polrelid, 'SELECT 1 WHERE '
         || coalesce(string_agg('(' || pg_get_expr(polqual, polrelid) || ')', ' AND '), 'true')
FROM pg_policy WHERE polrelid = ANY ($1::oid[]) AND polcmd IN ('r', '*') GROUP BY polrelid
"""


def _sum(row: str, source: str) -> str:
    """One number for all those rows, whatever their order."""
    return f"(SELECT coalesce(sum(hashtextextended(ROW({row})::text, 0)), 0) FROM {source})"


# Any change of what the questions above answer changes this; what often changes besides, such as
# the file of a table that is truncated, does not. A row's xmin is another one after each change.
_FINGERPRINTS: Final = (
    _sum("oid", "pg_database WHERE datname = current_database()"),
    _sum("oid, nspname", "schemas"),
    *[
        _sum(
            f"{catalogue}.oid, {catalogue}.xmin",
            f"{catalogue} JOIN schemas ON schemas.oid = {column}"
            f" WHERE {catalogue}.oid >= {_FIRST_NORMAL}",
        )
        for catalogue, column in (
            ("pg_proc", "pronamespace"),
            ("pg_operator", "oprnamespace"),
            ("pg_type", "typnamespace"),
        )
    ],
    *[
        _sum("oid, xmin", f"{catalogue} WHERE oid >= {_FIRST_NORMAL}")
        for catalogue in ("pg_cast", "pg_amop", "pg_amproc", "pg_opfamily")
    ],
    _sum(
        "c.oid, c.xmin",
        "pg_constraint AS c JOIN schemas ON schemas.oid = connamespace"
        " WHERE contypid <> 0 AND contype = 'c'",
    ),
    _sum(
        "attrelid, attnum, atttypid",
        "pg_attribute JOIN lasting ON lasting.oid = attrelid"
        f" WHERE atttypid >= {_FIRST_NORMAL} AND attnum > 0",
    ),
    _sum(
        "oid, relname, relnamespace, relkind, relpersistence, relrowsecurity",
        "lasting WHERE relkind IN ('v', 'S', 'f') OR relpersistence = 'u' OR relrowsecurity",
    ),
    _sum(
        "inhrelid, inhparent",
        "pg_inherits JOIN lasting ON lasting.oid = inhrelid WHERE relkind IN ('r', 'p', 'f')",
    ),
    _sum("r.oid, r.xmin", "pg_rewrite AS r JOIN lasting ON lasting.oid = ev_class"),
    _sum("p.oid, p.xmin", "pg_policy AS p JOIN lasting ON lasting.oid = polrelid"),
    _sum(
        "setdatabase, rolname, setconfig",
        "pg_db_role_setting LEFT JOIN pg_roles ON pg_roles.oid = setrole",
    ),
)

STATE: Final = f"""
WITH {_SCHEMAS},
lasting AS (
  SELECT pg_class.oid, relname, relnamespace, relkind, relpersistence, relrowsecurity
  FROM pg_class JOIN schemas ON schemas.oid = relnamespace
  WHERE pg_class.oid >= {_FIRST_NORMAL} AND relkind NOT IN ('i', 'I', 't')
)
SELECT pg_is_in_recovery() AS in_recovery,
       concat_ws(' ', {", ".join(_FINGERPRINTS)}) AS fingerprint
"""
