"""A script of bench/ as a command of `./weir bench`: python -m weir.cli.benchmark SCRIPT [ARGUMENT…].

In: the script and its arguments. Out: what it prints, and its exit code. Keep: it finds its neighbours and its arguments as when it is run itself; it ends as every command does.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

from weir.cli import outcome


def main() -> int:
    """Run the script; return the exit code of one that returns or fails, leave that of one that exits."""
    script = sys.argv[1]
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path(script).parent))
    outcome.end_politely()
    return outcome.run_app(lambda **_named: runpy.run_path(script, run_name="__main__"))


if __name__ == "__main__":
    raise SystemExit(main())
