"""`./weir lock`: the requirement locks made anew.

In: requirements/*.in, a package index. Out: requirements/*.lock. Keep: a lock that could not be made stays as it was, and one line says why.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from weir.errors import Unavailable

LOCKS = (("runtime", ()), ("dataset", ("--no-deps",)), ("bootstrap", ()), ("bench", ()), ("bench-build", ()), ("node", ()))


def make(root: Path, report: Callable[[str, str], None]) -> None:
    """Make each lock under `root`.

    Raises:
        Unavailable: one could not be made; carries what the resolver said last. Those before it are new.
    """
    for name, extra in LOCKS:
        done = subprocess.run(
            [sys.executable, "-m", "uv", "pip", "compile", "-q", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-header",
             "--upgrade", *extra, str(root / f"{name}.in"), "-o", str(root / f"{name}.lock")],
            capture_output=True, text=True, check=False,
        )
        if done.returncode:
            said = [line.strip(" │├─▶╰") for line in done.stderr.splitlines() if line.strip()]
            raise Unavailable(
                f"requirements/{name}.lock could not be made: {'; '.join(said[:1] + said[-1:])[:300] or f'uv exited {done.returncode}'}",
                hint="it needs a network, or an index named by UV_DEFAULT_INDEX; when the packages do not fit each other, mend the .in file",
            )
        report("lock", f"requirements/{name}.lock")
