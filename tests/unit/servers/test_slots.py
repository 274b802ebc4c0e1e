"""Places for server connections, and who waits for one."""

from pgproxy.servers.slots import Profile, Slot, Waiter, serves


def test_a_connection_serves_who_has_made_all_settings_that_exist_there() -> None:
    slot = Slot(Profile([]))
    assert serves(slot, frozenset())
    slot.custom = {"app.tenant"}
    assert serves(slot, None)
    assert serves(slot, frozenset({"app.tenant", "app.user"}))
    assert not serves(slot, frozenset({"app.user"}))


def test_a_profile_knows_whether_its_user_is_a_superuser() -> None:
    profile = Profile([(b"application_name", b"a")])
    assert not profile.is_superuser
    profile.reported = {b"is_superuser": b"on"}
    assert profile.is_superuser


def test_who_has_a_connection_may_still_wait_for_the_right_to_use_it() -> None:
    waiter = Waiter()
    assert not waiter.is_waiting
    waiter.held = Slot(Profile([]))
    assert waiter.is_waiting
    waiter.held, waiter.waits_for = None, Profile([])
    assert waiter.is_waiting
