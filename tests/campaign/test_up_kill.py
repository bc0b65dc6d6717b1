"""`up` is killed at random moments; the next `up` always succeeds, and `down` leaves nothing."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from aether_cli import progress
from aether_cli.local import startup
from aether_cli.local.settings import Settings
from aether_testing.cluster import clusters
from aether_testing.values import builders

if TYPE_CHECKING:
    from pathlib import Path

    from aether_testing.cluster import machines

LONGEST = 12.0
"""Seconds: about the duration of a warm `up` of a node, so that a kill falls anywhere in it, or just after."""


@pytest.mark.campaign(full=20)
def test_next_up_repairs_an_up_killed_at_any_moment(rounds: int, machine: machines.Machine, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    chance = random.Random(seed)
    at = clusters.unique_paths(tmp_path)
    home = {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_DATA_HOME": str(tmp_path / "data")}
    before = machine.snapshot(at.name)
    command = [sys.executable, "-m", "aether_cli", "up", "--name", at.name, "--port", "0"]
    expected = list[str]()  # what was created since the last purge exists after every kill
    for nth in range(rounds):
        moment = chance.uniform(0, LONGEST)
        with subprocess.Popen(
            command, env={**os.environ, **home}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as victim:
            let_run(victim, moment)
            victim.send_signal(signal.SIGKILL)
        where = f"seed {seed}, round {nth}, killed after {moment:.3f} s"
        repaired = startup.up(at, Settings(port=0), progress.SilentReporter())
        kept = repaired.kubectl.text("get", "configmaps", "--namespace=aether", "-o", "name").split()
        assert set(expected) <= set(kept), where
        name = f"round-{nth}"
        thing = builders.a_config_map(name)
        repaired.kubectl.apply({**thing, "metadata": {"name": name, "namespace": "aether"}})
        expected.append(f"configmap/{name}")
        if purge := chance.random() < 0.3:
            expected.clear()
        startup.down(at, progress.SilentReporter(), purge=purge)
        assert machine.snapshot(at.name).changes_since(before) == {}, where
        print(f"{where}: repaired", flush=True)
    startup.down(at, progress.SilentReporter(), purge=True)


def let_run(victim: subprocess.Popen[bytes], moment: float) -> None:
    """Let it run until the moment, or until it ends."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        victim.wait(timeout=moment)
