"""The TLS context that all HTTP clients of a process share.

In: the certificate authorities that httpx trusts, and what SSL_CERT_FILE and SSL_CERT_DIR say. Out: one context. Keep: it is made once, since to read the
authorities takes 20 to 60 ms of a core, many times what a request on this machine takes, and httpx would do it for every client and for every `httpx.get`.
"""

from __future__ import annotations

import functools
import ssl


@functools.cache
def context() -> ssl.SSLContext:
    """Return the process's context: what `verify` of httpx wants. Any thread may use it."""
    import httpx

    return httpx.create_ssl_context()
