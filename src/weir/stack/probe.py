"""Ask a service whether it is ready: an HTTP 2xx, or a TCP connection that is accepted."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from urllib.parse import urlsplit


def ready(url: str, timeout_s: float = 2.0) -> bool:
    """Return whether `url` (http://… or tcp://host:port) answers within `timeout_s`."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "tcp":
            with socket.create_connection((parts.hostname or "", parts.port or 0), timeout_s):
                return True
        with urllib.request.urlopen(url, timeout=timeout_s) as answer:  # noqa: S310 - our own loopback endpoints
            return bool(200 <= answer.status < 300)  # noqa: PLR2004 - HTTP success
    except (OSError, urllib.error.URLError, ValueError):
        return False


def port_taken(url: str) -> bool:
    """Return whether something listens where `url` points (before we start anything there)."""
    parts = urlsplit(url if "//" in url else f"//{url}")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((parts.hostname or "127.0.0.1", parts.port or 0))
        except OSError:
            return True
    return False
