from pgproxy.protocol.prepared import SERVER_PREFIX, PreparedOnServer, StatementRegistry

TYPES = b"\x00\x00"


def test_equal_texts_share_one_statement() -> None:
    registry = StatementRegistry()
    first = registry.acquire(b"SELECT 1", TYPES, "decision")
    assert registry.acquire(b"SELECT 1", TYPES, "decision") is first
    assert first.users == 2
    assert len(registry) == 1
    assert first.decision == "decision"


def test_other_parameter_types_make_another_statement() -> None:
    registry = StatementRegistry()
    plain = registry.acquire(b"SELECT $1", TYPES, None)
    typed = registry.acquire(b"SELECT $1", b"\x00\x01\x00\x00\x00\x17", None)
    assert plain is not typed
    assert plain.server_name != typed.server_name


def test_a_text_without_users_is_forgotten_and_its_number_is_not_used_again() -> None:
    registry = StatementRegistry()
    first = registry.acquire(b"SELECT 1", TYPES, None)
    registry.acquire(b"SELECT 1", TYPES, None)
    registry.release(first)
    assert len(registry) == 1
    registry.release(first)
    assert len(registry) == 0
    again = registry.acquire(b"SELECT 1", TYPES, None)
    assert again is not first
    assert again.server_name != first.server_name


def test_a_release_can_be_undone() -> None:
    registry = StatementRegistry()
    statement = registry.acquire(b"SELECT 1", TYPES, None)
    registry.release(statement)
    registry.retain(statement)
    assert registry.acquire(b"SELECT 1", TYPES, None) is statement
    assert statement.users == 2


def test_undoing_a_release_leaves_a_newer_statement_of_the_text_alone() -> None:
    registry = StatementRegistry()
    old = registry.acquire(b"SELECT 1", TYPES, None)
    registry.release(old)
    new = registry.acquire(b"SELECT 1", TYPES, None)
    registry.retain(old)
    assert registry.acquire(b"SELECT 1", TYPES, None) is new
    registry.release(old)
    assert registry.acquire(b"SELECT 1", TYPES, None) is new


def test_what_a_server_has_prepared() -> None:
    registry = StatementRegistry()
    statement = registry.acquire(b"SELECT 1", TYPES, None)
    prepared = PreparedOnServer(2)
    assert not prepared.touch(statement)
    assert prepared.add(statement) == b""
    assert prepared.touch(statement)
    prepared.forget(statement)
    prepared.forget(statement)
    assert not prepared.touch(statement)
    assert len(prepared) == 0


def test_the_least_recently_used_leaves_first() -> None:
    registry = StatementRegistry()
    one, two, three, four = (
        registry.acquire(b"SELECT %d" % number, TYPES, None) for number in range(4)
    )
    prepared = PreparedOnServer(2)
    assert (prepared.add(one), prepared.add(two)) == (b"", b"")
    prepared.touch(one)
    assert prepared.add(three) == two.server_name
    assert not prepared.touch(two)
    assert prepared.add(four) == one.server_name
    assert len(prepared) == 2


def test_names_on_servers_are_ours() -> None:
    registry = StatementRegistry()
    statement = registry.acquire(b"SELECT 1", TYPES, None)
    assert statement.server_name.startswith(SERVER_PREFIX)
    assert statement.server_name != SERVER_PREFIX
    assert repr(statement) == "<Statement 1 users=1 b'SELECT 1'>"
