"""PgBouncer's userlist.txt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgproxy.errors import ConfigError
from pgproxy.protocol.scram import derive
from pgproxy.protocol.userlist import PasswordKind, UserEntry, parse_userlist, usual_kind

HASH = "md54a0a68b43b6cd5cf266fa02f196e2371"
SECRET = derive(b"secret", b"salt", 1).secret().text()


def faults(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse_userlist(text)
    return caught.value.faults


def test_every_kind_of_password_is_recognised() -> None:
    entries = parse_userlist(f'"a" "plain"\n"b" "{HASH}"\n"c" "{SECRET}"\n"d" ""\n')
    assert {name: entry.kind for name, entry in entries.items()} == {
        "a": PasswordKind.PLAIN,
        "b": PasswordKind.MD5,
        "c": PasswordKind.SCRAM,
        "d": PasswordKind.PLAIN,
    }
    assert [entry.password for entry in entries.values()] == ["plain", HASH, SECRET, ""]
    secret = entries["c"].secret
    assert secret is not None
    assert secret.text() == SECRET
    assert entries["a"].secret is None


def test_comments_blank_lines_and_what_follows_say_nothing() -> None:
    text = '\ufeff; "x" "y"\r\n\r\n   \n\t"a"\t "b" "old field" ; comment\r\n  ;"a" "z"\n'
    entries = parse_userlist(text)
    assert {name: entry.password for name, entry in entries.items()} == {"a": "b"}


def test_doubled_quotes_stand_for_one() -> None:
    entries = parse_userlist('"a""b" "say ""hi"""\n"e" """"')
    assert {name: entry.password for name, entry in entries.items()} == {
        'a"b': 'say "hi"',
        "e": '"',
    }


def test_the_last_line_of_a_name_counts() -> None:
    assert parse_userlist('"a" "1"\n"a" "2"')["a"].password == "2"


def test_only_line_feeds_end_lines() -> None:
    password = "x\x0b\x0c\x1c\x85\u2028y"
    assert parse_userlist(f'"a" "{password}"')["a"].password == password


@pytest.mark.parametrize(
    "line",
    ["a b", '"a"', '"a" b', '"a" "b', '"a "b"', '"', '""', "'a' 'b'", '"a" ;"b"', '"c""d"'],
)
def test_a_line_that_is_none_is_named_by_its_number(line: str) -> None:
    assert faults(f'; fine\n{line}\n"ok" "ok"') == [
        'users_file: line 2: expected "user" "password", each in double quotes'
    ]


def test_all_faults_come_at_once_and_quote_no_password() -> None:
    found = faults('"" "hunter2"\n"a" "SCRAM-SHA-256$hunter2"\n"b" "hun\0ter2"\n"c" "hunter2')
    assert [fault.split(":")[1] for fault in found] == [
        " line 1",
        " line 2",
        " line 3",
        " line 4",
    ]
    assert "hunter2" not in "".join(found)


def test_faults_name_the_file() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_userlist("x", "/etc/users.txt")
    assert caught.value.faults[0].startswith("/etc/users.txt: line 1: ")


@given(
    st.dictionaries(
        st.text(st.characters(exclude_characters="\n\0"), min_size=1),
        # What begins so must be a whole secret.
        st.text(st.characters(exclude_characters="\n\0")).filter(
            lambda password: not password.startswith("SCRAM-SHA-256$")
        ),
    )
)
def test_what_is_written_is_read_back(users: dict[str, str]) -> None:
    def quoted(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    text = "\n".join(f"{quoted(name)} {quoted(password)}" for name, password in users.items())
    entries = parse_userlist(text)
    assert {name: entry.password for name, entry in entries.items()} == users


@given(st.text(st.sampled_from('"ab ;\n\\\t\0$')))
def test_any_text_is_read_or_refused(text: str) -> None:
    faults = ["none"]
    try:
        parse_userlist(text)
    except ConfigError as error:
        faults = error.faults
    assert faults


def test_an_entry_shows_no_password() -> None:
    assert repr(UserEntry("a", "hunter2")) == "UserEntry('a', plain)"


def test_usual_kind_is_what_most_have() -> None:
    assert usual_kind({}) is PasswordKind.SCRAM
    assert usual_kind(parse_userlist(f'"a" "x"\n"b" "{SECRET}"')) is PasswordKind.SCRAM
    assert usual_kind(parse_userlist(f'"a" "x"\n"b" "y"\n"c" "{SECRET}"')) is PasswordKind.PLAIN
    assert usual_kind(parse_userlist(f'"a" "{HASH}"')) is PasswordKind.MD5
