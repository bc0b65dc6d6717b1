"""`--context`: the commands on a cluster that the person has."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from aether_testing import namespaces, operators

if TYPE_CHECKING:
    from pathlib import Path

    from aether_cli.local.starting import Cluster


def aether(cluster: Cluster, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, as somebody whose kubeconfig has this cluster, and who has no local one."""
    env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig), "XDG_STATE_HOME": str(home)}
    command = [sys.executable, "-m", "aether_cli", *words, "--context", f"aether-{cluster.name}"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env)


def test_status_shows_its_nodes_and_pods(control_plane: Cluster, tmp_path: Path) -> None:
    operators.install_kinds(control_plane)
    control_plane.kubectl.until(
        lambda seen: not seen,
        "tradingplatforms",
        "--all-namespaces",
        deadline=namespaces.DEADLINE,
        wish="the platforms of other tests are gone with their namespaces",
    )
    done = aether(control_plane, tmp_path, "status")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"Context aether-{control_plane.name}" in done.stdout
    assert "node kwok: Ready" in done.stdout


def test_a_context_that_is_not_there_is_named(control_plane: Cluster, tmp_path: Path) -> None:
    nowhere = replace(control_plane, name="nowhere")
    done = aether(nowhere, tmp_path, "status")
    assert (done.returncode, done.stdout) == (1, "")
    assert "context was not found for specified context: aether-nowhere" in done.stderr
