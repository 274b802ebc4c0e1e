"""One member of a Patroni cluster: its addresses, files and processes."""

import json
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]
import psycopg

from pgproxy.embedded import SUPERUSER
from tests.support.patroni_programs import PatroniError


@dataclass
class Member:
    """One PostgreSQL server and its Patroni."""

    name: str
    host: str
    port: int
    rest_port: int
    directory: Path  # of the whole cluster
    pods: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def data_dir(self) -> Path:
        """PostgreSQL's."""
        return self.directory / "data" / self.name

    @property
    def config_path(self) -> Path:
        """Patroni's."""
        return self.directory / f"{self.name}.yml"

    @property
    def log_path(self) -> Path:
        """What Patroni and PostgreSQL have to say."""
        return self.directory / f"{self.name}.log"

    def dsn(self, db: str = "postgres", user: str = SUPERUSER) -> str:
        """A connection URI."""
        return f"postgresql://{user}@{self.host}:{self.port}/{db}"

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run it on this very server; the rows, if there are any. Raises `psycopg.Error`."""
        with psycopg.connect(self.dsn(), autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def patroni_process(self) -> psutil.Process:
        """Raises `PatroniError` if there is none."""
        for process in self.processes():
            if str(self.config_path) in process.cmdline():
                return process
        raise PatroniError(f"{self.name}: Patroni does not run")

    def postgres_processes(self) -> list[psutil.Process]:
        """The postmaster, if it lives, before its children."""
        argument = f"-D {self.data_dir} "
        for process in self.processes():
            if argument in " ".join(process.cmdline()):
                return [process, *process.children(recursive=True)]
        return []

    def processes(self) -> list[psutil.Process]:
        """All that lives in its pods, zombies excluded."""
        found = []
        for one in self.pods:
            if one.poll() is None:
                found += psutil.Process(one.pid).children(recursive=True)
        return [process for process in found if lives(process)]

    def rest(self, path: str, body: Mapping[str, object] | None = None) -> tuple[int, str]:
        """Status and text of what Patroni's REST API answers. Raises `OSError` if it does not.

        A question gets 2 seconds, an order (`body`) 30: it is answered when it is carried out.
        """
        data = None if body is None else json.dumps(body).encode()
        url = f"http://{self.host}:{self.rest_port}{path}"
        try:
            with urllib.request.urlopen(url, data, timeout=2 if body is None else 30) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


def lives(process: psutil.Process) -> bool:
    """Whether it has not ended; a zombie has."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def signal_to(process: psutil.Process, number: signal.Signals) -> None:
    """Send it a signal, if it still lives."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
