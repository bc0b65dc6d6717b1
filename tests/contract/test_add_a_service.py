"""The service that docs/guide/add-a-service.md adds: its blocks, applied to a copy of this code, pass its tests."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

TOP: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (TOP / "docs/guide/add-a-service.md").read_text(encoding="utf-8")
BLOCK: Final = re.compile(
    r"^`(?P<path>[\w/.-]+)`"
    r"(?:|(?P<end>, at the end)|, (?P<where>after|before|instead of) (?P<ticks>`+) ?(?P<line>.+?) ?(?P=ticks))"
    r":\n\n```\w+\n(?P<text>(?s:.*?))^```$",
    re.MULTILINE,
)
"""A new file; or lines of a file: at its end, or after, before or instead of a line that it has once."""
BLOCKS: Final = tuple(BLOCK.finditer(PAGE))
CHANGED: Final = sorted({block["path"] for block in BLOCKS if block["path"].endswith(".py")})
COMMANDS: Final = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
COPIED: Final = ("crds", "docs", "examples", "helm", "operator", "services", "tests", "pyproject.toml", "README.md")
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
    "tests/unit/test_status_components.py",
    "tests/contract/test_components.py",
    "tests/contract/test_crds.py",
    "tests/contract/test_topics.py::test_topics_are_those_the_services_use",
    "tests/contract/test_topics.py::test_topic_has_one_writer_that_gets_the_kafka_address",
    "tests/contract/test_topics.py::test_guide_lists_each_topic_with_writer_and_retention",
)
"""Of what `make test-fast` runs, the tests that know components and start no server."""


def is_new(block: re.Match[str]) -> bool:
    return block["where"] is None and block["end"] is None


def applied(text: str, block: re.Match[str]) -> str:
    """A file after the change that a block of the page describes."""
    lines = text.splitlines(keepends=True)
    if block["where"] is None:
        return "".join([*lines, block["text"]])
    places = [number for number, line in enumerate(lines) if line.strip() == block["line"]]
    assert len(places) == 1, f"{block['path']} has {len(places)} lines {block['line']!r}"
    before, after = lines[: places[0]], lines[places[0] + 1 :]
    line = "" if block["where"] == "instead of" else lines[places[0]]
    return "".join([*before, *((line, block["text"]) if block["where"] == "after" else (block["text"], line)), *after])


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository with the changes of the page."""
    top = tmp_path_factory.mktemp("tree")
    for name in COPIED:
        copy = shutil.copytree if (TOP / name).is_dir() else shutil.copy
        copy(TOP / name, top / name)
    for block in BLOCKS:
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
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": roots, "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-P", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300, env=environ)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_block_is_a_file_a_change_or_a_command() -> None:
    assert len(BLOCKS) + len(COMMANDS) == len(re.findall(r"^```\w+$", PAGE, re.MULTILINE))
    assert COMMANDS == ["make format docs\n", "make test-fast\n"]


def test_linters_accept_the_files_of_the_page(tree: Path) -> None:
    run("-m", "ruff", "check", "--no-cache", *CHANGED, folder=tree)
    run(str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache", folder=tree)


def test_service_of_the_page_passes_the_tests(tree: Path) -> None:
    run("-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *TESTS, folder=tree)
