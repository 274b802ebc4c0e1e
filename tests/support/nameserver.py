"""A real nameserver, dnsmasq, whose records a test changes while it runs.

    with Nameserver.start() as server:
        server.addresses("pg.test", "127.0.0.1", "127.0.0.2")
        server.address  # for discovery.dns.nameservers

It is responsible for the domain "test" alone: another name there does not exist, and questions for
any other domain are refused.
"""

import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, Self

import dns.exception
import dns.message
import dns.query
import dns.rcode

from tests.support.processes import Closing, Leash

TTL: Final = 1  # seconds, of every record
_PORTS: Final = range(20_000, 32_000)  # below the ephemeral ones, see pgproxy/embedded/server.py
_PROBE: Final = "ready.test"
_TIMEOUT: Final = 30.0  # seconds


class MissingNameserverError(Exception):
    """There is no dnsmasq; says what to install."""


class Nameserver(Closing):
    """A context manager that leaves nothing behind; use `start`."""

    def __init__(self, port: int = 0) -> None:
        program = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin:/sbin:/bin")
        if program is None:
            raise MissingNameserverError("dnsmasq is missing: apt-get install dnsmasq-base")
        self._program: Final = program
        self._directory: Final = Path(tempfile.mkdtemp(prefix="dnsmasq-"))
        self._directory.chmod(0o755)  # it gives up root's rights, and reads again later
        self._hosts: Final = self._directory / "hosts"
        self._names: Final[dict[str, tuple[str, ...]]] = {_PROBE: ("127.0.0.1",)}
        self._services: Final[dict[str, tuple[tuple[str, int], ...]]] = {}
        self.port: Final = _free_port()
        self._generation = 0
        self._write()
        self._process: subprocess.Popen[bytes] | None = None
        self._leash = Leash(self._directory)

    @classmethod
    def start(cls) -> Self:
        """Answers on return. Raises MissingNameserverError, or RuntimeError with what it said."""
        server = cls()
        try:
            server.run()
        except BaseException:
            server.close()
            raise
        return server

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self._directory)
        self._leash.release()

    @property
    def address(self) -> str:
        """As `discovery.dns.nameservers` takes it."""
        return f"127.0.0.1:{self.port}"

    def addresses(self, name: str, *addresses: str) -> None:
        """From now on these are the A and AAAA records of a name in "test"; none: it is none."""
        self._names[name] = addresses
        self._write()
        self._reread()

    def services(self, name: str, *targets: tuple[str, int]) -> None:
        """These are its SRV records, each a host and a port. It is started anew for that."""
        self._services[name] = targets
        self.stop()
        self.run()

    def freeze(self) -> None:
        """It answers nothing until `thaw`."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def run(self) -> None:
        """Start it, after `stop`."""
        services = [
            f"--srv-host={name},{host},{port}"
            for name, targets in self._services.items()
            for host, port in targets
        ]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(
                        self._program,
                        "--keep-in-foreground",
                        "--conf-file=/dev/null",
                        "--pid-file=",
                    ),
                    *(f"--port={self.port}", "--listen-address=127.0.0.1", "--bind-interfaces"),
                    *("--no-resolv", "--no-hosts", "--local=/test/", f"--addn-hosts={self._hosts}"),
                    *(f"--local-ttl={TTL}", "--cache-size=0", "--log-facility=-", *services),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        old, self._leash = self._leash, Leash(self._directory, self._process.pid)
        old.release()
        self._wait_generation()

    def stop(self) -> None:
        """End it: questions are refused by the system."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _reread(self) -> None:
        self._signal(signal.SIGHUP)
        self._wait_generation()

    def _write(self) -> None:
        """With a name that tells whether it was read."""
        self._generation += 1
        lines = [
            f"{address} {name}" for name, addresses in self._names.items() for address in addresses
        ]
        lines.append(f"127.0.0.1 g{self._generation}.test")
        self._hosts.write_text("\n".join([*lines, ""]))
        self._hosts.chmod(0o644)

    def _wait_generation(self) -> None:
        question = dns.message.make_query(f"g{self._generation}.test.", "A")
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            try:
                answer = dns.query.udp(question, "127.0.0.1", port=self.port, timeout=1)
            except (dns.exception.DNSException, OSError):
                pass
            else:
                if answer.rcode() == dns.rcode.NOERROR and answer.answer:
                    return
            time.sleep(0.02)
        said = (self._directory / "log").read_text(errors="replace")[-4000:]
        raise RuntimeError(f"dnsmasq does not answer:\n{said}")


def _free_port() -> int:
    """One that is free for both of DNS's protocols, and that nobody is given by the system."""
    for port in random.sample(_PORTS, 100):
        with socket.socket(type=socket.SOCK_DGRAM) as one, socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind(("127.0.0.1", port))
                other.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise RuntimeError("no free port")
