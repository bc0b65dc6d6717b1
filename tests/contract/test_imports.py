"""Rules about imports that import-linter cannot express."""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aether_services import __main__ as program

if TYPE_CHECKING:
    from collections.abc import Iterator

TOP: Final = Path(__file__).resolve().parents[2]


def imported(folder: Path) -> Iterator[str]:
    """The top-level packages that a package's modules import."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (one.name.partition(".")[0] for one in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: a relative import"
                yield str(node.module).partition(".")[0]


def test_the_shared_package_imports_only_the_standard_library() -> None:
    found = set(imported(TOP / "services/aether_runtime"))
    assert "logging" in found
    assert found - {"aether_runtime"} <= sys.stdlib_module_names


def test_every_module_of_a_service_has_a_layer() -> None:
    """Import-linter's own `exhaustive` does not fit: the wildcard that finds new services also finds kit and domain."""
    contracts = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (inside,) = (one for one in contracts if one.get("containers") == ["aether_services.*"])
    layers = {name.strip(" ()") for layer in inside["layers"] for name in layer.split("|")}
    for service in program.SERVICES:
        folder = TOP / "services/aether_services" / service
        assert {path.stem for path in folder.iterdir() if not path.name.startswith("__")} <= layers, service
