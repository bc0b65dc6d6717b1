"""The deliberate way out: in a network of the test's own, where somebody listens who is not the cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# 198.51.100.0/24 is documentation's own: here it is a bridge in a network namespace that this test made.
WORLD = """\
link set lo up
link add world type bridge
addr add 198.51.100.1/24 dev world
link set world up
route add default via 198.51.100.1 dev world
"""
INSIDE = Path(__file__).parent / "inside_a_world.py"


@pytest.mark.parametrize("egress", [False, True], ids=["closed", "open"])
def test_pods_reach_the_internet_only_through_the_configured_egress(egress: bool, tmp_path: Path) -> None:  # noqa: FBT001
    command = ["unshare", "--net", sys.executable, str(INSIDE), str(tmp_path), json.dumps(egress), WORLD]
    path = ":".join(entry for entry in sys.path if entry)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["world"] == ("hello from the world" if egress else "unreachable")
    assert told["machine"] == "unreachable"
