"""The service that docs/guide/add-a-service.md adds: its blocks, applied to a copy of this code, pass its tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Sequence

TOP: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (TOP / "docs/guide/add-a-service.md").read_text(encoding="utf-8")
BLOCK: Final = re.compile(
    r"^`(?P<path>[\w/.-]+)`"
    r"(?:|, (?P<where>after|before|at the end of) (?P<ticks>`+) ?(?P<line>.+?) ?(?P=ticks))"
    r":\n\n```\w+\n(?P<text>(?s:.*?))^```$",
    re.MULTILINE,
)
"""A new file; or lines of a file: after or before a line that it has once, or at the end of what that line begins."""
BLOCKS: Final = tuple(BLOCK.finditer(PAGE))
SECOND: Final = PAGE.replace("turnover", "copied").replace("Turnover", "Copied").replace("TURNOVER", "COPIED")
"""The page for a service with another name."""
CHANGED: Final = sorted({block["path"] for block in BLOCKS if block["path"].endswith(".py")})
COMMANDS: Final = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COPIED: Final = (
    "crds",
    "docs",
    "examples",
    "helm",
    "images",
    "operator",
    "services",
    "tests",
    "pyproject.toml",
    "requirements.lock",
    "README.md",
)
TESTS: Final = (
    "tests/unit/test_turnover.py",
    "tests/unit/test_api_definitions.py",
    "tests/unit/test_catalog_servers.py",
    "tests/unit/test_component_modules.py",
    "tests/unit/test_desired_children.py",
    "tests/unit/test_desired_components.py",
    "tests/unit/test_examples.py",
    "tests/unit/test_explanation.py",
    "tests/unit/test_secrecy.py",
    "tests/unit/test_ingest_core.py",
    "tests/unit/test_status_components.py",
    "tests/contract/test_architecture.py",
    "tests/contract/test_components.py",
    "tests/contract/test_crds.py",
    "tests/contract/test_docs.py::test_schema_page_lists_each_login_with_what_it_writes",
    "tests/contract/test_imports.py",
    "tests/contract/test_topics.py",
)
"""Of what `make test-fast` runs, the tests that know components, logins or topics."""


def is_new(block: re.Match[str]) -> bool:
    return block["where"] is None


def applied(text: str, block: re.Match[str]) -> str:
    """A file after the change that a block of the page describes."""
    lines = text.splitlines(keepends=True)
    if is_new(block):
        return str(block["text"])
    places = [number for number, line in enumerate(lines) if line.strip() == block["line"]]
    assert len(places) == 1, f"{block['path']} has {len(places)} lines {block['line']!r}"
    (place,) = places
    if block["where"] != "before":
        place += 1
    if block["where"] == "at the end of":
        place = end_of_block(lines, place)
    return "".join([*lines[:place], block["text"], *lines[place:]])


def end_of_block(lines: Sequence[str], place: int) -> int:
    """Where what begins above this place ends: lines with more indentation, items of a list, rows of a table."""
    head = lines[place - 1]
    indent = len(head) - len(head.lstrip())
    end = place
    for number, line in enumerate(lines[place:], start=place + 1):
        if line.strip() and len(line) - len(line.lstrip()) <= indent and not line.startswith(("- ", "|")):
            break
        if head.startswith("|") and not line.strip():
            break
        if line.strip():
            end = number
    return end


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the changes of the page, after those of a second service by the same steps."""
    top = tmp_path_factory.mktemp("tree")
    for name in COPIED:
        copy = shutil.copytree if (TOP / name).is_dir() else shutil.copy
        copy(TOP / name, top / name)
    for block in (*BLOCK.finditer(SECOND), *BLOCKS):
        path = top / block["path"]
        assert path.exists() is not is_new(block), f"{block['path']} is new exactly if the page gives all of it"
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(applied(before, block), encoding="utf-8")
    run("-m", "ruff", "format", "--no-cache", "-q", *CHANGED, folder=top)
    run("-m", "aether_testing.generator", folder=top)
    return top


def run(*words: str, folder: Path) -> None:
    roots = os.pathsep.join(str(folder / name) for name in ("operator", "services", "tests"))
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}  # the cache has the brokers
    environ = {**kept, "PYTHONPATH": roots, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_block_is_a_file_a_change_or_a_command() -> None:
    assert len(BLOCKS) + len(COMMANDS) == len(re.findall(r"^```\w+$", PAGE, re.MULTILINE))
    assert COMMANDS == ["make format docs\n", "make test-fast\n"]


def test_page_counts_its_files_and_places() -> None:
    new = [block["path"] for block in BLOCKS if is_new(block)]
    changed = [block["path"] for block in BLOCKS if not is_new(block)]
    assert f"{len(new)} new files, and lines in {len(changed)} places of {len(set(changed))} files" in PAGE


def test_linters_accept_the_files_of_the_page(tree: Path) -> None:
    run("-m", "ruff", "check", "--no-cache", *CHANGED, folder=tree)
    run(str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache", folder=tree)


def test_service_of_the_page_passes_the_tests(tree: Path) -> None:
    run("-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *TESTS, folder=tree)
