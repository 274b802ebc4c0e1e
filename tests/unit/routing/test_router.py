"""What the router remembers, under which key, and how much of it."""

from pgproxy.routing.decision import PRIMARY, REPLICA, Decision
from pgproxy.routing.reasons import Reason
from pgproxy.routing.router import Memory, Router


def counts(router: Router) -> tuple[int, int, int]:
    """Exact hits, key hits, misses."""
    memory = router.memory
    return int(memory.hits), int(memory.key_hits), int(memory.misses)


def test_a_text_is_parsed_once() -> None:
    router = Router()
    first = router.decide(b"SHOW work_mem")
    assert counts(router) == (0, 0, 1)
    assert router.decide(b"SHOW work_mem") is first
    assert counts(router) == (1, 0, 1)


def test_texts_that_differ_in_literals_are_parsed_once() -> None:
    router = Router()
    first = router.decide(b"SELECT f(1), 'a'")
    assert router.decide(b"SELECT f(22), 'it''s'") is first
    assert router.decide(b"SELECT f(1), 'a'") is first
    assert counts(router) == (0, 2, 1)
    assert len(router) == 1


def test_a_text_without_literals_is_found_under_itself() -> None:
    router = Router()
    router.decide(b"SELECT a FROM t WHERE b = $1")
    router.decide(b"SELECT a FROM t WHERE b = $1")
    assert counts(router) == (1, 0, 1)
    assert len(router) == 1


def test_utility_statements_are_told_apart_by_their_literals() -> None:
    router = Router()
    assert router.decide(b"SET pgproxy.route = 'replica'").argument == "replica"
    assert router.decide(b"SET pgproxy.route = 'primary'").argument == "primary"
    assert router.decide(b"/* pgproxy: replica */ SELECT f(1)").target == REPLICA
    assert router.decide(b"/* pgproxy: primary */ SELECT f(1)").target == PRIMARY


def test_where_a_literal_decides_it_decides_for_its_text_alone() -> None:
    router = Router()
    assert router.decide(b"SELECT current_setting('work_mem')").target == REPLICA
    assert router.decide(b"SELECT current_setting('in_hot_standby')").target == PRIMARY
    assert router.decide(b"SELECT current_setting('search_path')").target == REPLICA
    assert router.decide(b"SELECT current_setting('in_hot_standby')").target == PRIMARY
    assert counts(router) == (1, 0, 3)


def test_a_text_that_the_parser_refuses_says_nothing_about_its_key() -> None:
    router = Router()
    # Both have one key; float's precision is checked by the grammar.
    assert router.decide(b"SELECT 1::float(99)").reason is Reason.UNPARSABLE
    assert router.decide(b"SELECT 1::float(9)").reason is Reason.READ
    assert router.decide(b"SELECT 1::float(99)").reason is Reason.UNPARSABLE


def test_what_is_longer_than_the_limit_is_not_remembered() -> None:
    router = Router(Memory(parse_limit=20))
    assert router.decide(b"SELECT 1 AS abcdefgh").reason is Reason.READ
    assert router.decide(b"SELECT 1 AS abcdefghi").reason is Reason.TOO_LONG
    assert router.decide(b"SELECT 1 AS abcdefghi").reason is Reason.TOO_LONG
    assert counts(router) == (0, 0, 3)
    assert len(router) == 1


def test_the_number_of_texts_remembered_is_bounded() -> None:
    router = Router(Memory(cache_size=10))
    for number in range(100):
        router.decide(b"SELECT a%d" % number)
        assert len(router) <= 10


def test_the_bytes_remembered_are_bounded() -> None:
    router = Router(Memory(cache_bytes=10_000))
    for number in range(100):
        router.decide(b"SELECT a%d, %s" % (number, b", ".join([b"b"] * 200)))
        assert len(router) <= 12
    assert len(router) >= 6


def test_what_is_asked_for_again_outlives_what_is_not() -> None:
    router = Router(Memory(cache_size=10))
    wanted = router.decide(b"SHOW wanted")
    key_wanted = router.decide(b"SELECT 1, wanted")
    for number in range(100):
        router.decide(b"SHOW a%d" % number)
        assert router.decide(b"SHOW wanted") is wanted
        assert router.decide(b"SELECT %d, wanted" % number) is key_wanted
    router.decide(b"SHOW a50")
    assert int(router.memory.misses) == 103


def test_a_router_of_no_size_still_decides() -> None:
    router = Router(Memory(cache_size=0, cache_bytes=0))
    assert router.decide(b"SELECT 1").target == REPLICA
    assert router.decide(b"DELETE FROM t").target == PRIMARY


def test_of_a_text_without_an_end_nothing_is_remembered() -> None:
    router = Router()
    decision = router.decide_beginning(b"INSERT INTO t VALUES ('x")
    assert (decision.reason, decision.unparsed) == (Reason.TOO_LONG, True)
    assert len(router) == 0


class TestLearn:
    def test_texts_of_the_same_key_write(self) -> None:
        router = Router()
        assert router.decide(b"SELECT abs(1)").target == REPLICA
        epoch = router.epoch
        router.learn(b"SELECT abs(1)")
        assert router.epoch != epoch  # or who has prepared one would not ask
        for text in (b"SELECT abs(1)", b"SELECT abs(22)"):
            decision = router.decide(text)
            assert (decision.target, decision.reason) == (PRIMARY, Reason.LEARNED)
            assert decision.known_write
            assert decision.may_write
        assert router.decide(b"SELECT abs(a)").target == REPLICA

    def test_where_a_literal_decides_it_is_learned_for_its_text_alone(self) -> None:
        router = Router()
        router.learn(b"SELECT current_setting('work_mem')")
        assert router.decide(b"SELECT current_setting('work_mem')").target == PRIMARY
        assert router.decide(b"SELECT current_setting('search_path')").target == REPLICA

    def test_a_hint_that_is_known_better(self) -> None:
        router = Router()
        hinted = b"/* pgproxy: replica */ SELECT f(1)"
        assert router.decide(hinted).target == REPLICA
        router.learn(hinted)
        assert router.decide(hinted).target == PRIMARY

    def test_it_outlives_the_cache(self) -> None:
        router = Router(Memory(cache_size=4))
        router.learn(b"SELECT abs(1)")
        for number in range(20):
            router.decide(b"SELECT a%d FROM t" % number)
        assert router.decide(b"SELECT abs(2)").reason is Reason.LEARNED

    def test_it_is_bounded(self) -> None:
        router = Router(Memory(cache_size=4))
        texts = [b"SELECT " + b"a" * 1000 + b"%d" % number for number in range(100)]
        for text in texts:
            router.learn(text)
        assert router.decide(texts[0]).target == REPLICA
        assert router.decide(texts[50]).reason is Reason.LEARNED
        assert router.decide(texts[-1]).reason is Reason.LEARNED

    def test_what_it_prepares_writes(self) -> None:
        router = Router()
        prepare = b"PREPARE a AS SELECT abs(1)"
        router.learn(prepare)
        names = router.decide(prepare).names
        assert names is not None
        prepared = names.uses[0].decision
        assert isinstance(prepared, Decision)
        assert (prepared.target, prepared.reason) == (PRIMARY, Reason.LEARNED)

    def test_a_text_that_is_too_long_is_not_kept(self) -> None:
        router = Router(Memory(parse_limit=10))
        router.learn(b"SELECT abs(1)")
        assert router.decide(b"SELECT abs(1)").reason is Reason.TOO_LONG
