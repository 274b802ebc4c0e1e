"""Certificates for tests: an authority, and what it signs, as files."""

from pathlib import Path
from typing import Final

import trustme


class Authority:
    """One that signs certificates; their files are written into a folder."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self.folder: Final = folder
        self.ca: Final = trustme.CA()
        self.file: Final = folder / f"{name}.pem"
        self.ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *identities: str) -> tuple[Path, Path]:
        """The certificate (and what it is signed by) of that common name, and its key."""
        issued = self.ca.issue_cert(*(identities or (f"{name}.test",)), common_name=name)
        certificate = self.folder / f"{name}.crt"
        key = self.folder / f"{name}.key"
        certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        key.chmod(0o600)
        return certificate, key
