"""The configuration on its way to a worker."""

import json
from pathlib import Path

from pydantic import SecretStr

from pgproxy.config import Auth, Backend, Config, Discovery, Health, Listen, Pool, PoolEntry
from pgproxy.workers.hello import from_plain, to_plain


def test_it_arrives_as_it_was() -> None:
    config = Config(
        listen=Listen(workers=4, port=0),
        auth=Auth(users_file=Path("/nowhere/users.txt"), admin_users=("a", "b")),
        health=Health(password=SecretStr("secret")),
        pool=Pool(users={"u": PoolEntry(mode="session")}, wait_timeout=2.0),
        discovery=Discovery(backends=(Backend(host="h", role="replica", weight=3),)),
    )
    arrived = from_plain(json.loads(json.dumps(to_plain(config))))
    assert arrived == config
    assert arrived.health.password.get_secret_value() == "secret"
    assert from_plain(json.loads(json.dumps(to_plain(Config())))) == Config()
