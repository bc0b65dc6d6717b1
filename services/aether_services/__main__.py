"""Runs one service: python -m aether_services SERVICE."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import sys
from pathlib import Path
from typing import Final

from aether_services.kit import process, settings


def _found() -> tuple[str, ...]:
    packages = (one.name for one in pkgutil.iter_modules([str(Path(__file__).parent)]) if one.ispkg)
    return tuple(sorted(name for name in packages if importlib.util.find_spec(f"aether_services.{name}.app")))


SERVICES: Final = _found()
"""The services: the packages with a module `app`, which declares SERVICE."""


def main(arguments: list[str]) -> int:
    """Run a service until SIGTERM. Exit codes: 64 for a wrong command line, 78 for invalid settings."""
    if len(arguments) != 1 or arguments[0] not in SERVICES:
        print(f"aether_services: name one service of {', '.join(SERVICES)}", file=sys.stderr)  # noqa: T201 - nothing is set up yet
        return os.EX_USAGE
    app = importlib.import_module(f"aether_services.{arguments[0]}.app")
    try:
        process.run(arguments[0], app.SERVICE, os.environ)
    except settings.InvalidSettings as fault:
        print(f"aether_services: {fault}", file=sys.stderr)  # noqa: T201
        return os.EX_CONFIG
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
