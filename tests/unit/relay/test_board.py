"""What workers tell each other at once."""

from pgproxy.relay.board import Board, board_size
from pgproxy.routing.routers import PLACES


def boards(workers: int) -> list[Board]:
    memory = bytearray(board_size(workers))
    return [Board(memory, number, workers) for number in range(workers)]


def test_the_last_write_of_any_worker_counts_for_all() -> None:
    one, two, three = boards(3)
    one.note_writes(5.0)
    two.note_writes(7.0)
    assert (one.wrote_at, two.wrote_at, three.wrote_at) == (7.0, 7.0, 7.0)
    two.note_writes(8.0)
    assert three.wrote_at == 8.0


def test_changes_are_told_apart_by_database_and_by_what_they_mean() -> None:
    one, two = boards(2)
    one.note_objects(3, 5.0, in_doubt=False)
    one.note_objects(PLACES - 1, 6.0, in_doubt=True)
    assert (two.changed_at(3), two.doubted_at(3)) == (5.0, 0.0)
    assert (two.changed_at(PLACES - 1), two.doubted_at(PLACES - 1)) == (6.0, 6.0)
    assert (two.changed_at(4), two.schema_at, two.wrote_at) == (0.0, 0.0, 0.0)
    one.note_schema(9.0)
    assert two.schema_at == 9.0


def test_of_a_worker_that_has_ended_everything_is_in_doubt() -> None:
    one, two = boards(2)
    one.lost(1, until=100.0)
    assert two.wrote_at == 100.0
    assert two.schema_at > 0
    assert all(two.doubted_at(place) == two.changed_at(place) > 0 for place in range(PLACES))
