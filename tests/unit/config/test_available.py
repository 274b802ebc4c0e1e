"""What is told, or refused, for not being in effect."""

import pytest

from pgproxy.config import (
    AVAILABLE_NOW,
    Config,
    Health,
    LimitEntry,
    Limits,
    Routing,
    notices,
)

pytestmark = pytest.mark.once


def test_the_safety_net_needs_what_is_kept() -> None:
    config = Config(health=Health(rerun_limit=0))
    assert any(told.startswith("routing.safety_net: ") for told in notices(config))
    off = Config(health=Health(rerun_limit=0), routing=Routing(safety_net=False))
    assert not any(told.startswith("routing.safety_net: ") for told in notices(off))


def test_limits_that_are_not_in_effect_are_told() -> None:
    def told(limits: Limits) -> list[str]:
        return [notice for notice in notices(Config(limits=limits)) if notice.startswith("limits.")]

    assert told(Limits(max_concurrent=8, max_concurrent_per_backend=4)) == []
    (said,) = told(Limits(max_concurrent=8, max_concurrent_per_backend=8))
    assert said.startswith("limits.max_concurrent_per_backend = 8: not in effect")
    weights = {"reports": LimitEntry(weight=2)}
    assert told(Limits(max_concurrent=8, users=weights)) == []
    (said,) = told(Limits(users=weights))
    assert "weights are not in effect" in said
    assert told(Limits(users={"reports": LimitEntry(max_clients=50)})) == []


def test_every_key_that_waits_for_its_feature_exists_and_its_default_is_available() -> None:
    values = Config().model_dump()
    for key, now in AVAILABLE_NOW.items():
        section, name = key.split(".")
        assert values[section][name] in now, key


def test_what_a_default_promises_and_is_not_kept_yet_is_told() -> None:
    assert not notices(Config())
