"""Which pin counts of several, and that each can be a metric's label."""

import re

import pytest

from pgproxy.routing.pins import NEVER_UNDONE, UNDONE_BY_ERROR, Pin, lasting_pin


def test_values_are_fit_for_metric_labels() -> None:
    for pin in Pin:
        assert re.fullmatch(r"[a-z_]+", pin.value)


def test_what_is_never_undone_no_error_undoes() -> None:
    assert not NEVER_UNDONE & UNDONE_BY_ERROR


@pytest.mark.parametrize(
    ("pins", "lasting"),
    [
        ([], None),
        ([Pin.LISTEN], Pin.LISTEN),
        ([Pin.TEMP_TABLE, Pin.LOAD], Pin.LOAD),
        ([Pin.DO_BLOCK, Pin.SETSEED], Pin.SETSEED),
        ([Pin.HOLD_CURSOR, Pin.DO_BLOCK], Pin.DO_BLOCK),
        ([Pin.TEMP_TABLE, Pin.ADVISORY_LOCK], Pin.ADVISORY_LOCK),
        # An unlock must not end the setting's pin, nor an error the lock's.
        ([Pin.SET, Pin.ADVISORY_LOCK], Pin.UNPARSED),
        ([Pin.ADVISORY_LOCK, Pin.SET_CONFIG], Pin.UNPARSED),
        ([Pin.TEMP_TABLE, Pin.SET_CONFIG], Pin.SET_CONFIG),
        ([Pin.TEMP_TABLE, Pin.HOLD_CURSOR], Pin.TEMP_TABLE),
    ],
)
def test_the_hardest_to_undo_lasts(pins: list[Pin], lasting: Pin | None) -> None:
    assert lasting_pin(pins) is lasting
