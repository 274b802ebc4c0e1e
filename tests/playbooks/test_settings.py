"""Settings go with their session from one server connection to the next."""

from collections.abc import Iterator

import pytest

from pgproxy.frames import write
from pgproxy.protocol.settings import TEMPORARY, ask, restore
from pgproxy.routing.pins import Pin
from pgproxy.servers.audience import Hearer
from pgproxy.servers.holds import LONGEST_HOLD
from pgproxy.servers.listening import Listening
from tests.playbooks.stage import (
    BEGUN,
    BOUND,
    COMMITTED,
    CREATED,
    FAILED,
    IDLE,
    IN_BLOCK,
    INSERTED,
    PARSED,
    ROLLED_BACK,
    ROW,
    SELECTED,
    SET,
    Client,
    Stage,
    error,
    fields,
    letters,
)
from tests.support.wire import SYNC, bind, execute, parse, query

SELECT = query("SELECT 1")
INSERT = query("INSERT INTO t VALUES (1)")
SET_PATH = query('SET search_path = "A"')  # what SHOW tells of that the server is asked
SET_MEMORY = query("SET work_mem = '5MB'")
RESTORED = BEGUN + write.row_description([b"set_config"]) + write.data_row([b"x"])
RESTORED += write.command_complete(b"SELECT 1") + COMMITTED + IDLE
FAREWELL = error("terminating connection due to administrator command", "57P01", "FATAL")


def answer(*values: bytes | None) -> bytes:
    """The one row that a question gets."""
    rows = write.row_description([b"current_setting"]) + write.data_row(list(values))
    return rows + write.command_complete(b"SELECT 1") + IDLE


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage(size=1, replicas=1)
    yield stage
    stage.close()


def with_memory(stage: Stage) -> Client:
    """A client that has set work_mem."""
    client = stage.client()
    client >> SET_MEMORY
    stage["p"] << SET_MEMORY
    stage["p"] >> SET + IDLE
    client << SET + IDLE
    return client


def restores(stage: Stage, client: Client, before: Client | None = None) -> bytes:
    have = stage.client().relay.carry.settings if before is None else before.relay.carry.settings
    return restore(have, client.relay.carry.settings)[0]


def test_who_loses_its_server_while_that_is_asked_has_its_answer(stage: Stage) -> None:
    client = stage.client()
    client >> SET_PATH
    stage["p"] << SET_PATH
    stage["p"] >> SET + IDLE
    client << SET + IDLE
    assert letters(stage["p"].take()) == "Q"
    stage["p"].leaves()
    told = fields(client.take())
    assert (told["C"], told["S"]) == ("08006", "FATAL")
    assert "No statement was running." in told["D"]


class TestTakingAlong:
    def test_a_constant_is_known_without_asking(self, stage: Stage) -> None:
        client = with_memory(stage)
        assert client.relay.server is None
        assert client.relay.carry.settings.values == {"work_mem": "5MB"}

    def test_another_server_gets_it_in_front_of_the_next_statement(self, stage: Stage) -> None:
        client = with_memory(stage)
        client >> SELECT
        stage["r1"] << restores(stage, client) + SELECT
        stage["r1"] >> RESTORED + SELECTED + IDLE
        client << SELECTED + IDLE
        # Once there, it stays until another session needs something else.
        client >> SELECT
        stage["r1"] << SELECT
        stage["r1"] >> SELECTED + IDLE
        other = stage.client()
        other >> SELECT
        stage["r1"] << restore(client.relay.carry.settings, other.relay.carry.settings)[0] + SELECT
        stage["r1"] >> RESTORED + SELECTED + IDLE
        other << SELECTED + IDLE

    def test_it_comes_before_a_begin_that_was_held_back(self, stage: Stage) -> None:
        client = with_memory(stage)
        other = stage.client()
        other >> INSERT
        stage["p"].take()
        stage["p"] >> RESTORED + INSERTED + IDLE
        assert client.asks(query("BEGIN")) == BEGUN + IN_BLOCK
        client >> INSERT
        stage["p"] << restores(stage, client, other) + query("BEGIN") + INSERT
        stage["p"] >> RESTORED
        assert client.take() == b""
        stage["p"] >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK
        client << INSERTED + IN_BLOCK

    def test_the_server_is_asked_what_it_has_made_of_a_list(self, stage: Stage) -> None:
        client = stage.client()
        client >> SET_PATH
        stage["p"] << SET_PATH
        stage["p"] >> SET + IDLE
        client << SET + IDLE
        stage["p"] << ask(["search_path"], are_set=True)
        assert client.relay.server is not None
        stage["p"] >> answer(b"a")
        client << b""
        assert client.relay.server is None
        assert client.relay.carry.settings.values == {"search_path": "a"}

    def test_and_what_a_transaction_has_left(self, stage: Stage) -> None:
        client = stage.client()
        client >> query("BEGIN") + SET_MEMORY
        stage["p"] << query("BEGIN") + SET_MEMORY
        stage["p"] >> BEGUN + IN_BLOCK + SET + IN_BLOCK
        client >> query("ROLLBACK")
        stage["p"] << query("ROLLBACK")
        stage["p"] >> ROLLED_BACK + IDLE
        client << BEGUN + IN_BLOCK + SET + IN_BLOCK + ROLLED_BACK + IDLE
        stage["p"] << ask(["work_mem"], are_set=False)
        stage["p"] >> answer(b"4MB", None)
        client << b""
        assert client.relay.carry.settings.values == {}

    def test_what_comes_meanwhile_follows_on_the_same_connection(self, stage: Stage) -> None:
        client = stage.client()
        client >> SET_PATH
        stage["p"] << SET_PATH
        stage["p"] >> SET + IDLE
        client >> SELECT
        stage["p"] << ask(["search_path"], are_set=True) + SELECT
        stage["p"] >> answer(b"a") + SELECTED + IDLE
        client << SET + IDLE + SELECTED + IDLE
        assert client.relay.server is None

    def test_the_rows_of_a_question_come_in_any_pieces(self, stage: Stage) -> None:
        client = stage.client()
        client >> SET_PATH
        stage["p"].take()
        for byte in SET + IDLE + answer(b"a"):
            stage["p"] >> bytes([byte])
        client << SET + IDLE
        assert client.relay.carry.settings.values == {"search_path": "a"}

    def test_a_refused_setting_leaves_nothing(self, stage: Stage) -> None:
        client = stage.client()
        client >> SET_PATH
        stage["p"] << SET_PATH
        stage["p"] >> error() + IDLE
        client << error() + IDLE
        assert client.relay.server is None
        assert client.relay.carry.settings.values == {}


class TestWhereOthersSettingsExist:
    def test_nobody_of_many_takes_it(self, stage: Stage) -> None:
        one = stage.client()
        one >> query("BEGIN") + query("SET app.x = '1'")
        stage["p"].take()
        stage["p"] >> BEGUN + IN_BLOCK + SET + IN_BLOCK
        others = [stage.client() for _ in range(500)]
        for other in others:
            other >> INSERT
        one >> query("COMMIT")
        stage["p"] >> COMMITTED + IDLE
        stage["p"].take()
        stage["p"] >> answer(b"1")
        for _ in others:
            _, newest = stage["p"].connections[-1]
            assert newest.take() == INSERT
            newest.protocol.data_received(INSERTED + IDLE)
            stage.settle()
        assert {other.take() for other in others} == {INSERTED + IDLE}
        assert stage["p"].open == 1

    def test_who_looks_before_setting_sees_nothing_of_them(self, stage: Stage) -> None:
        one, other = stage.client(), stage.client()
        one >> query("SET app.x = '1'")
        stage["p"] >> SET + IDLE
        other >> query("SELECT set_config('app.x', current_setting('app.x') || '!', false)")
        assert stage["p"].open == 1
        _, newest = stage["p"].connections[-1]
        assert len(stage["p"].connections) == 2
        assert b"app.x" in newest.take()

    def test_a_setting_that_is_bound_and_not_executed_is_none(self, stage: Stage) -> None:
        client = stage.client()
        client >> parse("SET work_mem = '5MB'") + bind(portal="a")
        client >> parse("SELECT 1 FOR UPDATE") + bind() + execute(limit=1) + execute() + SYNC
        stage["p"].take()
        one = PARSED + BOUND
        stage["p"] >> one + one + write.PORTAL_SUSPENDED + ROW + IDLE
        stage["p"] << ask(["work_mem"], are_set=False)
        stage["p"] >> answer(b"4MB", None)
        assert client.relay.carry.settings.values == {}


class TestTrouble:
    def test_what_cannot_be_restored_ends_the_session_and_nothing_is_run(
        self, stage: Stage
    ) -> None:
        client = with_memory(stage)
        client >> SELECT
        # Nothing was run: another connection may take them.
        for _ in range(4):
            assert client.take() == b""
            assert letters(stage["r1"].take()) == "QQ"
            stage["r1"] >> BEGUN + error("permission denied", "42501") + FAILED
        told = fields(client.take() + IDLE)
        assert (told["S"], told["C"]) == ("FATAL", "42501")
        assert client.own_transport.closed
        assert stage["r1"].open == 0

    def test_what_another_session_has_set_for_good_is_not_this_ones_trouble(
        self, stage: Stage
    ) -> None:
        with_memory(stage)
        other = stage.client()
        for _ in range(2):
            other >> INSERT
        stage["p"].take()
        stage["p"] >> BEGUN + error("permission denied", "42501", "FATAL")
        stage["p"].take()
        assert len(stage["p"].connections) == 2
        _, newest = stage["p"].connections[-1]
        newest.protocol.data_received((INSERTED + IDLE) * 2)
        other << (INSERTED + IDLE) * 2
        assert not other.own_transport.closed

    @pytest.mark.parametrize("sql", ["SET app.x = '1'", "CREATE TEMP TABLE a () ON COMMIT DROP"])
    def test_what_exists_for_good_where_it_was_run_in_the_end(self, stage: Stage, sql: str) -> None:
        with_memory(stage)
        client = stage.client()
        client >> query(sql)
        stage["p"].take()
        stage["p"] >> BEGUN + error("permission denied", "42501", "FATAL")
        stage["p"] << query(sql)
        stage["p"] >> SET + IDLE
        client << SET + IDLE
        (server,) = stage["p"].pool.servers
        assert server.custom == {"app.x" if "app" in sql else TEMPORARY}

    def test_an_answer_that_does_not_come_keeps_the_session_where_it_is(self, stage: Stage) -> None:
        client = stage.client()
        client >> SET_PATH
        stage["p"].take()
        stage["p"] >> SET + IDLE
        stage["p"] >> error("canceling statement", "57014") + IDLE
        client << SET + IDLE
        assert client.relay.server is not None
        assert stage.counters.pins == {"set": 1}

    def test_the_client_leaves_before_the_answer(self, stage: Stage) -> None:
        client = stage.client()
        client >> SET_PATH
        stage["p"].take()
        stage["p"] >> SET + IDLE
        client.leaves()
        assert letters(stage["p"].take()) == "QQ"
        stage["p"] >> answer(b"a") + write.command_complete(b"DISCARD ALL") + IDLE
        other = stage.client()
        other >> INSERT
        stage["p"] << INSERT
        stage["p"] >> INSERTED + IDLE
        other << INSERTED + IDLE
        assert stage["p"].open == 1

    def test_a_cancel_waits_for_the_restoring(self, stage: Stage) -> None:
        client = with_memory(stage)
        client >> SELECT
        client.relay.cancels.ask()
        stage.settle()
        assert stage.counters.cancels == 0
        stage["r1"] >> RESTORED
        assert stage.counters.cancels == 1
        stage["r1"] >> error("canceling statement", "57014") + IDLE
        assert fields(client.take())["C"] == "57014"

    def test_nothing_is_cancelled_for_one_who_waits_for_nothing(self, stage: Stage) -> None:
        client = stage.client()
        client >> SET_PATH
        stage["p"] >> SET + IDLE
        client.relay.cancels.ask()
        stage.settle()
        assert stage.counters.cancels == 0
        stage["p"] >> answer(b"a")

    def test_a_transaction_that_is_run_again_has_its_settings(self) -> None:
        stage = Stage(size=1, replicas=2)
        client = with_memory(stage)
        client >> query("BEGIN") + INSERT
        stage["p"] << query("BEGIN") + INSERT
        stage["p"] >> BEGUN + IN_BLOCK + INSERTED + IN_BLOCK
        client.take()
        stage["p"] >> FAREWELL
        stage.topology("r1", "r2", dead=("p",))
        stage["r1"] << restores(stage, client) + query("BEGIN") + INSERT
        stage["r1"] >> RESTORED + BEGUN + IN_BLOCK + INSERTED + IN_BLOCK
        client << b""
        client >> query("COMMIT")
        stage["r1"] << query("COMMIT")
        stage["r1"] >> COMMITTED + IDLE
        client << COMMITTED + IDLE
        stage.close()

    @pytest.mark.parametrize("in_one", [True, False])
    def test_what_follows_a_setting_is_not_run_again_without_it(self, in_one: bool) -> None:
        stage = Stage(size=1, replicas=2)
        client = stage.client()
        client >> query("SET ROLE ann") + SELECT
        stage["p"] << query("SET ROLE ann") + SELECT
        for piece in [SET + IDLE + FAREWELL] if in_one else [SET + IDLE, FAREWELL]:
            stage["p"] >> piece
        client << SET + IDLE + FAREWELL
        stage["p"].leaves()
        stage.topology("r1", "r2", dead=("p",))
        assert stage["r1"].take() + stage["r2"].take() == b""
        assert client.own_transport.closed
        stage.close()

    def test_a_server_that_goes_before_it_answers_takes_the_session_along(
        self, stage: Stage
    ) -> None:
        client = stage.client()
        client >> SET_PATH
        stage["p"] >> SET + IDLE
        client << SET + IDLE
        stage["p"].leaves()
        assert fields(client.take() + IDLE)["C"] == "08006"

    def test_a_server_that_goes_before_its_notifications_have_come(self, stage: Stage) -> None:
        # It has committed, but nobody can be asked any more what it has set.
        client = stage.client()
        client.own_transport.protocol.pid = 1
        listening = Listening(stage.cluster)
        client.relay.notifications.listening = listening
        shared = listening.shared("d", b"")
        shared.listen(Hearer("u"), [b"c"], lambda _error: None)
        stage.settle()
        assert shared.server is not None
        stage["p"].take()
        client >> query('SET search_path = "A"; NOTIFY c')
        stage["p"].take()
        # The marker waits for the other connection, which does not answer.
        leased = client.relay.server
        assert leased is not None
        leased.transport.protocol.data_received(SET + write.command_complete(b"NOTIFY") + IDLE)
        assert client.relay.notifications.holds
        leased.transport.close()
        stage.settle()
        assert client.own_transport.closed
        listening.close()
        stage.settle()


class TestSettingsThatNoTextNames:
    COMPUTED = "SELECT set_config('app.' || n, 'x', false) FROM t"

    @pytest.mark.parametrize(
        ("sql", "is_kept"),
        [
            (COMPUTED, False),
            ("DO $$ BEGIN EXECUTE 'S' || 'ET app.x = 1'; END $$", False),
            (r"DO E'BEGIN PERFORM \x73et_config(a, b, false) FROM t; END'", False),
            ("DO $$ BEGIN CREATE TEMP TABLE a (); END $$", True),
            ("WITH HOLD SELECT; SET app.x = 1", False),  # of a newer PostgreSQL, perhaps
            ("WITH HOLD SELECT", True),
        ],
    )
    def test_where_others_may_exist_than_the_text_tells(
        self, stage: Stage, sql: str, *, is_kept: bool
    ) -> None:
        client = stage.client()
        client >> query(sql)
        stage["p"] << query(sql)
        stage["p"] >> SET + IDLE
        client << SET + IDLE
        client.leaves()
        if is_kept:
            stage["p"] << query("DISCARD ALL")
            stage["p"] >> write.command_complete(b"DISCARD ALL") + IDLE
        stage.settle()
        assert len(stage["p"].pool.servers) == int(is_kept)

    def test_it_is_none_of_the_texts_that_the_server_refuses_to_read(self, stage: Stage) -> None:
        client, other = stage.client(), stage.client()
        for _ in range(2):
            client >> query("UPDATE t SET SET")
            stage["p"] << query("UPDATE t SET SET")
            stage["p"] >> error("syntax error", "42601") + IDLE
            client << error("syntax error", "42601") + IDLE
            other >> INSERT
            stage["p"] << INSERT
            stage["p"] >> INSERTED + IDLE
            other << INSERTED + IDLE
        assert len(stage["p"].connections) == 1

    def test_nor_does_that_say_anything_of_those_before(self, stage: Stage) -> None:
        client = stage.client()
        for sql, answer_to_it in (
            ("DO $$ BEGIN EXECUTE 'S' || 'ET app.x = 1'; END $$", write.command_complete(b"DO")),
            ("UPDATE t SET SET", error("syntax error", "42601")),
        ):
            client >> query(sql)
            stage["p"] << query(sql)
            stage["p"] >> answer_to_it + IDLE
            client << answer_to_it + IDLE
        client.leaves()
        stage.settle()
        assert not stage["p"].pool.servers

    @pytest.mark.parametrize("fails", [False, True])
    def test_it_is_closed_when_its_session_goes_elsewhere(
        self, stage: Stage, *, fails: bool
    ) -> None:
        client = stage.client()
        says = error("division by zero", "22012") if fails else SELECTED
        client >> query(self.COMPUTED)
        stage["p"] << query(self.COMPUTED)
        stage["p"] >> says + IDLE
        client << says + IDLE
        if not fails:
            client >> query("DISCARD ALL")
            stage["p"] << query("DISCARD ALL")
            stage["p"] >> write.command_complete(b"DISCARD ALL") + IDLE
            client << write.command_complete(b"DISCARD ALL") + IDLE
        stage.settle()
        assert client.relay.server is None
        assert not stage["p"].pool.servers


class TestPinsThatEnd:
    def test_a_temporary_table_that_is_dropped(self, stage: Stage) -> None:
        client = stage.client()
        client >> query("CREATE TEMP TABLE a ()")
        stage["p"].take()
        stage["p"] >> CREATED + IDLE
        client << CREATED + IDLE
        assert client.relay.pinning.pin is not None
        for left, is_pinned in ((b"t", True), (b"f", False)):
            client >> query("DROP TABLE a")
            stage["p"] << query("DROP TABLE a")
            stage["p"] >> write.command_complete(b"DROP TABLE") + IDLE
            assert letters(stage["p"].take()) == "Q"
            stage["p"] >> answer(left, b"f", b"f", b"f")
            assert (client.relay.server is not None) == is_pinned
        client << (write.command_complete(b"DROP TABLE") + IDLE) * 2

    def test_discard_all_ends_all_but_what_it_does_not_take_back(self, stage: Stage) -> None:
        discarded = write.command_complete(b"DISCARD ALL") + IDLE
        for sql, stays in (("LISTEN a", False), ("LOAD 'a'", True)):
            client = stage.client()
            client >> query(sql)
            stage["p"].take()
            stage["p"] >> write.command_complete(b"X") + IDLE
            client >> query("DISCARD ALL")
            stage["p"] >> discarded
            assert (client.relay.pinning.pin is not None) == stays
            client.leaves()
            stage["p"].take()
            if stays:
                continue
            assert client.relay.server is None

    @pytest.mark.parametrize(
        ("sql", "left"),
        [
            ("CREATE TEMP TABLE a (); SELECT pg_advisory_lock(1)", b"t"),
            ("SELECT pg_advisory_lock(1); SELECT setseed(1)", b"f"),
            ("SELECT pg_advisory_lock(1), set_config('a' || 'b', 'c', false)", b"f"),
        ],
    )
    def test_all_that_one_text_leaves_behind_pins(
        self, stage: Stage, sql: str, left: bytes
    ) -> None:
        client = stage.client()
        client >> query(sql)
        stage["p"] << query(sql)
        stage["p"] >> CREATED + SELECTED + IDLE
        client >> query("SELECT pg_advisory_unlock(1)")
        stage["p"].take()
        stage["p"] >> SELECTED + IDLE
        if stage["p"].take():
            stage["p"] >> answer(left, b"f", b"f", b"f")
        assert client.relay.server is not None

    def test_what_stands_behind_discard_all_pins(self, stage: Stage) -> None:
        client = stage.client()
        for sql in ("DISCARD ALL", "CREATE TEMP TABLE a ()"):
            client >> parse(sql) + bind() + execute()
        client >> SYNC
        # What DISCARD ALL does to names is waited for.
        done = PARSED + BOUND + write.command_complete(b"X")
        for answered in (done, done + IDLE):
            assert stage["p"].take() != b""
            stage["p"] >> answered
        assert stage["p"].take() != b""
        stage["p"] >> answer(b"postgres", b"none")
        assert client.relay.pinning.pin is not None

    def test_a_second_reason_outlives_the_first(self, stage: Stage) -> None:
        client = stage.client()
        for sql in ("CREATE TEMP TABLE a ()", "SELECT setseed(1)"):
            client >> query(sql)
            stage["p"].take()
            stage["p"] >> CREATED + IDLE
        client >> query("DROP TABLE a")
        stage["p"] << query("DROP TABLE a")
        stage["p"] >> write.command_complete(b"DROP TABLE") + IDLE
        assert client.relay.server is not None
        assert client.relay.pinning.pin is not None

    @pytest.mark.parametrize("sql", ["SELEC", "CREATE TEMP TABLE a ()"])
    @pytest.mark.parametrize("before", ['SET search_path = "A"', "SELECT pg_advisory_unlock(1)"])
    def test_what_fails_while_the_server_is_asked_pins_nobody(
        self, stage: Stage, before: str, sql: str
    ) -> None:
        client = stage.client()
        for text in ("SELECT pg_advisory_lock(1)", before)[before.startswith("SET") :]:
            client >> query(text)
            stage["p"] << query(text)
            stage["p"] >> SELECTED + IDLE
        assert letters(stage["p"].take()) == "Q"
        client >> query(sql)
        stage["p"] << query(sql)
        stage["p"] >> (answer(b"f", b"f", b"f", b"f") if "unlock" in before else answer(b"a"))
        stage["p"] >> error("syntax error", "42601") + IDLE
        if stage["p"].take():
            stage["p"] >> answer(b"f", b"f", b"f", b"f")
        assert client.relay.pinning.pin is None
        assert client.relay.server is None

    @pytest.mark.parametrize(
        ("text", "undo"),
        [
            ("LISTEN c; CREATE TEMP TABLE a ()", "UNLISTEN c"),
            ("SELECT pg_advisory_lock(1); CREATE TEMP TABLE a ()", "SELECT pg_advisory_unlock(1)"),
        ],
    )
    def test_what_fails_does_not_take_back_what_was_there_before(
        self, stage: Stage, text: str, undo: str
    ) -> None:
        """The text is known for one of its pins only, and the other one is asked about just then."""
        client = stage.client()
        for sql in (text, undo):
            client >> query(sql)
            stage["p"] << query(sql)
            stage["p"] >> SELECTED + IDLE
        assert letters(stage["p"].take()) == "Q"
        client >> query("CREATE TEMP TABLE a ()")
        stage["p"] << query("CREATE TEMP TABLE a ()")
        stage["p"] >> answer(b"t", b"f", b"f", b"f")
        stage["p"] >> error("exists", "42P07") + IDLE
        assert client.relay.pinning.pin is Pin.TEMP_TABLE

    def test_nor_settings_that_cannot_be_taken_along(self, stage: Stage) -> None:
        client = stage.client()
        client >> SET_PATH
        stage["p"] << SET_PATH
        stage["p"] >> SET + IDLE
        assert letters(stage["p"].take()) == "Q"
        client >> query("UPDATE pg_settings SET setting = '1' WHERE name = 'work_mem'")
        assert letters(stage["p"].take()) == "Q"
        stage["p"] >> answer(b"\xff\xfe")
        stage["p"] >> error() + IDLE
        assert client.relay.pinning.pin is Pin.SET

    def test_nor_does_it_let_others_listen_for_who_listens_itself(self, stage: Stage) -> None:
        stage.relays.listening = Listening(stage.cluster)
        client = stage.client()
        client >> query("SELECT pg_advisory_lock(1); LISTEN c")
        stage["p"].take()
        stage["p"] >> SELECTED + SET + IDLE
        client >> query("CREATE TEMP TABLE a ()")
        stage["p"].take()
        stage["p"] >> error("exists", "42P07") + IDLE
        assert letters(stage["p"].take()) == "Q"
        stage["p"] >> answer(b"f", b"f", b"t", b"t")
        client >> query("UNLISTEN c")
        stage["p"] << query("UNLISTEN c")
        stage["p"] >> write.command_complete(b"UNLISTEN") + IDLE
        stage["p"].take()
        stage["p"] >> answer(b"f", b"f", b"t", b"f")
        assert client.relay.batch.shares_listening
        stage.relays.listening.close()
        stage.settle()


class TestSequences:
    LASTVAL = query("SELECT lastval()")

    def test_the_session_goes_back_to_where_it_wrote(self) -> None:
        stage = Stage(size=2, replicas=0)
        one, other = stage.client(), stage.client()
        one >> INSERT
        other >> INSERT
        (first, _), (second, _) = stage["p"].connections
        for _, transport in stage["p"].connections:
            transport.take()
            transport.protocol.data_received(INSERTED + IDLE)
        for client, server in ((one, first), (other, second), (one, first)):
            client >> self.LASTVAL
            assert client.relay.server is server
            stage["p"] << self.LASTVAL
            stage["p"] >> SELECTED + IDLE
        stage.close()

    def test_what_another_session_got_is_not_shown(self, stage: Stage) -> None:
        one, other = stage.client(), stage.client()
        for client in (one, other):
            client >> INSERT
            stage["p"] << INSERT
            stage["p"] >> INSERTED + IDLE
        one >> self.LASTVAL
        stage["p"] << query("DISCARD SEQUENCES") + self.LASTVAL
        undefined = error("lastval is not yet defined in this session", "55000") + IDLE
        stage["p"] >> write.command_complete(b"DISCARD SEQUENCES") + IDLE + undefined
        one.take()
        one << b""
        # Whoever asks such things keeps its connection after a write, for a moment.
        one >> INSERT
        stage["p"] << INSERT
        stage["p"] >> INSERTED + IDLE
        assert one.relay.server is not None
        one >> self.LASTVAL
        stage["p"] << self.LASTVAL
        stage["p"] >> SELECTED + IDLE
        assert one.relay.server is None
        one >> INSERT
        stage["p"] >> INSERTED + IDLE
        stage["p"].take()
        other >> INSERT
        assert one.relay.sequences.holds
        stage.timers_fire()
        stage.timers_fire()
        stage["p"] << INSERT
        assert one.relay.server is None
        stage["p"] >> INSERTED + IDLE

    def test_who_waits_already_waits_no_longer_for_it(self) -> None:
        stage = Stage(size=1, replicas=0)
        one, second, third = stage.client(), stage.client(), stage.client()
        one >> self.LASTVAL
        stage["p"].take()
        stage["p"] >> SELECTED + IDLE
        one >> INSERT
        second >> INSERT
        third >> INSERT
        for client in (one, second, third):
            assert client.relay.server is not None
            stage["p"] << INSERT
            stage["p"] >> INSERTED + IDLE
            assert client.relay.sequences.holds
            stage.timers_fire()
            stage.timers_fire()
        assert third.relay.sequences.holds  # nobody is left who waits
        stage.close()

    def test_it_is_held_for_a_moment_though_nobody_waits(self, stage: Stage) -> None:
        client = stage.client()
        nextval = query("INSERT INTO a VALUES (nextval('b'))")
        client >> nextval
        stage["p"] << nextval
        stage["p"] >> INSERTED + IDLE
        assert client.relay.sequences.holds
        for _ in range(LONGEST_HOLD):
            stage.timers_fire()
            assert client.relay.sequences.holds
        stage.timers_fire()
        assert not client.relay.sequences.holds
        assert client.relay.server is None
        assert not stage.timers

    def test_the_next_statement_comes_before_those_who_wait(self) -> None:
        stage = Stage(size=1, replicas=0)
        one, other = stage.client(), stage.client()
        one >> self.LASTVAL
        stage["p"].take()
        stage["p"] >> SELECTED + IDLE
        one >> INSERT
        other >> INSERT
        stage["p"] << INSERT
        stage["p"] >> INSERTED + IDLE
        one >> self.LASTVAL
        stage["p"] << self.LASTVAL
        stage["p"] >> SELECTED + IDLE
        assert one.relay.server is None
        stage["p"] << INSERT
        stage["p"] >> INSERTED + IDLE
        stage.timers_fire()
        stage.timers_fire()
        stage.close()

    def test_nor_in_the_middle_of_a_transaction(self, stage: Stage) -> None:
        one, other = stage.client(), stage.client()
        other >> INSERT
        stage["p"] << INSERT
        stage["p"] >> INSERTED + IDLE
        one >> query("BEGIN") + SELECT
        stage["p"] << query("BEGIN") + SELECT
        stage["p"] >> BEGUN + IN_BLOCK + SELECTED + IN_BLOCK
        one >> self.LASTVAL
        stage["p"] << query("DISCARD SEQUENCES") + self.LASTVAL
        undefined = error("lastval is not yet defined in this session", "55000") + FAILED
        stage["p"] >> write.command_complete(b"DISCARD SEQUENCES") + IN_BLOCK + undefined
        one << BEGUN + IN_BLOCK + SELECTED + IN_BLOCK + undefined

    @pytest.mark.parametrize("begun", [b"", query("SELECT 2")[:3]])
    def test_a_held_connection_that_ends_is_nobody_s_loss(self, stage: Stage, begun: bytes) -> None:
        client = stage.client()
        client >> self.LASTVAL
        stage["p"].take()
        stage["p"] >> SELECTED + IDLE
        client >> INSERT
        stage["p"] >> INSERTED + IDLE
        assert client.relay.server is not None
        client.take()
        client >> begun
        stage["p"].leaves()
        client << b""
        assert not client.own_transport.closed
        assert not client.relay.sequences.holds

    def test_nor_are_its_last_words_told_to_anybody(self, stage: Stage) -> None:
        client = stage.client()
        client >> self.LASTVAL
        stage["p"].take()
        stage["p"] >> SELECTED + IDLE
        client >> INSERT
        stage["p"] >> INSERTED + IDLE
        client.take()
        stage["p"].take()
        stage["p"] >> FAREWELL
        client << b""
        assert not client.own_transport.closed
        assert stage["p"].open == 0
