import pytest
from pydantic import ValidationError

from pgproxy.config import (
    Backend,
    Config,
    Health,
    Listen,
    Pool,
)


def test_the_contract_s_defaults() -> None:
    config = Config()
    assert (config.listen.host, config.listen.port) == ("0.0.0.0", 5432)
    assert (config.listen.max_clients, config.listen.workers) == (10_000, 1)
    assert (config.http.host, config.http.port) == ("0.0.0.0", 9930)
    assert config.auth.method == "scram-sha-256"
    assert config.server.connect_timeout == 3
    assert (config.pool.mode, config.pool.size, config.pool.min_size) == ("transaction", 20, 0)
    assert (config.pool.wait_timeout, config.pool.idle_timeout, config.pool.lifetime) == (
        30,
        600,
        3600,
    )
    assert config.routing.transactions == "primary"
    assert (config.health.interval, config.health.timeout) == (1, 2)
    assert config.discovery.mode == "static"
    assert (config.log.level, config.log.format) == ("info", "text")


def test_a_configuration_cannot_be_changed_in_place() -> None:
    with pytest.raises(ValidationError):
        Config().pool.size = 5  # type: ignore[misc]


@pytest.mark.parametrize("port", [-1, 65_536])
def test_ports_have_bounds(port: int) -> None:
    with pytest.raises(ValidationError):
        Listen(port=port)


def test_port_zero_lets_the_system_pick() -> None:
    assert Listen(port=0).port == 0


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, True])
def test_times_are_finite_numbers(value: float) -> None:
    with pytest.raises(ValidationError):
        Pool(wait_timeout=value)


def test_a_boolean_is_no_count() -> None:
    with pytest.raises(ValidationError):
        Pool(size=True)


@pytest.mark.parametrize(
    ("backend", "label"),
    [
        (Backend(host="db", name="one"), "one"),
        (Backend(host="db", port=6000), "db:6000"),
        (Backend(host="::1"), "[::1]:5432"),
    ],
)
def test_a_backend_without_a_name_is_called_by_its_address(backend: Backend, label: str) -> None:
    assert backend.label == label


def test_a_password_does_not_show_in_a_repr() -> None:
    assert "hunter2" not in repr(Health.model_validate({"password": "hunter2"}))
