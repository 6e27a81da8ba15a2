"""`./weir --help` while there is no environment: what the commands are, without a package fetched.

Keep: the standard library only; a test holds it to the commands' own helps.
"""

from __future__ import annotations

import textwrap

SUMMARY = "Weir: what is correct, how fresh it is, what it costs, and when recovery was last proven. Try ./weir demo first; ./weir test runs every test."
COMMANDS = {
    "up": "Start every service in order of readiness; running it again is harmless.",
    "down": "End every service; leaves no process and no port, keeps the data.",
    "status": "Show each service, the connector's task, the slot, the tables, through which LSN each was verified, what came late, repeated or in conflict, whether there is something to recommend, and when recovery was last proven.",
    "logs": "Show the last lines of a service's log: of one that ./weir status names, of one of those beside them (watch, cost, capture, reconcile, quality), or of supervisord.",
    "restart": "Stop and start one service, or one of what runs beside them, and wait until it is ready.",
    "path": "Show the stages of the path in order, with what each reads and writes.",
    "doctor": "Say what is missing on this machine and how to get it.",
    "run": "Run any command in the locked environment with every URL set: ./weir run dbt build, ./weir run psql.",
    "clean": "End the stack and delete its data (backups, the environment, the jars, and whatever Weir did not make are kept).",
    "test": "Run the checks and tests: lint, types, layers, unit, contract, oracle, house, docs, stack, browser; with --long those that take longer too.",
    "bench": "Run a benchmark of bench/ and print one JSON document; its own options follow: ./weir bench startup --starts 5.",
    "lock": "Make the requirement locks anew from requirements/*.in (needs a network).",
    "demo": "Start everything, load MovieLens through the real path, and follow one click and one profile change to a recommendation.",
    "load": "Produce events of skewed users and items, in sessions, some late, doubled or bad, onto topic user-events; the journal of each seed goes to WEIR_HOME/load/, also that of a load that fails or is stopped (`complete` says which).",
    "queries": "Show what the queries of each ClickHouse user cost (CPU, bytes), the slowest queries by their form, without literals, and those that failed.",
    "simulate": "Drive the real ingest worker through faults in virtual time, and hold every table to the producer's journal.",
    "torture": "Kill workers at every named point of their loop and at random, the gateway at random, and have ./weir verify events judge; then plant three faults that must be told.",
    "deploy": "Deploy a changed keyed model while everything runs: change its file, then this, and never dbt build.",
    "restore": "Put a backup back into WEIR_HOME, of a stack that is down.",
    "reconcile": "Compare PostgreSQL, ClickHouse and the online store key by key: the running stack does so all the time, slice by slice, and repairs; this does it now, whole.",
    "quarantine": "Records that ingest refused: list, show, fix, replay, discard.",
    "table": "Tables of the source: check, list, add, pause, resume, resync, remove.",
    "verify": "What landed against what was sent: events.",
    "replay": "A range of a topic decoded again, verified, and put in the place of what is live: events.",
    "connector": "The connector: plan, apply, recover.",
    "backup": "Back up ClickHouse: all tables as of one moment, while the stack runs (writes are held for milliseconds) or not.",
    "chaos": "Chaos experiments against the running stack.",
}
FIRST = """The environment is not made yet: the first command that needs it fetches about 700 MB of packages (./weir doctor says what this machine lacks for that, and makes nothing).
Then the --help of each command shows its options, with examples."""
WIDTH = 100


def told() -> str:
    """Return the help as text."""
    def folded(text: str, first: str = "", rest: str = "") -> str:
        return textwrap.fill(text, WIDTH, initial_indent=first, subsequent_indent=rest)

    rows = (folded(summary, f"  {name:<11} ", " " * 14) for name, summary in COMMANDS.items())
    return "\n".join(("Usage: ./weir [OPTIONS] COMMAND [ARGS]...", "", folded(SUMMARY), "", "Commands", *rows, "", *(folded(line) for line in FIRST.splitlines())))
