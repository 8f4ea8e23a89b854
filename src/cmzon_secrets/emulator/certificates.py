"""TLS for loopback names: a local CA that stays with the state, a certificate made at each start."""

from __future__ import annotations

import ssl
from pathlib import Path

import trustme

from cmzon_secrets.emulator.home import Home
from cmzon_secrets.errors import ConfigurationError

__all__ = ["server_context"]

NAMES = ("127.0.0.1", "::1", "localhost")


def server_context(home: Home) -> tuple[ssl.SSLContext, Path]:
    """A server context, and the CA certificate that clients must trust."""
    leaf = _authority(home).issue_cert(*NAMES)
    home.write("server.pem", leaf.private_key_and_cert_chain_pem.bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(home.path / "server.pem")
    return context, home.path / "ca.pem"


def _authority(home: Home) -> trustme.CA:
    certificate, key = home.path / "ca.pem", home.path / "ca-key.pem"
    if not (certificate.exists() and key.exists()):
        return _new_authority(home)
    try:
        return trustme.CA.from_pem(certificate.read_bytes(), key.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"emulator state {certificate} — no CA can be read from it and {key.name}",
            hint="remove both; clients must then trust the new one",
        ) from error


def _new_authority(home: Home) -> trustme.CA:
    ca = trustme.CA(organization_name="CMzon emulator")
    home.write("ca-key.pem", ca.private_key_pem.bytes())
    home.write("ca.pem", ca.cert_pem.bytes())
    return ca
