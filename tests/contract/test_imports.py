"""Rules about imports that import-linter cannot express."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

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


READS: Final = {"after", "contradicts", "count_after", "oldest_after", "levels"}
"""Methods of a market's parts that change nothing."""
SETS: Final = {"add", "clear", "discard", "pop", "remove", "update"}


def changes(tree: ast.Module) -> Iterator[str]:
    """Assignments to attributes of `market` or `markets`, and calls that may change one of their parts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            if re.search(r"\bmarkets?\.", ast.unparse(node).replace("_markets", "markets")):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func).replace("_markets", "markets")
            of_a_part = re.search(r"\bmarket\.\w+\.(\w+)$", called)
            of_a_set = re.search(r"\bmarkets\.\w+\.(\w+)$", called)
            if (of_a_part and of_a_part[1] not in READS) or (of_a_set and of_a_set[1] in SETS):
                yield called


@pytest.mark.parametrize(
    "line",
    ["market.gaps += 1", "self._markets.latest = 0", "market.book.invalidate(why)", "self.markets.backfill.add(one)"],
)
def test_a_change_of_a_market_is_recognized(line: str) -> None:
    assert list(changes(ast.parse(line)))


def test_only_the_core_of_ingest_changes_a_market() -> None:
    folder = TOP / "services/aether_services/ingest"
    outside = [path for path in folder.rglob("*.py") if "core" not in path.relative_to(folder).parts]
    assert len(outside) > 10
    found = {path.name: list(changes(ast.parse(path.read_text()))) for path in outside}
    assert {name: lines for name, lines in found.items() if lines} == {}
