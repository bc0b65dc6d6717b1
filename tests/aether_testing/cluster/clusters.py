"""Local clusters for tests: each with a unique name and temporary folders; they end with the test process."""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import replace
from typing import TYPE_CHECKING

from aether_cli import progress
from aether_cli.local import paths, startup
from aether_cli.local.settings import Profile, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONTROL_PLANE = Settings(profile=Profile.CONTROL_PLANE, port=0, durable=False, owned=True)
WITH_KWOK = replace(CONTROL_PLANE, kwok=True)
NODE = Settings(profile=Profile.NODE, port=0, durable=False, owned=True)
BARE_NODE = replace(NODE, platforms=False)
"""A node with the base image only, which starts in half the time."""


def unique_paths(folder: Path) -> paths.Paths:
    """Paths below a test's folder, with a unique cluster name; the cache is shared."""
    home = dict(os.environ) | {"XDG_STATE_HOME": str(folder / "state"), "XDG_DATA_HOME": str(folder / "data")}
    return paths.for_cluster(f"t-{secrets.token_hex(4)}", home)


@contextlib.contextmanager
def running(chosen: Settings, at: paths.Paths, reporter: progress.Reporter | None = None) -> Iterator[startup.Cluster]:
    """Run a cluster for the length of a block, and purge it afterwards."""
    try:
        yield startup.up(at, chosen, reporter or progress.TerminalReporter())
    finally:
        startup.down(at, progress.SilentReporter(), purge=True)
