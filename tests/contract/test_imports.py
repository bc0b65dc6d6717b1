"""Rules about imports that import-linter cannot express."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

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
