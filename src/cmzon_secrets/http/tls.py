"""Which certificates are trusted, and by which versions of TLS."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from cmzon_secrets.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl

__all__ = ["tls_context"]


def tls_context(ca: str | None = None) -> ssl.SSLContext:
    """A context that trusts the system's store, or one CA (PEM) instead.

    TLS 1.2 at least. It never writes session keys to a file, whatever ``SSLKEYLOGFILE`` says.
    Raises ConfigurationError for a CA that cannot be used, or where the system has none.
    """
    import ssl

    context = _with_the_systems_store() if ca is None else _with_only(ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _with_only(ca: str) -> ssl.SSLContext:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=ca)
    except OSError as error:  # which ssl.SSLError is, too
        why = "not PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(f"CA file {ca!r} — {why}") from error
    return context


def _with_the_systems_store() -> ssl.SSLContext:
    """Keychain on macOS; elsewhere OpenSSL's files, for which SSL_CERT_FILE and SSL_CERT_DIR are
    OpenSSL's own names.

    Files are loaded here, once. truststore would load them at each handshake, which takes twenty
    times as long as the handshake, and makes one at a time: a server that stalls would hold up all.
    """
    import ssl

    if sys.platform == "darwin":
        import truststore

        return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    paths = ssl.get_default_verify_paths()
    if paths.cafile or paths.capath:
        context.set_default_verify_paths()
        return context
    for bundle in filter(os.path.isfile, _BUNDLES):  # this OpenSSL was built for another system
        context.load_verify_locations(cafile=bundle)
        return context
    raise ConfigurationError(
        "trusted certificates — this system has none that OpenSSL finds",
        hint="install ca-certificates, or name the CA to trust",
    )


_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu
    "/etc/ssl/cert.pem",  # Alpine, Arch, FreeBSD
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
)
