"""PostgreSQL 17 with pg_partman 5, from the next Debian: a tree of its own in the cache, entered by chroot."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from aether_testing import postgres as servers
from aether_testing import timescale

if TYPE_CHECKING:
    from pathlib import Path

MMDEBSTRAP: Final = (
    *("setpriv", "--pdeathsig=KILL", "unshare", "--mount"),  # whatever it mounts is gone with it
    "mmdebstrap",
    "--variant=extract",  # nothing is set up: the programs are all that is wanted
    "--include=base-files,dash,postgresql-17-partman",
    *(f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "man", "info", "locale")),
    "trixie",
)
PATIENCE: Final = 600.0


def postgres() -> servers.Release:
    """Ready to be run, by root."""
    return servers.Release(major=17, partman="5.", root=_tree())


def _tree() -> Path:
    """Its root; makes it once for each way to make it, with the packages of that day."""
    made_from = hashlib.sha256(" ".join(MMDEBSTRAP).encode()).hexdigest()[:16]
    folder = timescale.cache() / "debian" / made_from
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # of two test runs, one makes it
        if not folder.exists():
            print(f"unpacking PostgreSQL 17 for tests into {folder}", file=sys.stderr)
            making = folder.with_suffix(".new")
            shutil.rmtree(making, ignore_errors=True)
            done = subprocess.run([*MMDEBSTRAP, making], capture_output=True, text=True, timeout=PATIENCE, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            making.joinpath("etc/passwd").touch()  # the machine's is put over it
            making.rename(folder)
    return folder
