"""Runs one service: python -m aether_services SERVICE."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final

from aether_services.kit import settings

SERVICES: Final = ("exchange_sim", "ingest")


def main(arguments: list[str]) -> int:
    """Run a service until SIGTERM. Exit codes: 64 for a wrong command line, 78 for invalid settings."""
    if len(arguments) != 1 or arguments[0] not in SERVICES:
        print(f"aether_services: name one service of {', '.join(SERVICES)}", file=sys.stderr)  # noqa: T201 - nothing is set up yet
        return os.EX_USAGE
    app = importlib.import_module(f"aether_services.{arguments[0]}.app")
    try:
        app.main(os.environ)
    except settings.InvalidSettings as fault:
        print(f"aether_services: {fault}", file=sys.stderr)  # noqa: T201
        return os.EX_CONFIG
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
