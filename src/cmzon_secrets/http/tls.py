"""Which certificates are trusted, and by which versions of TLS."""

from __future__ import annotations

from typing import Any

from cmzon_secrets.errors import ConfigurationError

__all__ = ["tls_context"]


def tls_context(ca: str | None = None) -> Any:
    """An ``ssl.SSLContext`` that trusts the system's store, or one CA (PEM) instead.

    TLS 1.2 at least. Raises ConfigurationError for a CA that cannot be used.
    """
    import ssl

    if ca is None:
        import truststore

        context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # which heeds no SSLKEYLOGFILE
            context.load_verify_locations(cafile=ca)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"CA file {ca!r} — {error.strerror or 'not PEM'}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
