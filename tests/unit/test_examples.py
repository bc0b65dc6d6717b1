"""The examples: each produces the children that are listed for it in `expected_children`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from aether_cli import installer
from aether_operator import desired
from aether_operator.api import parsing, platforms
from aether_operator.api.platform_definition import DEFINITION
from aether_operator.api.resources import Resource
from aether_testing.values import observations

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"
EXPECTED: Final = Path(__file__).parent / "expected_children"
FOLDERS: Final = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())


def the_platform(folder: str) -> platforms.Platform:
    """The one platform of an example, as the API server would have it."""
    things: list[dict[str, Any]] = [
        thing for path in sorted((EXAMPLES / folder).glob("*.yaml")) for thing in yaml.safe_load_all(path.read_text())
    ]
    (raw,) = [thing for thing in things if thing["kind"] == platforms.KIND]
    raw["metadata"] |= {"uid": "u-1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"}
    read = parsing.parse(DEFINITION, raw)
    assert isinstance(read, Resource)
    return read


def files_below(folder: Path) -> set[str]:
    """The paths of all files of a folder, relative to it."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_example_of_up_exists() -> None:
    assert installer.EXAMPLE in FOLDERS


@pytest.mark.parametrize("folder", FOLDERS)
def test_example_produces_the_children_it_lists(folder: str) -> None:
    platform = the_platform(folder)
    children = desired.children(platform, observations.empty(), observations.a_release(), observations.tokens())
    made: dict[str, list[str]] = {}
    for child in children:
        made.setdefault(child["kind"], []).append(child["metadata"]["name"])
    expected = yaml.safe_load((EXPECTED / f"{folder}.yaml").read_text())
    assert {kind: sorted(names) for kind, names in made.items()} == {
        kind: sorted(names) for kind, names in expected.items()
    }


@pytest.mark.parametrize("folder", FOLDERS)
def test_example_uses_the_namespace_of_up_and_one_flat_folder(folder: str) -> None:
    assert the_platform(folder).namespace == installer.PLATFORM_NAMESPACE
    assert files_below(EXAMPLES / folder) == {"Kustomization", "README.md", "platform.yaml"}
