"""What users cost a cheap query: the same queries over HTTP against a gateway without users and one with, in turn. Prints JSON.

Run it by `./weir bench gateway_users [--rounds 500]`. It starts two gateways of its own on free ports and in a temporary folder. Each round's text is new; `suspect` ones
hold a word that has the engine parse them first, `suspect_again` is one such text repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import statistics
import tempfile
import time
from pathlib import Path

import httpx
from gateway_fsync import start

from weir.gateway.accounts import hashed

_ROOT = Path(__file__).resolve().parents[1]
_ROLES = '[roles.admin]\nadmin = true\n[roles.reader]\ngrants = ["SELECT ON d.*"]\n'


def _timed(client: httpx.Client, sql: str) -> float:
    began = time.perf_counter()
    client.post("/", content=sql).raise_for_status()
    return (time.perf_counter() - began) * 1000


def measure(clients: dict[str, httpx.Client], rounds: int) -> dict[str, object]:
    texts = {"plain": "SELECT {}", "suspect": "SELECT {} AS role", "suspect_again": "SELECT 1 AS role"}
    found: dict[str, object] = {}
    for kind, text in texts.items():
        taken: dict[str, list[float]] = {name: [] for name in clients}
        for turn in range(-20, rounds):  # the first ones warm up
            for name, client in clients.items():
                took = _timed(client, text.format(turn))
                if turn >= 0:
                    taken[name].append(took)
        found[f"{kind}_ms"] = {name: {"p50": round(statistics.median(t), 2), "p99": round(statistics.quantiles(t, n=100)[98], 2)} for name, t in taken.items()}
        pairs = [b - a for a, b in zip(taken["without users"], taken["reader"], strict=True)]
        found[f"{kind}_cost_ms_p50_paired"] = round(statistics.median(pairs), 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=500)
    rounds = parser.parse_args().rounds
    password = secrets.token_urlsafe(16)
    processes = []
    with tempfile.TemporaryDirectory(dir=os.environ.get("WEIR_HOME") or None) as name:
        folder = Path(name)
        users = "".join(f'[users.{u}]\nrole = "{u}"\npassword_scrypt = "{hashed(password)}"\n' for u in ("admin", "reader"))
        (folder / "users.toml").write_text(_ROLES + users)
        try:
            open_process, open_url = start(folder / "open")
            processes.append(open_process)
            held_process, held_url = start(folder / "held", "--users", str(folder / "users.toml"))
            processes.append(held_process)
            clients = {"without users": httpx.Client(base_url=open_url), **{u: httpx.Client(base_url=held_url, auth=(u, password)) for u in ("admin", "reader")}}
            result = measure(clients, rounds)
        finally:
            for process in processes:
                process.terminate()
                process.wait(30)
    result |= {"rounds": rounds, "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "load": os.getloadavg()[0]}}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
