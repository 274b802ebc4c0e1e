"""Decisions, remembered. PURE, HOT.

`decide` is called for every statement that passes. It answers from a dictionary: first under the
statement's exact bytes, then under its lexical key (key.py); only what it has not seen is parsed.
A text without literals is its own key, so one dictionary holds both.

A decision holds for what the names in its text stand for, so each database and search_path that
makes a difference has a router of its own (routers.py). So has each set of rules for statements
(rules.py): such a router stands on one without them. A rule may look at a literal, so it remembers
under the exact bytes alone, and leaves the keys and the parsing to the other.

The memory is bounded by two generations in place of a list in order of use: what is found in the
old one moves to the young one, and when the young one is full it becomes the old one and the old
one is forgotten, for all routers at once. Nothing is written when a decision is found in the young
one.

What a replica has refused to run is remembered apart (`learn`), and outlives both generations.
"""

from typing import Final, final

from mypy_extensions import i64

from pgproxy.routing.classify import PARSE_LIMIT, classify, classify_beginning
from pgproxy.routing.decision import SET_MIN_LSN, Decision
from pgproxy.routing.key import lexical_key
from pgproxy.routing.lookup import BUILT_IN, Lookup
from pgproxy.routing.reasons import Reason
from pgproxy.routing.rules import Rules, apply
from pgproxy.routing.structures import Structures

# What an entry costs beside its key: a decision, and its place in the dictionary.
_ENTRY_BYTES: Final = 400
# Bytes of the keys that were learned for one database, at most: the oldest are forgotten first.
LEARNED_BYTES: Final = 1 << 16

# Routers on one other. A client chooses its application_name, and so among all sets of rules that
# the configuration makes possible.
MAX_RULED: Final = 32


@final
class Memory:
    """What all routers of a process remember, together bounded.

    parse_limit   bytes; a longer text is not parsed (reason too_long) and not remembered
    cache_size    statements remembered, at most
    cache_bytes   bytes they take, about and at most
    structures    where statements are counted; None: nowhere
    hits, key_hits, misses
                  statements answered by their exact text, by their key, by the parser
    """

    def __init__(
        self,
        *,
        parse_limit: int = PARSE_LIMIT,
        cache_size: int = 10000,
        cache_bytes: int = 16 * 1024 * 1024,
        structures: Structures | None = None,
    ) -> None:
        self.structures = structures
        self.hits: i64 = 0
        self.key_hits: i64 = 0
        self.misses: i64 = 0
        self.parse_limit: i64 = parse_limit
        self._room: i64 = max(cache_size // 2, 1)
        self._room_bytes: i64 = cache_bytes // 2
        self._young: i64 = 0
        self._young_bytes: i64 = 0
        self._routers: list[Router] = []
        self._epoch: i64 = 0

    def join(self, router: "Router") -> None:
        """A new router."""
        self._routers.append(router)
        self.renew(router)

    def renew(self, router: "Router") -> None:
        """It may decide otherwise than before, and so gets a number that none had before."""
        self._epoch += 1
        router.epoch = self._epoch

    def leave(self, router: "Router") -> None:
        """The router remembers no more. What it has remembered counts until the next turn."""
        router.leave_ruled()
        self._routers.remove(router)
        router.is_left = True

    def note(self, size: i64) -> None:
        """One decision more, under a key of this size, is about to be remembered."""
        if self._young >= self._room or self._young_bytes >= self._room_bytes:
            self._young = 0
            self._young_bytes = 0
            for router in self._routers:
                router.turn()
        self._young += 1
        self._young_bytes += size + _ENTRY_BYTES

    def __len__(self) -> int:
        return sum([len(router) for router in self._routers])


@final
class Learned:
    """Keys of the texts that a replica has refused to run. All routers of a database share it, so
    that it outlives them."""

    def __init__(self) -> None:
        self._keys: dict[bytes, None] = {}
        self._bytes: i64 = 0

    def __contains__(self, key: bytes) -> bool:
        return key in self._keys

    def add(self, key: bytes) -> None:
        if key in self._keys:
            return
        while self._keys and self._bytes + len(key) > LEARNED_BYTES:
            oldest = next(iter(self._keys))
            del self._keys[oldest]
            self._bytes -= len(oldest)
        self._keys[key] = None
        self._bytes += len(key)

    def clear(self) -> None:
        """The schema is another one."""
        self._keys.clear()
        self._bytes = 0


@final
class Router:
    """The decisions for those who mean the same by the same names. `epoch` is its own.

    `base` and `rules` are of a router with rules: what they may change the other decides.
    """

    def __init__(
        self,
        memory: Memory | None = None,
        lookup: Lookup = BUILT_IN,
        learned: Learned | None = None,
        *,
        base: "Router | None" = None,
        rules: Rules = (),
    ) -> None:
        self.memory = Memory() if memory is None else memory
        self._base = base
        self._rules = rules
        self._ruled: dict[Rules, Router] = {}  # those that stand on this one
        self.is_left = False  # sessions may have it still, but it remembers nothing more
        self.epoch: i64 = 0
        self.lookup = lookup
        self._parse_limit: i64 = self.memory.parse_limit
        self._young: dict[bytes, Decision] = {}
        self._old: dict[bytes, Decision] = {}
        self._learned = Learned() if learned is None else learned
        self.memory.join(self)

    def under(self, rules: Rules) -> "Router":
        """The router for sessions for whose texts `rules` hold too."""
        if not rules:
            return self
        found = self._ruled.get(rules)
        if found is None:
            if len(self._ruled) >= MAX_RULED:
                self.leave_ruled()
            found = Router(self.memory, self.lookup, self._learned, base=self, rules=rules)
            self._ruled[rules] = found
        return found

    def leave_ruled(self) -> None:
        """Those that stand on it are not used any more."""
        for router in self._ruled.values():
            self.memory.leave(router)
        self._ruled.clear()

    def decide(self, sql: bytes) -> Decision:
        """Where the statement(s) in `sql` go. Never raises; see classify.classify for the text."""
        memory = self.memory
        if len(sql) > self._parse_limit:
            memory.misses += 1
            return self._under_rules(sql, self._classify(sql, None))
        found = self._young.get(sql)
        if found is not None:
            memory.hits += 1
            return found
        found = self._old.get(sql)
        if found is not None:
            memory.hits += 1
            self._remember(sql, found)
            return found
        if self._base is not None:
            decision = self._under_rules(sql, self._base.decide(sql))
            self._remember(sql, decision)
            return decision
        key = lexical_key(sql)
        if key is not None:
            found = self._young.get(key)
            if found is not None:
                memory.key_hits += 1
                return found
            found = self._old.get(key)
            if found is not None:
                memory.key_hits += 1
                self._remember(key, found)
                return found
        memory.misses += 1
        decision = self._classify(sql, key)
        if decision.kind == SET_MIN_LSN:
            return decision  # each has another text, and would drive out those that come again
        # What the parser refused, or what its literals decided, says nothing about another text.
        if key is None or decision.unparsed or decision.exact:
            key = sql
        if key in self._learned:
            decision = decision.learned()
        self._remember(key, decision)
        return decision

    def learn(self, sql: bytes) -> None:
        """A replica has refused to run this text: it writes, and so do those that have its key. Who
        has prepared one of them asks anew, since the router has another number from now on."""
        if len(sql) > self._parse_limit:
            return
        base = self._base
        if base is not None:
            base.learn(sql)
            self._remember(sql, self._under_rules(sql, base.decide(sql)))
            self.memory.renew(self)
            return
        decision = self.decide(sql)
        key = None if decision.unparsed or decision.exact else lexical_key(sql)
        if key is None:
            key = sql
        if decision.reason is Reason.LEARNED:
            return
        self._learned.add(key)
        self._remember(key, decision.learned())
        self.memory.renew(self)

    def decide_beginning(self, sql: bytes) -> Decision:
        """The decision for a text of which `sql` is only the beginning. Never raises."""
        self.memory.misses += 1
        return self._under_rules(sql, self._counted(sql, None, classify_beginning(sql)))

    def _classify(self, sql: bytes, key: bytes | None) -> Decision:
        return self._counted(sql, key, classify(sql, self._parse_limit, self.lookup))

    def _counted(self, sql: bytes, key: bytes | None, decision: Decision) -> Decision:
        structures = self.memory.structures
        if structures is None:
            return decision
        return decision.counted(structures.of(sql, key, decision))

    def _under_rules(self, sql: bytes, decision: Decision) -> Decision:
        if not self._rules:
            return decision
        return apply(sql[: int(self._parse_limit)], decision, self._rules)

    def turn(self) -> None:
        """The young generation becomes the old one, which is forgotten."""
        self._old = self._young
        self._young = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _remember(self, key: bytes, decision: Decision) -> None:
        if self.is_left:
            return
        self.memory.note(len(key))
        self._young[key] = decision
