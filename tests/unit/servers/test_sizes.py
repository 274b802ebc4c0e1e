"""Sizes of pools, with what is different for single databases and users."""

from pgproxy.config import Pool, PoolEntry
from pgproxy.servers.sizes import BESIDE, PoolSizes, excess_text, pool_sizes

SIZES = pool_sizes(
    Pool(
        size=20,
        min_size=2,
        reserve_size=3,
        max_database_connections=40,
        max_user_connections=30,
        databases={"small": PoolEntry(size=1), "reports": PoolEntry(size=5, max_connections=0)},
        users={"batch": PoolEntry(mode="session", size=50, guaranteed_size=4, max_connections=9)},
    )
)


def shown(database: str, user: str) -> tuple[int, int, int, int]:
    sizes = SIZES.of(database, user)
    return sizes.size, sizes.min_size, sizes.reserve_size, sizes.guaranteed_size


def test_a_users_key_wins_over_its_databases_and_that_over_the_default() -> None:
    assert shown("any", "one") == (20, 2, 3, 2)
    assert shown("reports", "one") == (5, 2, 3, 2)
    assert shown("reports", "batch") == (50, 2, 3, 4)


def test_no_pool_is_kept_larger_than_it_may_be() -> None:
    assert shown("small", "one") == (1, 1, 3, 2)


def test_caps_have_the_keys_that_set_them() -> None:
    assert SIZES.of_database("any") == (("pool", "max_database_connections"), 40)
    assert SIZES.of_database("small") == (("pool", "max_database_connections"), 40)
    assert SIZES.of_database("reports") == (("pool", "databases", "reports", "max_connections"), 0)
    assert SIZES.of_user("any") == (("pool", "max_user_connections"), 30)
    assert SIZES.of_user("batch") == (("pool", "users", "batch", "max_connections"), 9)


def test_what_a_server_is_too_small_for() -> None:
    assert SIZES.excess(53) == []
    assert SIZES.excess(30) == ["pool.users.batch.size = 53"]
    assert SIZES.excess(22) == ["pool.size = 23", "pool.users.batch.size = 53"]
    assert PoolSizes(100, max_backend=10).excess(10) == []
    assert PoolSizes(100, max_backend=11).excess(10) == ["pool.max_backend_connections = 11"]


def test_the_warning_names_keys_and_what_there_is() -> None:
    assert excess_text(PoolSizes(20), 20 + BESIDE) == ""
    text = excess_text(PoolSizes(20), 19 + BESIDE)
    assert text.startswith("pool.size = 20 could take more than the 19 connections")
