"""PostgreSQL 17 with pg_partman 5 from the next Debian release: a root file system in the cache, used with chroot."""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from aether_testing.servers import postgres as servers
from aether_testing.servers import timescale

if TYPE_CHECKING:
    from pathlib import Path

MMDEBSTRAP: Final = (
    *("setpriv", "--pdeathsig=KILL", "unshare", "--mount"),  # its mounts end with it
    "mmdebstrap",
    "--variant=extract",  # packages are unpacked and not configured: only the programs are needed
    "--include=base-files,dash,postgresql-17-partman",
    *(f"--dpkgopt=path-exclude=/usr/share/{what}/*" for what in ("doc", "man", "info", "locale")),
    "trixie",
)
TIMEOUT: Final = 600.0


def postgres() -> servers.Release:
    """The release, ready to be run by root."""
    return servers.Release(major=17, partman="5.", root=_tree())


def _tree() -> Path:
    """The root folder; built once for each version of the command above, with the packages of that day."""
    key = hashlib.sha256(" ".join(MMDEBSTRAP).encode()).hexdigest()[:16]
    folder = timescale.cache() / "debian" / key
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two test runs, one builds it
        if not folder.exists():
            print(f"unpacking PostgreSQL 17 for tests into {folder}", file=sys.stderr)
            building = folder.with_suffix(".new")
            shutil.rmtree(building, ignore_errors=True)
            done = subprocess.run([*MMDEBSTRAP, building], capture_output=True, text=True, timeout=TIMEOUT, check=False)
            assert done.returncode == 0, done.stdout + done.stderr
            building.joinpath("etc/passwd").touch()  # the mount point of the machine's file
            building.rename(folder)
    return folder
