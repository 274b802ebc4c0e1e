"""Channels against a model that keeps a copy of everything at each savepoint."""

from hypothesis import given, settings
from hypothesis import strategies as st

from pgproxy.frames.codes import STATUS_FAILED, STATUS_IDLE, STATUS_IN_TRANSACTION
from pgproxy.protocol import channels as c

# Batches that the router says nothing of: one succeeds, one fails.
SELECT = 98
ERROR = 99

NAMES = st.sampled_from([b"a", b"b", b"c"])
CHANGES = st.one_of(
    st.tuples(st.sampled_from([c.LISTEN_TO, c.UNLISTEN_FROM]), NAMES),
    st.just((c.UNLISTEN_ALL, b"")),
)
MARKS = st.tuples(
    st.sampled_from([c.SAVEPOINT, c.SAVEPOINT, c.RELEASE, c.ROLLBACK_TO, c.ROLLBACK_TO]),
    st.sampled_from([b"a", b"b"]),
)
OTHERS = st.sampled_from([(SELECT, b""), (SELECT, b""), (ERROR, b"")])
ENDS = st.sampled_from([(c.COMMITS, b""), (c.ROLLS_BACK, b"")])
KINDS = st.sampled_from([CHANGES, CHANGES, CHANGES, MARKS, MARKS, MARKS, OTHERS, ENDS]).flatmap(
    lambda one: one
)
STEPS = st.lists(st.tuples(KINDS, st.booleans(), st.integers(0, 9)), min_size=12, max_size=40)


class Model:
    """One session of PostgreSQL: each savepoint has a copy of what a commit would leave."""

    def __init__(self) -> None:
        self.committed: list[bytes] = []
        self.next: list[bytes] = []
        self.stack: list[tuple[bytes, list[bytes]]] = []
        self.failed = False

    def has(self, savepoint: bytes) -> bool:
        return any(name == savepoint for name, _ in self.stack)

    def run(self, act: c.Act) -> bool:
        """Whether it succeeds."""
        kind, name = act
        if kind in (c.COMMITS, c.ROLLS_BACK):
            if kind == c.COMMITS and not self.failed:
                self.committed = self.next
            self.next = list(self.committed)
            self.stack = []
            self.failed = False
            return True
        places = [index for index, (found, _) in enumerate(self.stack) if found == name]
        if kind == c.ROLLBACK_TO and places:
            self.next = list(self.stack[places[-1]][1])
            del self.stack[places[-1] + 1 :]
            self.failed = False
            return True
        if self.failed or kind in (c.ROLLBACK_TO, ERROR) or (kind == c.RELEASE and not places):
            self.failed = True
            return False
        if kind == c.SAVEPOINT:
            self.stack.append((name, list(self.next)))
        elif kind == c.RELEASE:
            del self.stack[places[-1] :]
        elif kind == SELECT:
            pass
        elif kind == c.LISTEN_TO:
            if name not in self.next:
                self.next.append(name)
        elif kind == c.UNLISTEN_FROM:
            self.next = [other for other in self.next if other != name]
        else:
            self.next = []
        return True


@settings(max_examples=5 * settings.default.max_examples)
@given(STEPS)
def test_it_is_as_in_postgresql(steps: list[tuple[c.Act, bool, int]]) -> None:
    """Each step in a transaction block; `pipelined`: it is sent before the last one is answered."""
    tested = c.Channels()
    model = Model()
    status = STATUS_IDLE
    owed: list[tuple[bool, int]] = []  # succeeded, status behind it

    def answer() -> None:
        nonlocal status
        for succeeded, after in owed:
            if not succeeded:
                tested.failed()
            if tested.in_play:  # as the relay asks
                tested.ready(after, status)
            status = after
        owed.clear()

    for wish, pipelined, dice in steps:
        act = wish
        if wish[0] in (c.RELEASE, c.ROLLBACK_TO) and not model.has(wish[1]) and dice:
            act = (c.SAVEPOINT, wish[1])  # or most transactions would fail at once
        kind = act[0]
        if kind in (c.LISTEN_TO, c.UNLISTEN_FROM, c.UNLISTEN_ALL):
            answer()  # the proxy answers these when all is settled, and not in a failed block
            if status == STATUS_FAILED:
                continue
            if model.run(act):
                tested.act((act,))
            continue
        succeeded = model.run(act)
        ended = kind in (c.COMMITS, c.ROLLS_BACK)
        if not pipelined:
            answer()
        if kind not in (SELECT, ERROR):
            tested.sent((act,), len(owed))
        after = STATUS_FAILED if model.failed else STATUS_IN_TRANSACTION
        owed.append((succeeded, STATUS_IDLE if ended else after))
    answer()
    assert list(tested.active) == model.committed
    tested.act(((c.COMMITS, b""),) if status != STATUS_FAILED else ((c.ROLLS_BACK, b""),))
    if status != STATUS_FAILED:
        model.run((c.COMMITS, b""))
    assert list(tested.active) == model.committed
    assert not tested.in_play
