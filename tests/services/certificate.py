"""A self-signed certificate for a server of the tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.services.server import or_skip, require_program


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """Return the files of a key and its certificate, for a name such as ``DNS:host`` or ``IP:127.0.0.1``."""
    with or_skip():
        require_program("openssl", "install it, to make a certificate")
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-days", "2", "-subj", f"/CN={name.partition(':')[2]}", "-addext", f"subjectAltName={name}",
         "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, cert
