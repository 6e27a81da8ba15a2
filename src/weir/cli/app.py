"""The `./weir` commands that start, look at and end the stack."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from weir.cli.quarantine import quarantine_app
from weir.cli.reconcile import reconcile
from weir.cli.table import table_app
from weir.contracts.path import PATH
from weir.errors import WeirError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Weir: what is correct, how fresh it is, what it costs, and when recovery was last proven. "
    "Try ./weir demo first; ./weir test runs every test.",
)
err = Console(stderr=True, highlight=False)
out = Console(highlight=False)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")]


def _settings() -> Any:
    from weir.stack import settings

    return settings.load()


def _report(name: str, what: str) -> None:
    err.print(f"  [bold]{name:<11}[/] {what}")


def _print_json(document: object) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")


@app.command()
def up() -> None:
    """Start every service in order of readiness; running it again is harmless."""
    from weir.stack import lifecycle

    began = time.monotonic()
    settings = _settings()
    lifecycle.up(settings, _report)
    err.print(f"up in {time.monotonic() - began:.0f} s · dashboard {settings.endpoints.dashboard_url} · api {settings.endpoints.api_url}/docs")


@app.command()
def down() -> None:
    """End every service; leaves no process and no port, keeps the data."""
    from weir.stack import lifecycle

    lifecycle.down(_settings(), _report)


@app.command()
def status(*, as_json: Json = False) -> None:
    """Show each service's state, pid and endpoint, the connector's task and the slot. Exits 1 unless all are ready and none has failed."""
    from weir.quality import pipeline
    from weir.stack import services, watch

    settings = _settings()
    rows = watch.observe(services.build(settings), settings.home)
    endpoints = asdict(settings.endpoints)
    connector, slot = pipeline.ask_connector(settings.endpoints.connect_url), pipeline.ask_slot(settings.endpoints.postgres_dsn)
    capture = [pipeline.judge_connector(connector), pipeline.judge_slot(slot)]
    if as_json:
        wanted = ("postgres_dsn", "kafka_bootstrap", "connect_url", "clickhouse_url", "redis_url", "otlp_url", "api_url", "dashboard_url")
        external = [{"name": n, "state": "external", "pid": 0, "endpoint": ""} for n in sorted(settings.external)]
        _print_json({"services": [asdict(r) for r in rows] + external, "endpoints": {k: endpoints[k] for k in wanted},
                     "connector": connector and asdict(connector), "slot": slot and asdict(slot)})
    else:
        table = Table("service", "state", "pid", "endpoint", box=None)
        for r in rows:
            colour = {"ready": "green", "stopped": "dim"}.get(r.state, "red")
            table.add_row(r.name, f"[{colour}]{r.state}[/]", str(r.pid or ""), watch._masked(r.endpoint))  # noqa: SLF001 - shown without its password
        out.print(table)
        for check in capture:
            out.print(f" {check.name}: {check.reason or 'ok'}", markup=False, soft_wrap=True)
        if slot is not None and slot.retained_bytes is not None:
            left = "" if slot.left_bytes is None else f", {slot.left_bytes / 1e6:,.0f} MB left to the limit"
            out.print(f" slot {slot.wal_status}: {slot.retained_bytes / 1e6:,.1f} MB of WAL kept{left}", markup=False)
    raise typer.Exit(0 if all(r.state == "ready" for r in rows) and "no" not in {c.verdict for c in capture} else 1)


@app.command()
def logs(name: str, *, lines: Annotated[int, typer.Option(help="How many of the last lines.")] = 50) -> None:
    """Show the last lines of a service's log."""
    from weir.stack import lifecycle, services

    settings = _settings()
    known = [*services.ORDER, *services.companions(settings), "supervisord"]
    if name not in known:
        raise typer.BadParameter(f"no service {name!r}; there are {', '.join(known)}")
    print(lifecycle.tail(settings.home, name, lines) or f"{name} has not written a log yet")  # noqa: T201 - raw lines, no markup


@app.command()
def restart(name: str) -> None:
    """Stop and start one service, and wait until it is ready."""
    from weir.errors import ServiceFailed
    from weir.stack import probe, services, supervision

    settings = _settings()
    spec = next((s for s in services.build(settings) if s.name == name), None)
    if spec is None:
        raise typer.BadParameter(f"no local service {name!r}; there are {', '.join(services.ORDER)}")
    control = supervision.Control(settings.home)
    control.stop(name)
    control.start(name)
    deadline = time.monotonic() + spec.slow_s
    while not probe.ready(spec.probe):
        if time.monotonic() > deadline:
            raise ServiceFailed(f"{name} did not become ready in {spec.slow_s} s", hint=f"./weir logs {name} shows why")
        time.sleep(0.1)
    _report(name, "ready")


@app.command()
def path(*, as_json: Json = False) -> None:
    """Show the stages of the path in order, with what each reads and writes."""
    if as_json:
        _print_json([asdict(s) for s in PATH])
        return
    table = Table("stage", "services", "reads", "writes", "folder", box=None)
    for s in PATH:
        table.add_row(s.name, " ".join(s.services), "\n".join(s.reads), "\n".join(s.writes), s.folder)
    out.print(table)


@app.command()
def doctor() -> None:
    """Say what is missing on this machine and how to get it."""
    from weir.stack import examine

    findings = examine.examine(_settings())
    for f in findings:
        err.print(f"  {'[green]ok[/]     ' if f.ok else '[red]missing[/]'} {f.what}{'' if f.ok else ': ' + f.remedy}")
    raise typer.Exit(0 if all(f.ok for f in findings) else 1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def run(context: typer.Context) -> None:
    """Run any command in the locked environment with every URL set: ./weir run dbt build."""
    from weir.stack import services

    if not context.args:
        raise typer.BadParameter("give a command, such as: ./weir run dbt build")
    settings = _settings()
    env = {**os.environ, **services.environment(settings)}
    arguments = list(context.args)
    if arguments[0] == "feast" and not any(a in {"-c", "--chdir"} for a in arguments):
        arguments[1:1] = ["--chdir", str(settings.root / "feature_repo")]
    program = shutil.which(arguments[0], path=env["PATH"])
    if program is None:
        raise typer.BadParameter(f"no command {arguments[0]!r} in the environment or on PATH")
    os.execve(program, arguments, env)  # noqa: S606 - becoming the command keeps its exit code and signals


@app.command()
def clean(*, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """End the stack and delete its data (the environment and the jars are kept)."""
    from weir.stack import lifecycle

    settings = _settings()
    if not yes:
        typer.confirm(f"Delete all data under {settings.home}?", abort=True)
    lifecycle.down(settings, _report)
    for entry in settings.home.iterdir():
        if entry.name.startswith(("env-", "jars", ".env.lock")):
            continue
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    _report("stack", "data deleted")


@app.command()
def demo(
    *,
    leave: Annotated[bool, typer.Option("--exit", help="End the stack after the story instead of staying up until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Start everything, load MovieLens through the real path, and follow one click and one profile change to a recommendation."""
    from weir.connect import jars
    from weir.demo import story
    from weir.stack import lifecycle, services

    settings = _settings()
    os.environ.update(services.environment(settings))  # the story is a client like any other: it finds the receiver by its URL
    began_s = float(os.environ.get("WEIR_STARTED_AT") or time.time())
    failed = False
    try:
        before = time.time()
        jars.fetch(settings.home)
        began_s += time.time() - before  # downloads are not counted as starting
        lifecycle.up(settings, _report)
        result = story.run(settings.endpoints, settings.home, err, began_s=began_s)
        if as_json:
            _print_json(result.document())
        elif not leave:
            e = settings.endpoints
            err.print(f"\ndashboard {e.dashboard_url}\napi       {e.api_url}/docs\nclickhouse {e.clickhouse_url}\nCtrl-C ends everything")
            signal.sigwait({signal.SIGINT, signal.SIGTERM})
    except KeyboardInterrupt:
        err.print("stopping …")
    except WeirError as error:
        _end(error)
        failed = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    lifecycle.down(settings, _report)
    raise typer.Exit(1 if failed else 0)


@app.command()
def test(
    *,
    long: Annotated[bool, typer.Option("--long", help="Also what takes longer than half an hour.")] = False,
    only: Annotated[str, typer.Option(help="Run only the tests under this folder of tests/, such as unit.")] = "",
) -> None:
    """Run every check and test: lint, types, layers, unit, contract, oracle, house, docs, stack, browser."""
    from weir.cli import checks

    settings = _settings()
    raise typer.Exit(checks.run(settings.root, long=long, only=only))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
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
        raise typer.BadParameter(f"no benchmark {name!r}; there are {', '.join(scripts)}")
    os.execv(sys.executable, [sys.executable, str(scripts[name]), *context.args])  # noqa: S606 - becoming the benchmark keeps its exit code and signals


@app.command()
def lock() -> None:
    """Make the requirement locks anew from requirements/*.in (needs a network)."""
    root = _settings().root / "requirements"
    for name, extra in (("runtime", []), ("dataset", ["--no-deps"]), ("bootstrap", [])):
        subprocess.run(
            [sys.executable, "-m", "uv", "pip", "compile", "-q", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header",
             "--upgrade", *extra, str(root / f"{name}.in"), "-o", str(root / f"{name}.lock")],
            check=True,
        )


def _end(error: WeirError) -> None:
    err.print(f"weir: {error}", markup=False, soft_wrap=True)  # one line, however narrow the terminal


def run_app(command: Callable[[], None]) -> int:
    """Run the typer application; return its exit code. A `WeirError` is one line, never a traceback."""
    try:
        command()
    except WeirError as error:
        _end(error)
        return 1
    except KeyboardInterrupt:
        err.print("weir: stopped")
        return 130
    return 0


def main() -> None:
    """Entry point."""
    raise SystemExit(run_app(app))


app.add_typer(quarantine_app, name="quarantine")
app.add_typer(table_app, name="table")
app.command()(reconcile)

chaos_app = typer.Typer(no_args_is_help=True, help="Chaos experiments against the running stack.")
app.add_typer(chaos_app, name="chaos")


@chaos_app.command("list")
def chaos_list() -> None:
    """Name the experiments."""
    from weir.chaos import runner

    for name in runner.available(_settings().root):
        out.print(name)


@chaos_app.command("run")
def chaos_run(name: str, *, as_json: Json = False) -> None:
    """Run one experiment; exits 0 only for the verdict yes."""
    from weir.chaos import runner
    from weir.stack import services

    settings = _settings()
    os.environ.update(services.environment(settings))
    evidence = runner.run(settings.root, settings.home, name)
    if as_json:
        _print_json(evidence)
    else:
        for row in evidence["observations"]:
            err.print(f"  {row}", markup=False)
        err.print(f"{name}: {evidence['verdict']} in {evidence['seconds']} s")
    raise typer.Exit(0 if evidence["verdict"] == "yes" else 1)
