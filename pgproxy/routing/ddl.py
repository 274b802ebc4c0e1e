"""Statements that change the schema, roles or settings: all alike but for what is temporary. PURE."""

import re
from typing import Final

from pgproxy.protocol.settings import Effect
from pgproxy.routing.decision import DOUBTS, PRIMARY, RENEWS, Decision
from pgproxy.routing.lookup import Lookup
from pgproxy.routing.pins import Pin
from pgproxy.routing.reads import Findings, Tree, is_about_temporary
from pgproxy.routing.reasons import Reason

# DDL whose node is not named as the client says it. Of ALTER, CREATE and DROP alone the node says
# the kind of object.
DDL: Final = {
    "AlterDatabaseRefreshCollStmt": "ALTER DATABASE",
    "AlterDatabaseSetStmt": "ALTER DATABASE",
    "AlterEnumStmt": "ALTER TYPE",
    "AlterExtensionContentsStmt": "ALTER EXTENSION",
    "AlterObjectDependsStmt": "ALTER",
    "AlterObjectSchemaStmt": "ALTER",
    "AlterOwnerStmt": "ALTER",
    "AlterRoleSetStmt": "ALTER ROLE",
    "AlterTableMoveAllStmt": "ALTER TABLE",
    "AlterTableSpaceOptionsStmt": "ALTER TABLESPACE",
    "AlterTableStmt": "ALTER TABLE",
    "CommentStmt": "COMMENT",
    "CompositeTypeStmt": "CREATE TYPE",
    "CreateEnumStmt": "CREATE TYPE",
    "CreateForeignServerStmt": "CREATE SERVER",
    "CreateRangeStmt": "CREATE TYPE",
    "CreateStmt": "CREATE TABLE",
    "CreateTableAsStmt": "CREATE TABLE AS",
    "CreateTableSpaceStmt": "CREATE TABLESPACE",
    "CreatedbStmt": "CREATE DATABASE",
    "DefineStmt": "CREATE",
    "DropStmt": "DROP",
    "DropTableSpaceStmt": "DROP TABLESPACE",
    "DropdbStmt": "DROP DATABASE",
    "GrantRoleStmt": "GRANT",
    "GrantStmt": "GRANT",
    "ImportForeignSchemaStmt": "IMPORT FOREIGN SCHEMA",
    "IndexStmt": "CREATE INDEX",
    "ReassignOwnedStmt": "REASSIGN OWNED",
    "RenameStmt": "ALTER",
    "RuleStmt": "CREATE RULE",
    "SecLabelStmt": "SECURITY LABEL",
    "ViewStmt": "CREATE VIEW",
}
# PostgreSQL's abbreviations in the names of the other nodes.
DDL_WORDS: Final = {
    "Am": "ACCESS METHOD",
    "Fdw": "FOREIGN DATA WRAPPER",
    "Op": "OPERATOR",
    "Lang": "LANGUAGE",
    "Seq": "SEQUENCE",
    "Stats": "STATISTICS",
    "Trig": "TRIGGER",
    "TS": "TEXT SEARCH",
}
# No name in a statement means something else because of them.
_NAME_NOTHING: Final = frozenset(
    """
    AlterDatabaseSetStmt AlterDatabaseStmt AlterRoleSetStmt AlterRoleStmt AlterSystemStmt
    CommentStmt CreateEventTrigStmt CreatePolicyStmt CreatePublicationStmt CreateRoleStmt
    CreateStatsStmt CreateSubscriptionStmt CreateTableSpaceStmt CreateTrigStmt
    CreateUserMappingStmt CreatedbStmt GrantRoleStmt GrantStmt IndexStmt SecLabelStmt
    """.split()
)
# Statements that say nothing new of what a read may use: a plain table and what belongs to it.
_RENEWS_NOTHING: Final = _NAME_NOTHING - {"AlterDatabaseSetStmt", "AlterRoleSetStmt"}
# Kinds of objects that are more than that. What goes away makes no read less of one.
_MADE: Final = frozenset(
    """
    AlterEnumStmt AlterExtensionContentsStmt AlterExtensionStmt AlterFunctionStmt
    AlterObjectSchemaStmt AlterOperatorStmt AlterPolicyStmt AlterTypeStmt AlterDomainStmt
    CompositeTypeStmt CreateCastStmt CreateDomainStmt CreateEnumStmt CreateExtensionStmt
    CreateForeignTableStmt CreateFunctionStmt CreateOpClassStmt CreatePolicyStmt CreateRangeStmt
    DefineStmt ImportForeignSchemaStmt RenameStmt RuleStmt ViewStmt
    """.split()
)
# Of ALTER TABLE: what makes a table more than a plain one.
_ALTERED: Final = frozenset(
    """
    AT_AddInherit AT_AddOf AT_AttachPartition AT_EnableRowSecurity AT_ForceRowSecurity
    AT_SetUnLogged
    """.split()
)
# They may take away something temporary.
_DROPS: Final = frozenset({"DropStmt", "DropOwnedStmt", "AlterObjectSchemaStmt"})
# ALTER ROLE and ALTER DATABASE … SET.
_OF_SESSIONS: Final = frozenset({"AlterRoleSetStmt", "AlterDatabaseSetStmt"})
_DDL_PREFIXES: Final = ("Alter", "Create", "Drop")


def is_ddl(node_type: str) -> bool:
    """Whether a statement's node is one of those that change the schema, roles or settings."""
    return node_type in DDL or node_type.startswith(_DDL_PREFIXES)


def decide_ddl(node_type: str, node: Tree, lookup: Lookup) -> Decision:
    """The primary; and what is made temporary pins the session."""
    pin: Pin | None = None
    effects: tuple[Effect, ...] = ()
    on_commit = node.get("oncommit")
    if node_type == "CreateTableAsStmt":
        on_commit = node.get("into", {}).get("onCommit")
        findings = Findings(lookup)
        findings.look(node["query"])
        pin = findings.pin
        effects = tuple(findings.effects)
    elif node_type == "AlterTableStmt":
        # DEFAULT of a new column and USING of a new type are computed for the rows that are there.
        findings = Findings(lookup)
        findings.look(node.get("cmds", []))
        pin = findings.pin
        effects = tuple(findings.effects)
    if pin is None and on_commit != "ONCOMMIT_DROP" and node_type != "DropStmt":
        pin = Pin.TEMP_TABLE if is_about_temporary(node) else None
    name = _ddl_name(node_type, node)
    return Decision(
        PRIMARY,
        Reason.DDL,
        pin=pin,
        detail=name,
        # What is temporary only its own session can mean, which therefore shares no statements.
        changes_schema=node_type not in _NAME_NOTHING and pin is not Pin.TEMP_TABLE,
        renews=_renews(node_type, node),
        known_write=True,
        effects=effects,
        may_unpin=node_type in _DROPS,
        uses_temporary=on_commit == "ONCOMMIT_DROP",
        changes_defaults=node_type in _OF_SESSIONS or _makes_superuser(node_type, node),
        argument=_deserted(node_type, node),
    )


def _renews(node_type: str, node: Tree) -> int:
    """What is known of the database's objects (catalogue.py) afterwards."""
    if node_type in _MADE or "schemaElts" in node:
        return DOUBTS
    if node_type == "AlterTableStmt":
        commands = [command["AlterTableCmd"].get("subtype", "") for command in node.get("cmds", [])]
        return RENEWS if _ALTERED.isdisjoint(commands) else DOUBTS
    if node_type == "CreateStmt":
        is_plain = "inhRelations" not in node and "partbound" not in node
        persistence = node["relation"].get("relpersistence")
        return 0 if is_plain and persistence == "p" else DOUBTS if persistence == "u" else RENEWS
    if node_type == "CreateTableAsStmt":
        return DOUBTS if node["into"]["rel"].get("relpersistence") == "u" else 0
    return 0 if node_type in _RENEWS_NOTHING else RENEWS


def _makes_superuser(node_type: str, node: Tree) -> bool:
    """Whether it makes a role that is there a superuser, or none."""
    return node_type == "AlterRoleStmt" and any(
        option["DefElem"]["defname"] == "superuser" for option in node.get("options", [])
    )


def _deserted(node_type: str, node: Tree) -> str:
    """The database in which PostgreSQL wants nobody to be then (CountOtherDBBackends)."""
    if node_type == "DropdbStmt" or node.get("renameType") == "OBJECT_DATABASE":
        return str(node.get("dbname") or node.get("subname"))
    if node_type == "CreatedbStmt":
        for option in node.get("options", []):
            if option["DefElem"]["defname"] == "template":
                return str(option["DefElem"].get("arg", {}).get("String", {}).get("sval", ""))
    return ""


def _ddl_name(node_type: str, node: Tree) -> str:
    """What the client calls the statement: DROP TABLE."""
    name = DDL.get(node_type, "")
    if not name:
        words = re.findall("[A-Z][A-Z]+(?![a-z])|[A-Z][a-z]+", node_type.removesuffix("Stmt"))
        name = " ".join(DDL_WORDS.get(word, word) for word in words).upper()
    if name not in {"ALTER", "CREATE", "DROP"}:
        return name
    # Statements for objects of many kinds say the kind, as an enumeration's member.
    for member in ("removeType", "renameType", "objectType", "relationType", "kind"):
        kind = node.get(member)
        if isinstance(kind, str) and kind.startswith("OBJECT_"):
            return f"{name} {kind.removeprefix('OBJECT_').replace('_', ' ')}"
    return name
