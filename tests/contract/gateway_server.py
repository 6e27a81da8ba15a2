"""A gateway as a process of its own on a free port, for the tests that need one."""
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx

from weir.stack import accounts

ROOT = Path(__file__).resolve().parents[2]
ENDLESS = "SELECT count() FROM numbers(10000000000000) WHERE cityHash64(number) % 7 = 8"


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """The gateway on the folder `path`."""

    def __init__(self, path, *arguments):
        self.path, self.arguments, self.port = Path(path), arguments, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process, self.verify = None, True

    def start(self, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "weir.gateway", "--path", str(self.path), "--port", str(self.port), *self.arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "WEIR_OTLP_URL": "", **environment}, cwd=ROOT,
        )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/ping", timeout=5, verify=self.verify).text == "Ok.\n":
                    return self
            except httpx.HTTPError:
                time.sleep(0.05)
        self.process.kill()
        raise AssertionError("the gateway did not start")

    def post(self, sql, body=b"", timeout=60, headers=None, **url):
        return httpx.post(self.url, params={"query": sql, **url}, content=body, headers=headers, timeout=timeout)

    def text(self, sql, body=b"", **url):
        answer = self.post(sql, body, **url)
        assert answer.status_code == 200, answer.text
        return answer.text

    def health(self):
        return httpx.get(f"{self.url}/health", timeout=10).json()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def stop(self, seconds=25):
        self.process.terminate()
        return self.process.wait(seconds)


class Behind(threading.Thread):
    """A query under way in a thread; `answer` is there once it has ended."""

    def __init__(self, server, sql, **url):
        super().__init__(daemon=True)
        self._server, self._sql, self._url, self.answer = server, sql, url, None
        self.start()

    def run(self):
        try:
            self.answer = self._server.post(self._sql, timeout=120, **self._url)
        except httpx.HTTPError as error:
            self.answer = error


def runs(server, query_id):
    return server.text(f"SELECT count() FROM system.processes WHERE Settings['chdb_client_name'] = '{query_id}'") == "1\n"


def wait_until(true, seconds=20):
    """Wait for `true()`; return what it returned last."""
    deadline = time.monotonic() + seconds
    while not (found := true()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def guarded(home):
    """Start a gateway with the stack's own roles and users; return it, and each user's password."""
    passwords = accounts.passwords(home)
    accounts.prepare(home, passwords)
    return Server(home / "data", "--users", str(ROOT / "gateway" / "roles.toml"), "--users", str(accounts.path(home))).start(), passwords
