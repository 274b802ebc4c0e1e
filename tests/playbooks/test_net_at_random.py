"""Replicas that refuse, cancel and die at any moment: no client hears of it but where it must, every
write is done once, and what is not known for a read never reaches a replica."""

from collections import Counter
from itertools import count
from random import Random
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from pgproxy.frames import read
from tests.playbooks.mortal import Postgres, frames
from tests.playbooks.test_failovers import HIDDEN, INSERT, Unit, World

TEXTS: Final = (
    ["SELECT 1"] * 8
    + [HIDDEN] * 6
    + [INSERT, "SELECT n()", "COMMIT", "COMMIT", "ROLLBACK"]
    + ["BEGIN", "BEGIN READ ONLY", "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"]
    + ["SAVEPOINT a", "ROLLBACK TO a", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN"]
)
CONTROL: Final = ("BEGIN", "COMMIT", "ROLLBACK")
FORMS: Final = ["simple"] * 3 + ["unnamed", "again"]
STEPS: Final = {
    "send": 10,
    "answer": 12,
    "hear": 4,
    "conflict": 3,
    "crash": 1,
    "fatal": 0.5,
    "return": 1,
    "see": 2,
    "cancel": 0.1,
    "leave": 0.1,
}


# What clients hear: of their own mistakes, of what two replicas have died of, of their cancels.
THEIR_OWN: Final = {"42601", "25P02", "3B001", "25P01", "26000"}
LOST_TWICE: Final = "08006"
TOLD_SO: Final = "57P01"
CANCELED: Final = "57014"


class Steady(World):
    """The primary stays, and answers come whole."""

    def says(self, server: Postgres, data: bytes, cut: int) -> None:
        super().says(server, data, 0)

    def answers(self, server: Postgres, number: int, cut: int) -> None:
        answer = b""
        while server.messages and (number > 0 or answer[-6:-5] != b"Z"):
            answer += server.answer()
            number -= 1
        self.says(server, answer, 0)

    def running(self) -> list[Postgres]:
        found = super().running()
        return [one for one in found if one.name != self.primary or not self.is_killing]

    is_killing = False

    def does(self, step: str, random: Random) -> None:
        self.is_killing = step in ("crash", "fatal")
        super().does(step, random)
        self.is_killing = False

    def errors(self) -> Counter[str]:
        """SQLSTATEs that clients have heard, but for those of a READ ONLY transaction."""
        heard: Counter[str] = Counter()
        for client, units, _ in self.clients:
            if any("READ ONLY" in text for unit in units for text in unit.texts):
                continue
            for frame in frames(client.own_transport.arrived):
                if frame[:1] == b"E":
                    heard[read.error_fields(frame[5:])["C"]] += 1
        return heard


def a_script(random: Random, values: "count[int]") -> list[Unit]:
    units = []
    for _ in range(random.randint(1, 10)):
        texts = random.choices(TEXTS, k=random.choice([1, 1, 1, 2]))
        if any(text.startswith(CONTROL) for text in texts):
            texts = texts[:1]  # what stands behind the end of one stays where that was
        form = random.choice(FORMS)
        if form == "again" and len(texts) > 1:
            form = "unnamed"  # else names hang on which of the texts fails
        units.append(Unit(texts, form, next(values)))
    return units


def play(random: Random) -> tuple[Counter[str], dict[str, int]]:
    values = count(1, 10)
    world = Steady(
        [a_script(random, values) for _ in range(random.randint(1, 3))],
        size=random.randint(1, 3),
        max_prepared=random.choice([1, 100]),
    )
    for _ in range(random.randint(20, 120)):
        (step,) = random.choices(list(STEPS), list(STEPS.values()))
        world.does(step, random)
        world.stage.check()
    world.finish()
    errors = world.errors()
    world.verify()
    assert not world.misled
    return errors, world.stage.counters.replica_retries


@settings(max_examples=300)
@given(st.integers(0, 1 << 32))
def test_nobody_is_misled(seed: int) -> None:
    errors, _ = play(Random(seed))
    assert set(errors) <= THEIR_OWN | {LOST_TWICE, TOLD_SO, CANCELED}, errors


def test_the_plays_have_what_they_are_about() -> None:
    caught: Counter[str] = Counter()
    heard: Counter[str] = Counter()
    for seed in range(150):
        errors, retries = play(Random(seed))
        caught.update(retries)
        heard.update(errors)
    assert min(caught[cause] for cause in ("read_only", "conflict", "lost")) > 10, caught
    assert heard[LOST_TWICE] + heard[TOLD_SO] < caught["lost"], (heard, caught)
