"""Ask a service whether it is ready (an HTTP 2xx, or a TCP connection that is accepted), and a port who has it."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import psutil


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


def holder(port: int) -> str:
    """Return who has a TCP port (a listener first, else a connection), for a message: command, pid, and the stack it belongs to; what cannot be known is left out."""
    try:
        at = sorted((c for c in psutil.net_connections("tcp") if c.laddr and c.laddr.port == port and c.pid), key=lambda c: c.status != psutil.CONN_LISTEN)
        found = [c.pid for c in at]
        process = psutil.Process(found[0]) if found else None
        name = " ".join(process.cmdline()[:3])[:60] or process.name() if process else ""
    except (psutil.Error, OSError):
        return "another process"
    if process is None:
        return "another process (of another user: ss -ltnp as root names it)"
    try:
        home = process.environ().get("WEIR_HOME", "") if process.environ().get("SUPERVISOR_ENABLED") else ""
    except (psutil.Error, OSError):
        home = ""
    return f"{name!r} (pid {process.pid}{f', of the Weir stack at {home}' if home else ''})"
