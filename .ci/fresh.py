#!/usr/bin/env python3
"""Both commands of the README in a fresh clone, with an empty home and empty caches, as root and as another user. Run it as root: `python3 .ci/fresh.py`.

In: this checkout's HEAD. Out: a line for each command (who, what, exit code, seconds), and where its output is; exit code 1 when one failed or left a
process behind. Keep: everything is below one folder in /var/tmp, which goes at the end when all was well; the made user goes always. Each user fetches the whole
environment (about 700 MB), and `test` takes up to half an hour: `--command demo --as weir-fresh` runs one part.
"""
import argparse
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OTHER = "weir-fresh"
COMMANDS = {"doctor": ["doctor"], "demo": ["demo", "--json"], "test": ["test"]}  # after ./weir
# All that is taken over from the caller: how this machine reaches its registries.
REGISTRIES = ("PIP_", "UV_", "npm_config_", "NPM_CONFIG_", "GOPROXY", "WEIR_MAVEN_URL", "SSL_CERT_", "REQUESTS_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
              "http_proxy", "https_proxy", "no_proxy")
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
PIP_FILES = (".config/pip/pip.conf", ".pip/pip.conf")


def environment(home: Path, base: Path, port_base: int) -> dict[str, str]:
    """Return an environment with nothing of the caller's but the registries."""
    kept = {k: v for k, v in os.environ.items() if k.startswith(REGISTRIES)}
    for file in (Path.home() / name for name in PIP_FILES):
        if file.exists() and "PIP_CONFIG_FILE" not in kept:
            kept["PIP_CONFIG_FILE"] = str(shutil.copy(file, base / "pip.conf"))
    return {**kept, "PATH": PATH, "LANG": "C.UTF-8", "HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "WEIR_PORT_BASE": str(port_base),
            "WEIR_TEST_PORT_BASE": str(port_base + 500)}


def clone(base: Path, who: str) -> tuple[Path, Path]:
    """Clone HEAD for a user who owns it all; return (clone, empty home)."""
    folder, home = base / who / "weir", base / who / "home"
    home.mkdir(parents=True)
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    subprocess.run(["chown", "-R", f"{who}:", str(base / who)], check=True)
    return folder, home


def left_behind(base: Path) -> list[str]:
    """Return what still runs with a WEIR_HOME below `base`: process ids and names."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"WEIR_HOME={base}/".encode() in (process / "environ").read_bytes():
                found.append(f"{process.name} {(process / 'comm').read_text().strip()}")
        except OSError:
            continue
    return found


def carry_out(base: Path, who: str, names: Sequence[str], python: str, port_base: int) -> bool:
    """Run the commands as `who`; print a line for each; return whether all was well."""
    folder, home = clone(base, who)
    entry, well = pwd.getpwnam(who), True
    for name in names:
        began, said = time.monotonic(), base / who / f"{name}.out"
        with said.open("w") as out:
            done = subprocess.run([python, "./weir", *COMMANDS[name]], cwd=folder, env=environment(home, base, port_base), stdin=subprocess.DEVNULL, stdout=out,
                                  stderr=subprocess.STDOUT if name != "demo" else None, user=entry.pw_uid, group=entry.pw_gid, extra_groups=[], check=False)
        left = left_behind(base)
        print(f"{who}: ./weir {' '.join(COMMANDS[name])}: exit code {done.returncode}, {time.monotonic() - began:.0f} s{', left running: ' + ', '.join(left) if left else ''} ({said})", flush=True)
        if name == "demo" and not done.returncode:
            print(f"{who}: {json.loads(said.read_text())['seconds_to_ready']:.0f} s to the first recommendation, downloads not counted", flush=True)
        well = well and not done.returncode and not left
    return well


def main() -> None:
    """Make the user and the folder, run, clear away."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--command", action="append", choices=COMMANDS, help="which (default: demo, then test)")
    parser.add_argument("--as", dest="who", action="append", choices=["root", OTHER], help="as whom (default: both)")
    parser.add_argument("--port-base", type=int, default=27000, help="first of the ports (default 27000; the tests' are 500 further)")
    parser.add_argument("--python", default=shutil.which("python3", path=PATH), help="the interpreter, which both users may run (default: the system's python3)")
    given = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("run it as root: it makes a user and becomes it")
    users = given.who or ["root", OTHER]
    base, made = Path(tempfile.mkdtemp(prefix="weir-fresh-", dir="/var/tmp")), False
    base.chmod(0o755)
    try:
        if OTHER in users:
            subprocess.run(["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(base / OTHER / "home"), "--shell", "/bin/sh", OTHER], check=True)
            made = True
        well = True
        for who in users:  # each, also after one that failed
            well = carry_out(base, who, given.command or ["demo", "test"], given.python, given.port_base) and well
    finally:
        if made:
            subprocess.run(["userdel", OTHER], check=False)
    if well:
        shutil.rmtree(base)
    else:
        sys.exit(f"not all was well; everything is still at {base}")


if __name__ == "__main__":
    main()
