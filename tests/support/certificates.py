"""Certificates that only themselves vouch for, where a program to make them is at hand."""

import shutil
import subprocess
from pathlib import Path

import pytest

MADE = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 9 -keyout key.pem -out cert.pem"


def self_signed(folder: Path, names: str = "IP:127.0.0.1") -> Path:
    """A file in this folder, which is made, with a certificate for these names and its key. Without openssl the test is
    skipped."""
    folder.mkdir()
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl to make a certificate with")
    command = [openssl, *MADE.split(), "-subj", f"/CN={folder.name}", "-addext", f"subjectAltName={names}"]
    if subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode != 0:
        pytest.skip("this openssl makes no certificate with these options")
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both
