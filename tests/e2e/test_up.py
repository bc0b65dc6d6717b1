"""`aether up` as a person types it: from nothing to a platform that is Ready; down; and up again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from aether_cli import asking, installing, problems, telling
from aether_cli.local import manifests, starting
from aether_testing import clusters, machines

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from aether_cli.local import places

    Aether = Callable[..., subprocess.CompletedProcess[str]]

SYSTEM, DESK = manifests.NAMESPACES
DEADLINE = 900


@pytest.fixture
def at(tmp_path: Path) -> Iterator[places.Places]:
    one = clusters.some_places(tmp_path)
    yield one
    starting.down(one, telling.ToNobody(), purge=True)


@pytest.fixture
def aether(at: places.Places, tmp_path: Path) -> Aether:
    """The command, with its own folders."""
    home = {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_DATA_HOME": str(tmp_path / "data")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "aether_cli", words[0], "--name", at.name, *words[1:]],
            capture_output=True, text=True, check=False, timeout=DEADLINE, env={**os.environ, **home},
        )  # fmt: skip

    return run


def asked(aether: Aether, *words: str) -> dict[str, Any]:
    done = aether("kubectl", *words, "-o", "json")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def secrets_of(aether: Aether) -> dict[str, Any]:
    """The logins that the operator made."""
    mine = "--selector=app.kubernetes.io/managed-by=aether-operator"
    items = asked(aether, "get", "secrets", f"--namespace={DESK}", mine)["items"]
    return {one["metadata"]["name"]: one["data"] for one in items}


def test_up_ends_with_a_platform_that_is_ready_and_a_second_life_finds_it_again(
    at: places.Places, aether: Aether
) -> None:
    before = machines.look(at.name)
    first = aether("up", "--port", "0", "--json")
    assert first.returncode == 0, first.stderr
    told = json.loads(first.stdout)
    assert told["chart"].startswith("aether-operator-")
    (platform,) = told["platforms"]
    assert (platform["namespace"], platform["ready"]) == (DESK, "True")
    live = asked(aether, "get", installing.PLATFORMS, platform["name"], f"--namespace={DESK}")
    assert asking.condition(live, "Ready") == "True"
    logins = secrets_of(aether)
    assert {name for name in logins if name.startswith(platform["name"])} >= {
        f"{platform['name']}-{server}" for server in installing.SERVERS
    }
    assert aether("status").returncode == 0

    # Again on what runs: it mends, and nothing is started anew.
    assert aether("kubectl", "delete", "deployment", installing.RELEASE, f"--namespace={SYSTEM}").returncode == 0
    again = aether("up", "--port", "0", "--json")
    assert again.returncode == 0, again.stderr
    assert not json.loads(again.stdout)["started"]

    assert aether("down").returncode == 0
    assert machines.look(at.name).beyond(before) == {}
    second = aether("up", "--port", "0", "--json")
    assert second.returncode == 0, second.stderr
    (platform,) = json.loads(second.stdout)["platforms"]
    assert platform["ready"] == "True"
    assert secrets_of(aether) == logins


def test_up_without_an_example_installs_the_operator_and_nothing_else(
    aether: Aether,
) -> None:
    done = aether("up", "--port", "0", "--no-example", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["platforms"] == []
    deployment = asked(aether, "get", "deployment", installing.RELEASE, f"--namespace={SYSTEM}")
    assert deployment["status"]["availableReplicas"] == deployment["spec"]["replicas"] == 2
    assert asked(aether, "get", installing.PLATFORMS, "--all-namespaces")["items"] == []


def test_values_that_the_chart_does_not_know_end_up_with_their_name(aether: Aether, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("replikas: 3\n")
    done = aether("up", "--port", "0", "--no-example", "--values", str(values))
    assert done.returncode == problems.ProgramFailed.exit_code
    assert "'replikas' not allowed" in done.stderr
