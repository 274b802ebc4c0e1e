"""Which other proxies there are, by what discovery lists and what they say."""

import pytest

from pgproxy.peers.book import Book, State
from pgproxy.peers.word import Address, Word

A, B, C = (Address(f"10.0.0.{number}", 9930) for number in (1, 2, 3))
OWN, ONE, OTHER = Word("own", 7), Word("one", 7), Word("other", 9)


@pytest.fixture
def book() -> Book:
    """A is the proxy itself, B another one, C has not been asked yet."""
    book = Book("own")
    book.follow([A, B, C])
    book.answered(A, OWN)
    book.answered(B, ONE)
    return book


def test_it_is_not_among_the_others(book: Book) -> None:
    book.answered(C, OTHER)
    assert book.is_complete
    assert book.has_own
    assert not Book("own").has_own
    assert book.holders() == {"one": ONE, "other": OTHER}
    assert book.of_instance(7) == [B]
    assert book.of_instance(9) == [C]
    assert book.of_instance(8) == []
    assert [book.is_own(peer) for peer in book.peers] == [True, False, False]


def test_who_was_not_asked_yet_does_not_count(book: Book) -> None:
    assert not book.is_complete
    assert book.holders() == {"one": ONE}


def test_who_is_silent_counts_with_its_last_word(book: Book) -> None:
    for address in (B, C):
        book.failed(address, "no answer in time", is_refused=False)
    assert book.is_complete
    assert book.holders() == {"one": ONE, str(C): None}
    assert book.of_instance(7) == [B]
    silent = book.peer(B)
    assert silent is not None
    assert (silent.state, silent.error) == (State.SILENT, "no answer in time")
    book.answered(B, OTHER)  # another process
    assert book.holders() == {"other": OTHER, str(C): None}
    assert silent.error == ""


def test_who_refuses_has_ended(book: Book) -> None:
    book.failed(B, "refused", is_refused=True)
    assert book.holders() == {}
    assert book.of_instance(7) == []
    assert book.addresses == [A, B, C]  # and may come back


def test_who_has_left_the_list_counts_while_it_answers(book: Book) -> None:
    book.follow([A])
    assert book.addresses == [A, B]
    assert book.holders() == {"one": ONE}
    book.answered(B, ONE)
    assert book.addresses == [A, B]
    book.failed(B, "no answer in time", is_refused=False)
    assert book.addresses == [A]
    book.answered(B, ONE)  # too late
    book.failed(B, "no answer in time", is_refused=False)
    assert book.holders() == {}


def test_who_is_silent_and_leaves_the_list_is_gone(book: Book) -> None:
    book.failed(B, "no answer in time", is_refused=False)
    book.follow([A, C])
    assert book.addresses == [A, C]


def test_one_with_two_addresses_is_one(book: Book) -> None:
    book.answered(C, ONE)
    assert book.holders() == {"one": ONE}
    assert book.of_instance(7) == [B]
    book.failed(B, "refused", is_refused=True)
    assert book.holders() == {"one": ONE}
    assert book.of_instance(7) == [C]
