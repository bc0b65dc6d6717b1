"""The kind that docs/guide/add-a-kind.md adds: its files, pasted as they are, belong to this code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

TOP: Final = Path(__file__).resolve().parents[2]
FILE: Final = re.compile(r"^`([\w/]+\.py)`:\n\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CONFTEST: Final = """
import importlib
from pathlib import Path

for package in ("api", "controllers", "desired"):
    there = Path(__file__).parent / "operator/aether_operator" / package
    importlib.import_module(f"aether_operator.{package}").__path__.append(str(there))
"""
"""The packages of the operator, with the modules of the page."""
GENERATED: Final = """
from aether_operator.api.definitions import DEFINITIONS
from aether_operator.api.watchlists import DEFINITION
from aether_testing import generator


def test_generator_writes_the_kind() -> None:
    files = generator.files({**DEFINITIONS, DEFINITION.kind: DEFINITION})
    assert "  plural: watchlists\\n" in files["helm/aether-operator/files/kinds.yaml"].replace("- ", "  ")
    assert "| `spec.pairs` |" in files["docs/reference/watchlist.md"]
"""


FILES: Final = dict(FILE.findall((TOP / "docs/guide/add-a-kind.md").read_text(encoding="utf-8")))
"""Path → text."""


def run(*words: str, folder: Path, stdin: str = "") -> None:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(TOP / "tests")}
    command = [sys.executable, "-m", *words]
    done = subprocess.run(
        command, cwd=folder, input=stdin, capture_output=True, text=True, check=False, timeout=120, env=environ
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_page_has_the_files_of_a_kind_and_its_tests() -> None:
    assert [path.split("/")[-2] for path in FILES] == ["api", "desired", "controllers", "unit"]


@pytest.mark.parametrize("path", FILES)
def test_linter_accepts_the_files_of_the_page(path: str) -> None:
    as_pasted = ("--no-cache", "--stdin-filename", path, "-")
    # The order of imports: a module of ours that does not exist counts as somebody else's.
    run("ruff", "check", "--ignore", "I001", *as_pasted, folder=TOP, stdin=FILES[path])
    run("ruff", "format", "--check", *as_pasted, folder=TOP, stdin=FILES[path])


def test_kind_of_the_page_passes_the_tests_of_the_page(tmp_path: Path) -> None:
    for path, text in {**FILES, "conftest.py": CONFTEST, "tests/unit/test_generated.py": GENERATED}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text, encoding="utf-8")
    run("pytest", "-q", "-p", "no:cacheprovider", "tests/unit", folder=tmp_path)
