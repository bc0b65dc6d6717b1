"""`aether`, `kubectl aether` and `python -m aether_cli`."""

from __future__ import annotations

import os
import sys

from aether_cli import app


def main() -> None:
    """Run the command line of this process."""
    try:
        sys.exit(app.run(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)


def complete_for_kubectl() -> None:
    """What kubectl asks of a plugin (`kubectl_complete-aether WORDS…`): candidates, a line each, then a directive."""
    words = sys.argv[1:]
    os.environ["_AETHER_COMPLETE"] = "complete_fish"
    os.environ["_TYPER_COMPLETE_ARGS"] = " ".join(["aether", *words])
    os.environ["_TYPER_COMPLETE_FISH_ACTION"] = "get-args"
    try:
        app.app(prog_name="aether")
    finally:
        sys.stdout.write(":4\n")  # cobra's "no file names"


if __name__ == "__main__":
    main()
