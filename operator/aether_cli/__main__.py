"""The entry points: `aether`, `kubectl aether` and `python -m aether_cli`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Run `aether` with this process's arguments."""
    _run("app")


def main_of_plugin() -> None:
    """Run `kubectl aether`; kubectl starts it as `kubectl-aether`."""
    _run("plugin")


def _run(program: str) -> None:
    try:
        from aether_cli import app  # noqa: PLC0415 - the import is slow: Ctrl-C during it must end quietly, too

        sys.exit(app.run(sys.argv[1:], program=getattr(app, program)))
    except KeyboardInterrupt:
        sys.exit(130)


def complete_for_kubectl() -> None:
    """Print completions for kubectl (`kubectl_complete-aether WORDS…`): one candidate a line, then a directive."""
    import typer.main  # noqa: PLC0415 - as above

    from aether_cli import app  # noqa: PLC0415

    words = sys.argv[1:]
    os.environ["_AETHER_COMPLETE"] = "complete_fish"
    os.environ["_TYPER_COMPLETE_ARGS"] = " ".join(["aether", *words])
    os.environ["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    typer.main.get_command(app.app)  # registers Typer's shells, which the plugin's app (add_completion=False) does not
    try:
        app.plugin(prog_name="aether")
    finally:
        sys.stdout.write(":4\n")  # cobra's ShellCompDirectiveNoFileComp


if __name__ == "__main__":
    main()
