"""The `./weir` commands that start, look at and end the stack."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
import tomllib
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from weir.cli import outcome
from weir.cli.backup import backup_app, restore
from weir.cli.connector import connector_app
from weir.cli.demo import demo
from weir.cli.deploy import deploy
from weir.cli.load import load
from weir.cli.quarantine import quarantine_app
from weir.cli.queries import queries
from weir.cli.reconcile import reconcile
from weir.cli.replay import replay_app
from weir.cli.simulate import simulate
from weir.cli.table import table_app
from weir.cli.torture import torture
from weir.cli.verify import verify_app
from weir.contracts import captured, home
from weir.contracts.path import with_added
from weir.errors import SettingsError, Terminal, Unavailable, UnknownName, WeirError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Weir: what is correct, how fresh it is, what it costs, and when recovery was last proven. "
    "Try ./weir demo first; ./weir test runs every test.",
)
err = outcome.err
out = outcome.console()

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")]


def _settings() -> Any:
    from weir.stack import settings

    return settings.load()


def _settings_of_local() -> Any:
    """Return the settings for what only ends the local stack or reads its files: a settings file that is broken is told, and not in the way."""
    from weir.stack import settings

    try:
        return settings.load()
    except SettingsError as error:
        found = settings.load(file=False)  # raises again when it was not the file
        err.print(f"weir: going on without the settings file: {' '.join(str(error).split())}", markup=False, soft_wrap=True)
        return found


def _print_json(document: object) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


def _version(wanted: bool) -> None:
    if wanted:
        project = tomllib.loads((_settings().root / "pyproject.toml").read_text())["project"]
        out.print(f"weir {project['version']}", markup=False)
        raise typer.Exit


@app.callback()
def _top(*, _told: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False) -> None:
    pass


@app.command(epilog="Example: ./weir up && ./weir status")
def up() -> None:
    """Start every service in order of readiness; running it again is harmless."""
    from weir.stack import lifecycle

    began = time.monotonic()
    settings = _settings()
    lifecycle.up(settings, outcome.report)
    err.print(f"up in {time.monotonic() - began:.0f} s · dashboard {settings.endpoints.dashboard_url} · api {settings.endpoints.api_url}/")


@app.command(epilog="Example: ./weir down")
def down() -> None:
    """End every service; leaves no process and no port, keeps the data."""
    from weir.stack import lifecycle

    lifecycle.down(_settings_of_local(), outcome.report)


@app.command(epilog="Examples: ./weir status · ./weir status --watch · ./weir status --json")
def status(
    *,
    as_json: Json = False,
    keep: Annotated[bool, typer.Option("--watch", help="Go on until Ctrl-C, with each stage's rate and lag, each hop's freshness, and rows of source and sink.")] = False,
) -> None:
    """Show each service, the connector's task, the slot, the tables, through which LSN each was verified, what came late, repeated or in conflict, whether there is something to recommend, and when recovery was last proven.

    Before Kafka deletes a record that is not landed, a line *retention* says how many hours are left. Exits 1 unless all are ready and none has failed. A service that answers while a part of it has stopped is degraded; its line says what to do.
    """
    from weir.cli import watching
    from weir.contracts.model import POINTER, models_folder
    from weir.quality import ask, ask_pipeline, event_facts, growth, pipeline, recovery, retained, terminal, verdict
    from weir.stack import external, running, services, watch

    settings = _settings()
    if keep:
        if as_json:
            raise typer.BadParameter("--watch and --json do not go together: ./weir status --json prints one document")
        watching.follow(settings, out)
    rows, elsewhere = watch.observe(services.build(settings), settings.home), external.rows(settings)
    endpoints = asdict(settings.endpoints)
    about = ask_pipeline(settings.endpoints, settings.home)
    connector, slot, tables, api, verified, events, proofs = about.connector, about.slot, about.captured, about.api, about.verified, about.events, about.recovery or ()
    grown, load, now_ms = growth.now(settings.endpoints.postgres_dsn, settings.home), pipeline.ask_load(settings.endpoints.clickhouse_url), int(time.time() * 1000)
    served = pipeline.judge_api(api, promoted=(models_folder(settings.home) / POINTER).exists())
    bootstrap = settings.endpoints.kafka_bootstrap
    alarms = retained.ask(bootstrap, ask.kafka(bootstrap, {t.topic for t in tables or ()}))
    kept = retained.judge_retention(alarms)
    back = pipeline.judge_way_back(about.way_back)
    checks = [pipeline.judge_connector(connector), pipeline.judge_slot(slot), *back, *pipeline.judge_captured(tables), served, *kept]
    if as_json:
        wanted = ("postgres_dsn", "kafka_bootstrap", "connect_url", "clickhouse_url", "redis_url", "otlp_url", "api_url", "dashboard_url")
        theirs = [asdict(r) | {"state": "external", "answers": r.state == external.ANSWERS} for r in elsewhere]
        _print_json({"services": [asdict(r) for r in rows] + theirs, "endpoints": {k: endpoints[k] for k in wanted},
                     "connector": connector and asdict(connector), "slot": slot and asdict(slot) | {"growth": grown and asdict(grown)},
                     "tables": tables and captured.told(tables), "verified": verified and [asdict(v) | {"lsn": v.lsn} for v in verified], "verifying_cores": load,
                     "recovery": recovery.document(proofs, now_ms), "api": api and asdict(api), "events": event_facts.document(events),
                     "retention": alarms if alarms is None else [asdict(a) for a in alarms]})
    else:
        if cause := outcome.cause_of_silence():
            out.print(cause, markup=False)
        elif others := running.changed(settings):
            out.print(f" the services were started with another {', '.join(others)} than weir.toml names now: {running.REMEDY}", markup=False, soft_wrap=True)
        out.print(watching.services_table([*rows, *elsewhere]))
        proven = [*pipeline.verified_lines(verified, load, now_ms), *event_facts.lines(events), *terminal.recovery_lines(proofs, now_ms)]
        for line in [*watching.trouble_lines([*rows, *elsewhere]), *watching.capture_lines(connector, slot, grown, tables), *watching.check_lines([*back, *kept]), *(f" {told}" for told in proven)]:
            out.print(line, markup=False, soft_wrap=True)
        out.print(watching.served_line(api, served), markup=False, soft_wrap=True)
        if not cause:
            for line in terminal.verdict_lines(verdict(settings.endpoints, settings.home, about=about)):
                out.print(f" {line}", markup=False, soft_wrap=True)
    raise typer.Exit(0 if all(r.state in {"ready", external.ANSWERS} for r in [*rows, *elsewhere]) and "no" not in {c.verdict for c in checks} else 1)


@app.command(epilog="Examples: ./weir logs kafka --lines 200 · ./weir logs ingest -f")
def logs(
    name: str,
    *,
    lines: Annotated[int, typer.Option(min=1, help="How many of the last lines.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is written, until Ctrl-C.")] = False,
) -> None:
    """Show the last lines of a service's log: of one that ./weir status names, of one of those beside them (watch, cost, capture, reconcile, quality), or of supervisord."""
    from weir.stack import logs as written
    from weir.stack import services

    settings = _settings_of_local()
    known = [*services.names(settings), "supervisord"]
    if name not in known:
        raise UnknownName.of("local service", name, known)
    print(written.tail(settings.home, name, lines) or f"{name} has not written a log yet", flush=True)  # noqa: T201 - raw lines, no markup
    if follow:
        os.execvp("tail", ["tail", "-n", "0", "-F", str(services.log_path(settings.home, name))])  # noqa: S606 - becoming it keeps Ctrl-C; every Linux has it on its PATH


@app.command(epilog="Example: ./weir restart ingest")
def restart(name: str) -> None:
    """Stop and start one service, or one of what runs beside them, and wait until it is ready."""
    from weir.stack import restarting, services

    settings = _settings()
    known = services.names(settings)
    if name not in known:
        raise UnknownName.of("local service", name, known)
    with outcome.usually(settings.home, f"restart {name}", f"restarting {name}"):
        restarting.restart(settings, name, outcome.report)


@app.command(epilog="Example: ./weir path --json")
def path(*, as_json: Json = False) -> None:
    """Show the stages of the path in order, with what each reads and writes."""
    from weir.capture import operate

    endpoints, added, asked = _settings().endpoints, [], True
    try:
        added = operate.owned(endpoints)
    except WeirError:  # the path is what it is, also with the stack down
        asked = False
    stages = with_added(added)
    if not asked:
        outcome.err.print("without tables that were added to it, of which ClickHouse could not be asked: ./weir table list", markup=False, soft_wrap=True)
    if as_json:
        _print_json([asdict(s) for s in stages])
        return
    table = Table("stage", "services", "reads", "writes", "folder", box=None)
    for s in stages:
        table.add_row(s.name, " ".join(s.services), "\n".join(s.reads), "\n".join(s.writes), s.folder)
    out.print(table)


@app.command(epilog="Example: ./weir doctor && ./weir up")
def doctor(*, as_json: Json = False) -> None:
    """Say what is missing on this machine and how to get it. Exits 1 when ./weir up could not start; what that fetches by itself is not missing."""
    from weir.stack import examine

    findings = examine.examine(_settings())
    if as_json:
        _print_json([asdict(f) for f in findings])
    else:
        for f in findings:
            colour = "green" if f.state == "ok" else "yellow" if f.ok else "red"
            out.print(Text(f"  {f.state:<8}", colour), Text(f"{f.what}{'' if f.state == 'ok' else ': ' + f.remedy}"), soft_wrap=True)
    raise typer.Exit(0 if all(f.ok for f in findings) else 1)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}, options_metavar="[OPTIONS] COMMAND [ARGS]...",
    epilog="Examples: ./weir run dbt build · ./weir run feast feature-views list · ./weir run python -m weir.quality",
)
def run(context: typer.Context) -> None:
    """Run any command in the locked environment with every URL set: ./weir run dbt build, ./weir run psql."""
    from weir.connect import postgres
    from weir.stack import services

    if not context.args:
        raise typer.BadParameter("give a command, such as: ./weir run dbt build")
    settings = _settings()
    env = {**os.environ, **services.environment(settings), **postgres.libpq(settings.endpoints.postgres_dsn)}
    env["PATH"] = f"{env['PATH']}{os.pathsep}{postgres.binaries()}"  # psql, where the machine has none
    arguments = list(context.args)
    if arguments[0] == "feast" and not any(a in {"-c", "--chdir"} for a in arguments):
        arguments[1:1] = ["--chdir", str(settings.root / "feature_repo")]
    program = shutil.which(arguments[0], path=env["PATH"])
    if program is None:
        raise typer.BadParameter(f"no command {arguments[0]!r} in the environment or on PATH")
    os.execve(program, arguments, env)  # noqa: S606 - becoming the command keeps its exit code and signals


@app.command(epilog="Example: ./weir clean --yes && ./weir demo")
def clean(*, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """End the stack and delete its data (backups, the environment, the jars, and whatever Weir did not make are kept)."""
    from weir.stack import lifecycle

    settings = _settings()
    if not yes:
        if not sys.stdin.isatty():
            raise Terminal(f"nothing is deleted under {settings.home}: there is nobody to ask", hint="./weir clean --yes deletes without asking")
        typer.confirm(f"Delete the stack's data under {settings.home}?", abort=True)
    lifecycle.down(settings, outcome.report)
    entries = list(settings.home.iterdir())
    with outcome.still("deleting the data"):
        for entry in entries:
            if home.is_data(entry.name):
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    stays = home.foreign(entries)
    outcome.report("stack", f"data deleted{'; what Weir did not make stays: ' + ', '.join(stays[:5]) if stays else ''}{' …' if len(stays) > 5 else ''}")  # noqa: PLR2004 - a line's worth


@app.command(epilog="Examples: ./weir test --only unit · ./weir test --long")
def test(
    *,
    long: Annotated[bool, typer.Option("--long", help="Also what takes longer than half an hour.")] = False,
    only: Annotated[str, typer.Option(help="Run only the tests under this folder of tests/, such as unit.")] = "",
) -> None:
    """Run the checks and tests: lint, types, layers, unit, contract, oracle, house, docs, stack, browser; with --long those that take longer too."""
    from weir.cli import checks

    settings = _settings()
    raise typer.Exit(checks.run(settings.root, settings.home, long=long, only=only))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False},
             epilog="Examples: ./weir bench · ./weir bench startup --json")
def bench(context: typer.Context, name: Annotated[str, typer.Argument(help="Which benchmark; without it they are listed.")] = "") -> None:
    """Run a benchmark of bench/ and print one JSON document; its own options follow: ./weir bench startup --starts 5."""
    settings = _settings()
    scripts = {p.stem: p for p in sorted((settings.root / "bench").glob("*.py"))}
    if not name:
        for stem, script in scripts.items():
            first = next(line for line in script.read_text().splitlines() if line.strip())
            out.print(f"{stem:<12} {first.strip(chr(34))}", markup=False)
        return
    if name not in scripts:
        raise UnknownName.of("benchmark", name, scripts)
    os.execv(sys.executable, [sys.executable, "-P", "-m", "weir.cli.benchmark", str(scripts[name]), *context.args])  # noqa: S606 - becoming the benchmark keeps its exit code and signals


@app.command(epilog="Example: ./weir lock && git diff requirements/")
def lock() -> None:
    """Make the requirement locks anew from requirements/*.in (needs a network)."""
    from weir.cli import locks

    locks.make(_settings().root / "requirements", outcome.report)


def main() -> None:
    """Entry point."""
    outcome.end_politely()
    outcome.fold_helps(app)
    raise SystemExit(outcome.run_app(app))


app.command(epilog="Examples: ./weir demo · ./weir demo --json | python3 -m json.tool")(demo)
app.command(epilog="Examples: ./weir load --events 1000000 --seed 7 · ./weir load --rate 27778 --events 500000")(load)
app.add_typer(quarantine_app, name="quarantine")
app.command(epilog="Examples: ./weir queries · ./weir queries --hours 24 --top 20 · ./weir queries --json")(queries)
app.command(epilog="Examples: ./weir simulate --seeds 2000 · ./weir simulate --seed 17 --seeds 1 · ./weir simulate --mutant list")(simulate)
app.add_typer(table_app, name="table")
app.add_typer(verify_app, name="verify")
app.add_typer(replay_app, name="replay")
app.command(epilog="Examples: ./weir torture --kills 40 · ./weir torture --kills 1000 --seed 7 --json > record.json")(torture)
app.add_typer(connector_app, name="connector")
app.command(epilog="Examples: ./weir deploy int_user_events · ./weir deploy stg_users --history copy --json")(deploy)
app.add_typer(backup_app, name="backup")
app.command(epilog="Examples: ./weir restore latest --replace · WEIR_HOME=/srv/other ./weir restore /mnt/backups/weir-20261124T201500Z")(restore)
app.command(epilog="Examples: ./weir reconcile --once --json · ./weir reconcile --table users")(reconcile)

chaos_app = typer.Typer(no_args_is_help=True, help="Chaos experiments against the running stack.")
app.add_typer(chaos_app, name="chaos")


@chaos_app.command("list", epilog="Example: ./weir chaos list")
def chaos_list() -> None:
    """Name the experiments."""
    from weir.chaos import runner

    for name in runner.available(_settings().root):
        out.print(name)


@chaos_app.command("run", epilog="Example: ./weir chaos run kill-kafka-broker --json")
def chaos_run(name: str, *, as_json: Json = False) -> None:
    """Run one experiment against the stack that is up. Exits 0 yes, 1 no, 2 unknown (also when nothing was broken: no such experiment, the stack is down).

    Its events are views by made-up users of a made-up item in the country ZZ: no user's seen items, history or preferences change. Their rows stay
    until retention takes them, and for an hour the made-up item takes one of the 100 trending places of all countries, which the API skips.
    """
    from weir.chaos import runner
    from weir.stack import services, supervision

    settings = _settings()
    os.environ.update(services.environment(settings))
    with outcome.verdict():
        if name in runner.available(settings.root) and not supervision.Control(settings.home).alive():
            raise Unavailable("the stack is down, so no experiment can be run", hint="./weir up starts it")
        evidence = runner.run(settings.root, settings.home, name, lambda line: err.print(line, markup=False, soft_wrap=True))
    if as_json:
        _print_json(evidence)
    else:
        for row in evidence["observations"]:
            err.print("  " + " · ".join(f"{k} {v}" for k, v in row.items() if k != "at_s" and v != ()), markup=False, soft_wrap=True)
        err.print(f"{name}: {evidence['verdict']} in {evidence['seconds']} s{evidence['reason'] and ': ' + evidence['reason']}", markup=False, soft_wrap=True)
    raise typer.Exit({"yes": 0, "no": 1}.get(evidence["verdict"], 2))
