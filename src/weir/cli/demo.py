"""`./weir demo`: the stack and the story, and what is ended afterwards.

In: settings. Out: the story on standard error, or its document. Keep: it ends a stack that it started, however it ends itself, and no other; a stack that
someone else ended under it is told.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from weir.cli import outcome
from weir.errors import Terminal, WeirError

if TYPE_CHECKING:
    from weir.demo.screen import Screen
    from weir.stack.lifecycle import Started
    from weir.stack.settings import StackSettings

POLL_S = 0.5


def demo(
    *,
    leave: Annotated[bool, typer.Option("--exit", help="End after the story instead of staying up until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else on standard output.")] = False,
) -> None:
    """Start everything, load MovieLens through the real path, and follow one click and one profile change to a recommendation.

    Ends the stack that it started. One that it found running is used and left running.
    """
    from weir.demo import story
    from weir.demo.screen import Screen
    from weir.quality import verdict
    from weir.stack import lifecycle, services, settings

    found = settings.load()
    os.environ.update(services.environment(found))  # the story is a client like any other: it finds the receiver by its URL
    began_s = float(os.environ.get("WEIR_STARTED_AT") or time.time())
    code, told, started = 1, False, lifecycle.Started()
    try:
        lifecycle.up(found, outcome.report, started)
        began_s += started.downloading_s  # downloads are not counted as starting
        if not started.ours:
            outcome.report("stack", "its supervisor ran already: the demo uses this stack, and leaves it running")
        with Screen(outcome.err, lambda: verdict(found.endpoints, found.home)) as screen:
            result = story.run(found.endpoints, found.home, screen, began_s=began_s)
            code, told = 0, True
            if as_json:
                sys.stdout.write(json.dumps(result.document(), indent=2) + "\n")
            elif not leave:
                _stay(found, screen, started)
    except KeyboardInterrupt:
        outcome.err.print("stopping …")
        code = 0 if told else outcome.STOPPED
    except WeirError as error:
        code = 1
        outcome.tell(_gone() if started.ended else error)
    finally:  # also after what nobody foresaw: the demo never leaves its own stack behind
        with lifecycle.undisturbed():
            _end(found, started)
    raise typer.Exit(code)


def _gone() -> Terminal:
    return Terminal("the stack was ended elsewhere (by ./weir down, or a kill)", hint="./weir demo starts it again")


def _stay(settings: StackSettings, screen: Screen, started: Started) -> None:
    """Show where to look and wait for Ctrl-C.

    Raises:
        Terminal: the stack was ended by someone else.
    """
    from weir.stack.states import masked

    places = asdict(settings.endpoints)
    ends = "Ctrl-C ends everything" if started.ours else "Ctrl-C ends the demo; ./weir down ends the stack"
    lines = [f"{name.rpartition('_')[0]:<10} {masked(url)}" for name, url in places.items() if name != "kafka_client"]  # a file, no place
    tries = f"in another terminal: ./weir status --watch · curl {settings.endpoints.api_url}/recommendations/1 · ./weir chaos run kill-ingest-worker"
    screen.print("\n".join(["", *lines, "./weir status --json tells the users and passwords", tries, ends]))
    while not started.ended:
        time.sleep(POLL_S)  # not a wait without end: a signal that another thread took is seen here
    raise _gone()


def _end(settings: StackSettings, started: Started) -> None:
    """End the stack that this demo started, and what a killed supervisor left of it; not one that was there before, or was started since."""
    from weir.stack import lifecycle, supervision

    if started.ours and not (started.ended and supervision.Control(settings.home).alive()):
        lifecycle.down(settings, outcome.report)
    elif not started.ended:
        outcome.report("stack", "left running, since the demo found it running: ./weir down ends it")
