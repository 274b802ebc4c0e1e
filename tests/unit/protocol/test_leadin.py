from pgproxy.frames.codes import B_ERROR_RESPONSE
from pgproxy.protocol.inflight import FORWARD, HIDE, Inflight
from pgproxy.protocol.leadin import lead_in, quoted
from pgproxy.protocol.named import STAND_IN, Need
from pgproxy.protocol.prepared import PreparedOnServer, Statement

BY_SQL = Statement(1, b"PREPARE a AS SELECT 1", b"", None)
BY_PROTOCOL = Statement(2, b"SELECT 2", b"\0\0", None)


def lead(prepared: PreparedOnServer, *needs: Need, inside: bool = False) -> list[bytes]:
    """The texts and names that are sent."""
    inflight = Inflight()
    data = lead_in({need.name: need for need in needs}, prepared, inflight, inside=inside)
    sent = frames(data)
    kinds = [frame[:1] for frame in sent]
    assert kinds.count(b"S") == (0 if inside else kinds.count(b"P"))
    assert len(inflight) == len(sent)
    return [b"\0".join(frame[5:].split(b"\0")[:2]) for frame in sent if frame[:1] == b"P"]


def frames(data: bytes) -> list[bytes]:
    found = []
    while data:
        end = 1 + int.from_bytes(data[1:5], "big")
        found.append(data[:end])
        data = data[end:]
    return found


def test_what_is_there_needs_nothing() -> None:
    prepared = PreparedOnServer(10)
    prepared.named[b"a"] = BY_SQL
    assert lead(prepared, Need(b"a", BY_SQL, exact=True), Need(b"b", None, exact=True)) == []


def test_it_is_prepared_by_its_own_text() -> None:
    prepared = PreparedOnServer(10)
    assert lead(prepared, Need(b"a", BY_SQL, exact=True)) == [
        b"pgproxy_lead\0PREPARE a AS SELECT 1"
    ]
    assert lead(prepared, Need(b"b", BY_PROTOCOL, exact=True)) == [b"b\0SELECT 2"]
    assert prepared.named == {b"a": BY_SQL, b"b": BY_PROTOCOL}


def test_another_clients_goes_first() -> None:
    prepared = PreparedOnServer(10)
    prepared.named[b"a"] = BY_PROTOCOL
    assert lead(prepared, Need(b"a", BY_SQL, exact=True), inside=True) == [
        b'pgproxy_lead\0DEALLOCATE "a"',
        b"pgproxy_lead\0PREPARE a AS SELECT 1",
    ]
    assert lead(prepared, Need(b"a", None, exact=False)) == [b'pgproxy_lead\0DEALLOCATE "a"']
    assert prepared.named == {}


def test_what_is_only_in_the_way_may_be_a_stand_in() -> None:
    prepared = PreparedOnServer(10)
    assert lead(prepared, Need(b'a"', BY_PROTOCOL, exact=False)) == [
        b'pgproxy_lead\0PREPARE "a""" AS SELECT'
    ]
    assert prepared.named == {b'a"': STAND_IN}
    assert lead(prepared, Need(b'a"', BY_PROTOCOL, exact=False)) == []
    prepared.named[b"a"] = STAND_IN
    assert len(lead(prepared, Need(b"a", BY_SQL, exact=True))) == 2


def test_names_on_a_server_are_bounded_and_those_in_use_stay() -> None:
    prepared = PreparedOnServer(2)
    for name in (b"x", b"y"):
        prepared.named[name] = BY_PROTOCOL
    sent = lead(prepared, Need(b"a", BY_SQL, exact=True))
    assert sent[1:] == [b'pgproxy_lead\0DEALLOCATE "x"', b'pgproxy_lead\0DEALLOCATE "y"']
    assert list(prepared.named) == [b"a"]


def test_who_needs_nothing_sends_nothing() -> None:
    prepared = PreparedOnServer(1)
    prepared.named[b"a"] = prepared.named[b"b"] = BY_PROTOCOL
    assert lead(prepared) == []
    assert len(prepared.named) == 2


def test_a_failure_is_hidden_in_front_of_a_batch_and_told_inside() -> None:
    for inside, verdict in ((False, HIDE), (True, FORWARD)):
        inflight = Inflight()
        needs = {b"b": Need(b"b", BY_PROTOCOL, exact=True)}
        lead_in(needs, PreparedOnServer(10), inflight, inside=inside)
        assert inflight.reply(B_ERROR_RESPONSE) == verdict
        assert [owed.name for owed in inflight.void] == [b"b"]


def test_names_are_quoted() -> None:
    assert quoted(b'a "b"') == b'"a ""b"""'
