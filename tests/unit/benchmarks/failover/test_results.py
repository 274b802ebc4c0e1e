from pathlib import Path

from benchmarks.failover.results import Results, Sample, draw, markdown, sample, table
from tests.support.ledger import Books, Done, Failure


def _books() -> Books:
    """Writes at 1.0, 2.5 and 2.6 s, a read that failed, a transaction that did, and a log-in."""

    def failure(client: str, statement: str, rows: tuple[int, ...]) -> Failure:
        return Failure(client, statement, rows, 1.2, 1.3, "57P01", "gone", None, at_commit=False)

    return Books(
        done=[
            Done("insert-A-1", (1,), 0.9, 1.0),
            Done("transaction-B-2", (2, 3), 1.1, 2.5),
            Done("insert-A-1", (4,), 2.5, 2.6),
            Done("read-C-3", (), 1.0, 1.1),
            Done("read-C-3", (), 1.1, 1.5),
        ],
        failures=[
            failure("transaction-B-2", "COMMIT", (5, 6)),
            failure("read-C-3", "SELECT", ()),
            failure("read-C-3", "connect", ()),
        ],
    )


def _sample(contender: str, round_number: int, failed: int, first: float | None) -> Sample:
    return Sample(
        event="switchover",
        round=round_number,
        contender=contender,
        units=100,
        failed=failed,
        failed_reads=0,
        failed_idle=0,
        refused=0,
        outage=2.0,
        first_write=first,
        read_outage=0.1,
        lost=1,
        doubled=0,
    )


def _results() -> Results:
    samples = [_sample("pgproxy", number, number, 0.02 * number) for number in range(3)]
    samples += [_sample("HAProxy", number, 20, 1.0 if number else None) for number in range(3)]
    contenders = {"pgproxy": "of the tree", "HAProxy": "3", "Pgpool-II": "NOT MEASURED: no pgpool"}
    return Results({"kernel": "any"}, contenders, samples)


def test_a_sample_counts_what_its_clients_were_told() -> None:
    found = sample("switchover", 0, "any", _books(), promotion=2.0, rows=[1, 2, 2, 4])

    assert (found.units, found.failed, found.failed_reads, found.refused) == (5, 2, 1, 1)
    assert found.outage == 1.5
    assert found.first_write == 0.5
    assert round(found.read_outage, 6) == 0.4
    assert (found.lost, found.doubled) == (1, 1)


def test_without_a_write_behind_the_promotion_there_is_no_first_one() -> None:
    assert sample("kill -9", 0, "any", _books(), 3.0, [1, 2, 3, 4]).first_write is None


def test_the_table_has_medians_and_sums_and_says_never() -> None:
    lines = table(_results()).splitlines()

    assert "medians of 3" in lines[0]
    assert lines[-2] == "| pgproxy | 1 | 0 | 0 | 0 | 2.0 s | 20 ms | 100 ms | 3, 0 |"
    assert lines[-1] == "| HAProxy | 20 | 0 | 0 | 0 | 2.0 s | never | 100 ms | 3, 0 |"


def test_the_report_names_who_was_not_measured(tmp_path: Path) -> None:
    results = _results()

    assert draw(results, tmp_path / "any.png")
    text = markdown(results, "any.png")
    assert "(any.png)" in text
    assert "- **Pgpool-II**: NOT MEASURED: no pgpool" in text
    assert not draw(Results({}, {}), tmp_path / "none.png")
