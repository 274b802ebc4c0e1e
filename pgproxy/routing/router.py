"""Decisions, remembered. PURE, HOT.

`decide` is called for every statement that passes. It answers from a dictionary: first under the
statement's exact bytes, then under its lexical key (key.py); only what it has not seen is parsed.
A text without literals is its own key, so one dictionary holds both.

The memory is bounded by two generations in place of a list in order of use: what is found in the
old one moves to the young one, and when the young one is full it becomes the old one and the old
one is forgotten. Nothing is written when a decision is found in the young one.
"""

from typing import Final, final

from mypy_extensions import i64

from pgproxy.routing.classify import PARSE_LIMIT, classify, classify_beginning
from pgproxy.routing.decision import Decision
from pgproxy.routing.key import lexical_key

# What an entry costs beside its key: a decision, and its place in the dictionary.
_ENTRY_BYTES: Final = 400


@final
class Router:
    """The decisions of one process.

    parse_limit   bytes; a longer text is not parsed (reason too_long) and not remembered
    cache_size    statements remembered, at most
    cache_bytes   bytes they take, about and at most
    hits, key_hits, misses
                  statements answered by their exact text, by their key, by the parser
    """

    def __init__(
        self,
        *,
        parse_limit: int = PARSE_LIMIT,
        cache_size: int = 10000,
        cache_bytes: int = 16 * 1024 * 1024,
    ) -> None:
        self.hits: i64 = 0
        self.key_hits: i64 = 0
        self.misses: i64 = 0
        self._parse_limit: i64 = parse_limit
        self._room: i64 = max(cache_size // 2, 1)
        self._room_bytes: i64 = cache_bytes // 2
        self._young: dict[bytes, Decision] = {}
        self._young_bytes: i64 = 0
        self._old: dict[bytes, Decision] = {}

    def decide(self, sql: bytes) -> Decision:
        """Where the statement(s) in `sql` go. Never raises; see classify.classify for the text."""
        if len(sql) > self._parse_limit:
            self.misses += 1
            return classify(sql, self._parse_limit)
        found = self._young.get(sql)
        if found is not None:
            self.hits += 1
            return found
        found = self._old.get(sql)
        if found is not None:
            self.hits += 1
            self._remember(sql, found)
            return found
        key = lexical_key(sql)
        if key is not None:
            found = self._young.get(key)
            if found is not None:
                self.key_hits += 1
                return found
            found = self._old.get(key)
            if found is not None:
                self.key_hits += 1
                self._remember(key, found)
                return found
        self.misses += 1
        decision = classify(sql, self._parse_limit)
        # What the parser refused, or what its literals decided, says nothing about another text.
        if key is None or decision.unparsed or decision.exact:
            key = sql
        self._remember(key, decision)
        return decision

    def decide_beginning(self, sql: bytes) -> Decision:
        """The decision for a text of which `sql` is only the beginning. Never raises."""
        self.misses += 1
        return classify_beginning(sql)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def _remember(self, key: bytes, decision: Decision) -> None:
        if len(self._young) >= self._room or self._young_bytes >= self._room_bytes:
            self._old = self._young
            self._young = {}
            self._young_bytes = 0
        self._young[key] = decision
        self._young_bytes += len(key) + _ENTRY_BYTES
