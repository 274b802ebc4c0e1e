"""Who may log in now, and who is next."""

from hypothesis import given
from hypothesis import strategies as st

from pgproxy.servers.turns import Turns


class Log:
    def __init__(self, begun: list[int], number: int, *, needed: bool = True) -> None:
        self.begun = begun
        self.number = number
        self.needed = needed

    def __call__(self) -> bool:
        self.begun.append(self.number)
        return self.needed


def test_a_place_that_gets_free_goes_to_who_has_waited_longest() -> None:
    turns = Turns(2)
    begun: list[int] = []
    for number in range(4):
        turns.ask(Log(begun, number))
    assert begun == [0, 1]
    turns.leave()
    assert begun == [0, 1, 2]
    turns.leave()
    turns.leave()
    turns.leave()
    assert (begun, turns.taken) == ([0, 1, 2, 3], 0)


def test_who_is_not_needed_any_more_takes_no_place() -> None:
    turns = Turns(1)
    begun: list[int] = []
    turns.ask(Log(begun, 0))
    for number in range(1, 5000):
        turns.ask(Log(begun, number, needed=number == 4999))
    turns.leave()
    assert (len(begun), turns.taken) == (5000, 1)


def test_who_asks_while_beginning_waits_behind_the_others() -> None:
    turns = Turns(1)
    begun: list[int] = []

    class Again(Log):
        def __call__(self) -> bool:
            turns.ask(Log(begun, self.number + 10))
            return super().__call__()

    turns.ask(Again(begun, 0, needed=False))
    turns.ask(Log(begun, 1))
    assert begun == [0, 10]
    turns.leave()
    assert begun == [0, 10, 1]


@given(st.integers(1, 4), st.lists(st.sampled_from(["ask", "not needed", "leave"])))
def test_never_more_than_the_limit_and_nobody_is_forgotten(limit: int, steps: list[str]) -> None:
    turns = Turns(limit)
    begun: list[int] = []
    asked = 0
    for step in steps:
        if step == "leave":
            if turns.taken:
                turns.leave()
        else:
            turns.ask(Log(begun, asked, needed=step == "ask"))
            asked += 1
        assert 0 <= turns.taken <= limit
        assert turns.taken == limit or not turns.waiting
        assert begun == list(range(asked - len(turns.waiting)))
