from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the configuration is to be."""
    return tmp_path / "pgproxy.toml"
