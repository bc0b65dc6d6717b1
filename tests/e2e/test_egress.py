"""Egress: in a network of the test's own, with a server that is outside of the cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# 198.51.100.0/24 is reserved for documentation; here it is a bridge in a network namespace of this test.
NETWORK = """\
link set lo up
link add outside type bridge
addr add 198.51.100.1/24 dev outside
link set outside up
route add default via 198.51.100.1 dev outside
"""
INSIDE = Path(__file__).parent / "inside_a_network.py"


@pytest.mark.parametrize("egress", [False, True], ids=["closed", "open"])
def test_pods_reach_the_internet_only_through_the_configured_egress(egress: bool, tmp_path: Path) -> None:  # noqa: FBT001
    command = ["unshare", "--net", sys.executable, str(INSIDE), str(tmp_path), json.dumps(egress), NETWORK]
    path = ":".join(entry for entry in sys.path if entry)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    response = json.loads(done.stdout.splitlines()[-1])
    assert response["internet"] == ("hello" if egress else "unreachable")
    assert response["machine"] == "unreachable"
