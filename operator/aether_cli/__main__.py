"""`aether`, `kubectl aether` and `python -m aether_cli`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """`aether`: run the command line of this process."""
    _run("app")


def main_of_plugin() -> None:
    """`kubectl aether`: the same for kubectl, which runs `kubectl-aether`."""
    _run("plugin")


def _run(program: str) -> None:
    try:
        from aether_cli import app  # noqa: PLC0415 - reading it takes long enough for somebody to press Ctrl-C

        sys.exit(app.run(sys.argv[1:], program=getattr(app, program)))
    except KeyboardInterrupt:
        sys.exit(130)


def complete_for_kubectl() -> None:
    """What kubectl asks of a plugin (`kubectl_complete-aether WORDS…`): candidates, a line each, then a directive."""
    import typer.main  # noqa: PLC0415 - as above

    from aether_cli import app  # noqa: PLC0415

    words = sys.argv[1:]
    os.environ["_AETHER_COMPLETE"] = "complete_fish"
    os.environ["_TYPER_COMPLETE_ARGS"] = " ".join(["aether", *words])
    os.environ["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    typer.main.get_command(app.app)  # has Typer know the shells; the plugin itself installs no completion
    try:
        app.plugin(prog_name="aether")
    finally:
        sys.stdout.write(":4\n")  # cobra's "no file names"


if __name__ == "__main__":
    main()
