"""Passwords prepared as PostgreSQL 18 prepared them: the secrets here came out of its pg_authid."""

import pytest

from pgproxy.protocol.saslprep import saslprep
from pgproxy.protocol.scram import derive, parse_secret

STORED = {
    "secret": "SCRAM-SHA-256$4096:naxAPxSZrF7uIHI8WZ/SVw==$Rd/e2+CZOX5PF3whAopAlB0syvYuIAskEgDm/iKbwWg=:x5S7gxv1V4szcfOf5F68x5Hkc2BlCYY7Q8B9L7VxVN8=",
    "I\u00adX": "SCRAM-SHA-256$4096:veofGqSEFmoGO2wzKymiOg==$eXfskLpd0f55/vSSRshwkmdQSeS0ZZAdXGM5fwGUFk8=:rzyJzFKv9jcK6v39uv5r4017VswxIknsooCithLmxR8=",
    "\u00aa\u2168": "SCRAM-SHA-256$4096:vj+HGRJI/EF3AhKEDZpu3A==$aD1hm3DWdID6w7H2OjL1bQX7RlQ5Cb5Mupn3x9rRKnw=:d6DNUP53d9yyJogZov+crPhJ+V/x+0GbZ/2Kea0UkTw=",
    "a\u0627": "SCRAM-SHA-256$4096:TnezekjPYGCBxb4cNFMZKw==$tHwFq5ZaazIbPdqHxX0QvwakbhWm8o+iu1uq8TxFo68=:cGh+MU/QbXoiaU/jgFvbtXcKHm+tM8mMhz5bjBp57Qk=",
    "\u00a0\u200b\u3000e\u0301": "SCRAM-SHA-256$4096:62eJ9/BjTIdMW21pTgLuZA==$qt6JrAuKrKcgj4PkQfuPYc7nu0UVM9mfmEetJdR4f9k=:jKSK5lhiog+itGREPEiDtyN14DZzSqCAKolgvCHa4Rw=",
    "\u00ad": "SCRAM-SHA-256$4096:U5S1ahYTzCNwQouGhBSE6w==$WptRZRLgrBsYO6zuuSyfHEHocdRHhNjVHJjWXIOk7EU=:+xXQYTpY2zsUk6sXkZMk9NrqMZqFl4C9v6EPDWJWPC4=",
    "\u06271": "SCRAM-SHA-256$4096:ZeVculQCTDYTr3hVqc69DA==$Sb44aLvYYib5jk4z6ZnOqxTTYCXGWnzt0Cy6do1vIYs=:F6SRWAEzyk8mzSG0zD4mOIHnI/vFHuIY8+C2WbWTezo=",
    "\U0001f600": "SCRAM-SHA-256$4096:ke9l90T4pijY4TKpRDj+Ag==$BaQlQfu6fTI0d/gsVOhBeSYeSv7ImhmnndCMlsHpTOc=:m4I1gatOwZlsGN0ULHe0OOnMPQAk1jj8OQGc7M0rR3g=",
    "\u212b\ufb01": "SCRAM-SHA-256$4096:sWRWh49xRnGRCHfQQZ8TWQ==$CK3toJV5dikQlC9hUJ3q3w8v+7qbH3YxMH9Tduu9310=:Zp+LkmZUtJfhDMXkC62CblngaypudC4nXuyWURLnX0U=",
}


@pytest.mark.parametrize("password", STORED, ids=ascii)
def test_the_secret_postgresql_stored_is_derived_again(password: str) -> None:
    stored = parse_secret(STORED[password])
    assert stored is not None
    keys = derive(password.encode(), stored.salt, stored.iterations)
    assert keys.secret().text() == STORED[password]


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("I\u00adX", "IX"),  # RFC 4013, section 3
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("\u00a0\u200bx", "  x"),
        ("e\u0301", "\u00e9"),
        ("\u0627\u0628", "\u0627\u0628"),
    ],
)
def test_text_is_mapped_and_normalized(password: str, prepared: str) -> None:
    assert saslprep(password.encode()) == prepared.encode()


@pytest.mark.parametrize(
    "password",
    [
        b"tab\there\x07",  # ASCII, even where the RFC prohibits it
        b"caf\xe9",  # not UTF-8
        "\u00ad".encode(),  # nothing is left of it
        "\u0085\u00aa".encode(),  # a control character
        "\ue000\u00aa".encode(),  # private use
        "\u0221\u00aa".encode(),  # not assigned in Unicode 3.2
        "\u0627\u00aaa\u0627".encode(),  # left-to-right within right-to-left
        "\u0627\u00b9".encode(),  # right-to-left that does not end so
    ],
)
def test_what_saslprep_refuses_is_used_raw(password: bytes) -> None:
    assert saslprep(password) == password
