"""What the keys of TLS need of each other."""

from collections.abc import Iterator
from pathlib import Path

from pgproxy.config.faults import Fault, unreadable
from pgproxy.config.kinds import TLS_REQUIRES, TLS_VERIFIES
from pgproxy.config.model import Config


def tls_faults(config: Config) -> Iterator[Fault]:
    """What the files hold is seen when they are used."""
    listen, server = config.listen, config.server
    if listen.tls_mode in TLS_REQUIRES and listen.tls_cert_file is None:
        yield Fault(
            "listen.tls_cert_file",
            f'listen.tls_mode = "{listen.tls_mode}" needs one; accepted: the path of a certificate '
            "in PEM format, with those that it is signed by",
        )
    verifies = listen.tls_mode in TLS_VERIFIES
    if verifies and listen.tls_ca_file is None:
        yield Fault(
            "listen.tls_ca_file",
            f'listen.tls_mode = "{listen.tls_mode}" needs one; accepted: the path of the '
            "certificates, in PEM format, that clients' certificates are signed by",
        )
    if listen.tls_ca_file is not None and not verifies:
        yield Fault(
            "listen.tls_ca_file",
            f'is not used with listen.tls_mode = "{listen.tls_mode}"; accepted: "", or tls_mode '
            '"verify-ca" or "verify-full"',
        )
    if config.auth.method == "cert" and not verifies:
        yield Fault(
            "auth.method",
            f'"cert" needs certificates of clients, and listen.tls_mode is "{listen.tls_mode}"; '
            'accepted: with tls_mode "verify-ca" or "verify-full"',
        )
    if server.tls_mode == "verify-ca" and server.tls_ca_file is None:
        yield Fault(
            "server.tls_ca_file",
            'server.tls_mode = "verify-ca" needs one, for everybody has a certificate by one of the '
            "authorities of the web; accepted: the path of the certificates, in PEM format, that "
            'the servers\' are signed by, or tls_mode "verify-full"',
        )
    if server.tls_ca_file is not None and server.tls_mode not in TLS_REQUIRES:
        yield Fault(
            "server.tls_ca_file",
            f'is not used with server.tls_mode = "{server.tls_mode}"; accepted: "", or tls_mode '
            '"require", "verify-ca" or "verify-full"',
        )
    if server.tls_server_name and server.tls_mode != "verify-full":
        yield Fault(
            "server.tls_server_name",
            f'is not used with server.tls_mode = "{server.tls_mode}"; accepted: "", or tls_mode '
            '"verify-full"',
        )
    for section, one in (("listen", listen), ("server", server)):
        if one.tls_key_file is not None and one.tls_cert_file is None:
            yield Fault(
                f"{section}.tls_key_file",
                f'needs {section}.tls_cert_file; accepted: both, or "" (the key may be in the file '
                "of the certificate)",
            )
        for name in ("tls_cert_file", "tls_key_file", "tls_ca_file"):
            path: Path | None = getattr(one, name)
            if path is not None:
                yield from unreadable(f"{section}.{name}", path)
