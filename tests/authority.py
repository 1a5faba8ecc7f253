"""A certificate authority of the tests' own, as files in a folder."""

from __future__ import annotations

from pathlib import Path

import trustme

HERE = ("127.0.0.1", "localhost")


class Authority:
    """It issues certificates for this machine, the first as tls.crt and tls.key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ca = trustme.CA()
        self.issue("tls")

    def issue(self, name: str, *names: str, folder: Path | None = None) -> tuple[str, str]:
        """The files of a certificate and its key, with ca.crt beside them; `names`: whose, if not this machine's."""
        folder = folder or self.folder
        folder.mkdir(parents=True, exist_ok=True)
        self.ca.cert_pem.write_to_path(folder / "ca.crt")
        issued = self.ca.issue_cert(*(names or HERE))
        certificate, secret = folder / f"{name}.crt", folder / f"{name}.key"
        certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(secret)
        return str(certificate), str(secret)

    @property
    def ca_file(self) -> str:
        """What others check it by."""
        return str(self.folder / "ca.crt")
