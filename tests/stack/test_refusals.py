"""What goes wrong on a real machine, through the real launcher: one line that says what happened, to what, and what to do; no traceback; nothing left."""
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil
import psycopg
import pytest
import redis
from tests.contract import kafka_server
from tests.stack import own_servers
from tests.stack.conftest import PORT_BASE, ROOT

from weir.contracts.endpoints import PORT_OFFSETS
from weir.contracts.events import EventType
from weir.demo import follow
from weir.simulation import produce
from weir.simulation.derive import Event
from weir.telemetry import setup
from weir.topics import client

pytestmark = pytest.mark.stack
BASE = PORT_BASE + 40
# In a network of its own with nothing but loopback: what a machine without a network is. Runs its arguments there.
OFFLINE = (
    "import fcntl, os, socket, struct, sys\n"
    "with socket.socket() as s: fcntl.ioctl(s, 0x8914, struct.pack('16sh14x', b'lo', 0x41))\n"  # SIOCSIFFLAGS: IFF_UP | IFF_RUNNING (netdevice(7))
    "os.execv(sys.argv[1], sys.argv[1:])\n"
)


def _environment(home, **more):
    left_out = ("PIP_", "UV_", "WEIR_")
    env = {k: v for k, v in os.environ.items() if not k.startswith(left_out) or k == "WEIR_DATASET_DIR"}
    return env | {"WEIR_HOME": str(home), "WEIR_PORT_BASE": str(BASE), "PYTHONPATH": "", "PIP_CONFIG_FILE": os.devnull} | more


def _launch(home, *arguments, before=(), timeout=240, **more):
    command = [*before, sys.executable, str(ROOT / "weir"), *arguments]
    return subprocess.run(command, env=_environment(home, **more), capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL)


def _line(done, code):
    """Return the one line of a refusal."""
    assert done.returncode == code, done.stderr[-2000:]
    assert "Traceback" not in done.stderr + done.stdout
    lines = [x for x in done.stderr.splitlines() if x.startswith("weir: ") and not x.rstrip().endswith((" s", "so far", "…"))]  # progress is no refusal
    assert len(lines) == 1, done.stderr[-2000:]
    return lines[0]


def _of(home):
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("WEIR_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
    return found


@pytest.fixture
def empty():
    home = Path(tempfile.mkdtemp(dir="/var/tmp", prefix="weir-refusals-"))
    home.chmod(0o755)
    yield home
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def ready(empty):
    """A home whose environment is there: this interpreter's own, under the name that the launcher looks for."""
    _make_ready(empty)
    yield empty
    _launch(empty, "down")


def _make_ready(home):
    code = f"import importlib.machinery as m; print(m.SourceFileLoader('w', {str(ROOT / 'weir')!r}).load_module().digest())"
    digest = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    venv = home / f"env-{digest}"
    venv.mkdir()
    (Path(sys.prefix) / "pycache").mkdir(exist_ok=True)
    for name in ("bin", "lib", "pyvenv.cfg", "dataset", "pycache"):
        if (Path(sys.prefix) / name).exists():
            (venv / name).symlink_to(Path(sys.prefix) / name)
    (venv / ".complete").touch()
    jars = Path(os.environ["WEIR_HOME"]) / "jars"
    jars.mkdir(exist_ok=True)
    (home / "jars").symlink_to(jars)


def test_without_a_network_the_first_run_says_so_and_leaves_no_environment_that_looks_whole(empty):
    done = _launch(empty, "up", PIP_INDEX_URL="http://127.0.0.1:1/simple", PIP_RETRIES="0", UV_DEFAULT_INDEX="http://127.0.0.1:1/simple")
    assert "the first run needs a network" in _line(done, 2)
    assert list(empty.glob("env-*/.complete")) == []


def test_without_a_network_the_first_fetch_of_the_jars_names_the_jar(ready):
    (ready / "jars").unlink()
    line = _line(_launch(ready, "up", WEIR_MAVEN_URL="http://127.0.0.1:1/m"), 1)
    assert ".jar could not be fetched" in line
    assert "needs a network" in line
    assert _of(ready) == []


def test_a_home_that_is_no_folder_or_that_postgres_uid_cannot_pass_is_named(empty):
    (empty / "file").touch()
    assert str(empty / "file") in _line(_launch(empty / "file", "up"), 2)
    if os.geteuid() == 0:
        (empty / "closed").mkdir(mode=0o700)
        assert f"chmod o+x {empty / 'closed'}" in _line(_launch(empty / "closed" / "home", "up"), 2)


@pytest.mark.skipif(os.geteuid() != 0, reason="a small disk needs a mount; the unit tests fake it")
@pytest.mark.parametrize("with_environment", [False, True])
def test_a_small_disk_is_told_with_what_is_free_and_what_is_needed(empty, with_environment):
    disk = empty / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(disk)], capture_output=True, check=False).returncode:
        pytest.skip("this container may not mount")
    try:
        disk.chmod(0o755)
        if with_environment:
            _make_ready(disk)
        line = _line(_launch(disk, "up"), 1 if with_environment else 2)
        assert "MB are free on the disk of WEIR_HOME" in line
        assert str(disk) in line
        assert _of(disk) == []
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_a_taken_port_names_service_port_process_and_the_way_out(ready):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", BASE + 6))
        s.listen()
        line = _line(_launch(ready, "up"), 1)
    for word in ("redis", str(BASE + 6), f"pid {os.getpid()}", "WEIR_PORT_BASE"):
        assert word in line
    assert _of(ready) == []


@pytest.mark.parametrize("text", ["[endpoints", "[endpoints]\nredis_ulr = 'x'\n", "[endpoints]\nredis_url = 'http://x'\n"])
def test_a_broken_settings_file_is_named_by_every_command(ready, text):
    (ready / "own.toml").write_text(text)
    for command in (("up",), ("status",), ("demo", "--json")):
        assert str(ready / "own.toml") in _line(_launch(ready, *command, WEIR_SETTINGS=str(ready / "own.toml")), 1)


def test_a_service_that_dies_at_its_start_is_told_with_its_log_and_down_ends_the_rest(ready):
    folder = ready / "redis" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("this is no manifest\n")
    line = _line(_launch(ready, "up"), 1)
    for word in ("redis ended at its start", str(ready / "logs" / "redis.log"), "manifest", "./weir logs redis", "./weir down"):
        assert word in line
    _launch(ready, "down")
    assert _of(ready) == []


def _interrupt_at(home, word, *arguments, **more):
    """Run a command, send Ctrl-C's signal when it has said `word`; return what it said and its exit code."""
    command = [sys.executable, str(ROOT / "weir"), *arguments]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background ignores Ctrl-C's signal, and its children would
    process = subprocess.Popen(command, env=_environment(home, **more), stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, before)
    said = ""
    for line in process.stderr:
        said += line
        if word in line:
            process.send_signal(signal.SIGINT)
            break
    said += process.communicate(timeout=90)[1]
    return said, process.returncode


def test_ctrl_c_during_the_set_up_leaves_nothing_running(empty):
    with socket.socket() as hangs:  # a registry that takes the connection and never answers
        hangs.bind(("127.0.0.1", 0))
        hangs.listen()
        url = f"http://127.0.0.1:{hangs.getsockname()[1]}/simple"
        said, code = _interrupt_at(empty, "installing the installer", "up", PIP_INDEX_URL=url)
    assert code == 130
    assert "Traceback" not in said
    assert _of(empty) == []


@pytest.mark.parametrize("command", [("up",), ("demo", "--json")])
def test_ctrl_c_during_up_takes_back_what_was_started(ready, command):
    said, code = _interrupt_at(ready, "ready in", *command)
    assert code == 130, said
    assert "Traceback" not in said
    assert _of(ready) == []
    assert not [c for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN and BASE <= c.laddr.port < BASE + 20]


@pytest.mark.long  # without a network at all; tests/stack/test_demo.py starts a second time with every registry gone
def test_a_second_run_needs_no_network_and_up_and_down_may_be_repeated(ready):
    before = []
    more = {"WEIR_MAVEN_URL": "http://127.0.0.1:1/m"}
    if subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0:
        before = ["unshare", "-n", sys.executable, "-c", OFFLINE, "/bin/sh", "-c"]
    else:  # not allowed: whatever would go out goes to a dead port
        more |= dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:1") | {"NO_PROXY": "127.0.0.1,localhost"}
        before = ["/bin/sh", "-c"]
    weir = f"'{sys.executable}' '{ROOT / 'weir'}'"
    script = f"{weir} up && {weir} up && {weir} status --json && {weir} down && {weir} down"
    done = subprocess.run([*before, script], env=_environment(ready, **more), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    document = json.loads(done.stdout)
    assert {s["state"] for s in document["services"]} == {"ready"}
    assert done.stderr.rstrip().endswith("was not running")
    assert _of(ready) == []


@pytest.fixture
def own(ready):
    """A PostgreSQL, a Redis and a Kafka that are not the stack's; the stack is ended before them."""
    folder = ready / "own"
    folder.mkdir()
    with own_servers.running(folder, BASE + 30) as found:
        yield found
        _launch(ready, "down")


def _document(ready, **more):
    return json.loads(_launch(ready, "status", "--json", **more).stdout)


@pytest.mark.long  # a whole second stack; each client against servers of that kind: tests/contract/; ports that are taken: above
def test_a_second_stack_runs_beside_the_first_with_the_same_jars_on_servers_of_ones_own(running, ready, own, monkeypatch):
    """A settings file names PostgreSQL, Redis and a Kafka with TLS and users: one changed row and one event go through them to a served feature, and nothing of them is the stack's."""
    (ready / "own.toml").write_text(own.settings)
    settings = {"WEIR_SETTINGS": str(ready / "own.toml")}
    done = _launch(ready, "up", **settings)
    assert done.returncode == 0, done.stderr[-2000:]
    assert running.weir("status", check=False).returncode == 0
    moved = replace(running, env=running.env | {"WEIR_PORT_BASE": str(BASE)})
    line = _line(moved.weir("up", check=False), 1)
    assert f"WEIR_PORT_BASE {PORT_BASE} instead of {BASE}" in line
    document = _document(ready, **settings)
    assert {s["name"] for s in document["services"] if s["state"] == "external" and s["answers"]} == {"postgres", "redis", "kafka"}
    assert {s["state"] for s in document["services"]} == {"ready", "external"}
    told = json.dumps(document["services"]) + done.stderr
    assert not [secret for secret in (own_servers.PASSWORD, own_servers.QUOTED) if secret in told]
    told += "".join(p.read_text(errors="replace") for p in [*(ready / "logs").iterdir(), ready / "run" / "supervisord.conf", ready / "connect" / "worker.properties"])
    shapes = (kafka_server.PASSWORDS["PLAIN"], r"a\\s=w#", r"a\\\\s=w#")  # as it is, as a login module and as a file of properties has it
    assert not [secret for secret in shapes if secret in told]
    built = _launch(ready, "run", "dbt", "build", "--quiet", "--resource-type", "model", **settings)
    assert built.returncode == 0, built.stdout[-2000:]
    monkeypatch.setenv(client.BOOTSTRAP, own.kafka.bootstrap)
    monkeypatch.setenv(client.FILE, str(own.kafka_client))
    _follow(document["endpoints"], own)
    assert not [name for name in ("postgres", "redis", "kafka") if (ready / name).exists()]
    assert not {BASE + PORT_OFFSETS[name] for name in ("postgres", "redis", "kafka")} & {c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN}


def _follow(endpoints, own):
    """Change one row, send one event, see both served and in the Redis."""
    user_id, now_ms = 77, int(time.time() * 1000)
    with psycopg.connect(own.postgres_dsn) as shop:
        shop.execute("INSERT INTO users (user_id, age, gender, occupation, zip_code, country, preferred_genre) VALUES (%s, 33, 'F', 'artist', '1', 'SE', 'Horror')", (user_id,))
        shop.commit()
        shop.execute("UPDATE users SET preferred_genre = 'Comedy', updated_at = now() WHERE user_id = %s", (user_id,))
    event = Event("own-servers", user_id, 5, EventType.CLICK, None, "own", "SE", now_ms)
    produce.one(produce.producer(endpoints["kafka_bootstrap"]), event, setup("test", otlp_url=""))
    api = follow.Api(endpoints["api_url"])
    try:
        follow.until(lambda: (api.features(user_id).get("user_profile") or {}).get("preferred_genre") == "Comedy", "the changed row", 60)
        follow.until(lambda: (api.features(user_id).get("user_activity") or {}).get("last_event_at_ms") == now_ms, "the event", 60)
    finally:
        api.close()
    assert redis.Redis.from_url(own.redis_url).dbsize() > 0
