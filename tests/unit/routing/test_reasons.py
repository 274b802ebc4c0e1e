"""Every reason has a sentence, a number and a stable value."""

import re

from pgproxy.routing.decision import PRIMARY, Decision
from pgproxy.routing.reasons import CODES, REASONS, SENTENCES, Reason


def test_every_reason_has_one_sentence() -> None:
    assert set(SENTENCES) == set(Reason)
    for sentence in SENTENCES.values():
        assert re.fullmatch(r"[A-Z][^.]*\.", sentence.replace("pgproxy.route", "")), sentence


def test_every_reason_has_a_number() -> None:
    assert [CODES[reason] for reason in REASONS] == list(range(len(Reason)))
    assert Decision(PRIMARY, Reason.DDL).code == CODES[Reason.DDL]


def test_values_are_fit_for_metric_labels() -> None:
    for reason in Reason:
        assert re.fullmatch(r"[a-z_]+", reason.value)
