"""The paths of a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from aether_cli import problems
from aether_cli.local import paths


def test_folders_follow_the_xdg_variables() -> None:
    at = paths.for_cluster(
        "first", {"HOME": "/home/q", "XDG_STATE_HOME": "/s", "XDG_DATA_HOME": "/d", "XDG_CACHE_HOME": "/c"}
    )
    assert at.state == Path("/s/aether/clusters/first")
    assert at.volumes == Path("/d/aether/volumes/first")
    assert at.cache == Path("/c/aether")


def test_unset_or_relative_paths_default_below_the_home_folder() -> None:
    at = paths.for_cluster("first", {"HOME": "/home/q", "XDG_STATE_HOME": "relative"})
    assert at.state == Path("/home/q/.local/state/aether/clusters/first")
    assert at.cache == Path("/home/q/.cache/aether")


@pytest.mark.parametrize("name", ["", "First", "a/b", "..", "-x", "x-", "a" * 21, "x y", "first\n"])
def test_name_invalid_for_folders_or_control_groups_is_rejected(name: str) -> None:
    with pytest.raises(problems.BadInput, match="name: "):
        paths.for_cluster(name, {"HOME": "/home/q"})
