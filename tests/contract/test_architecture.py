"""The page on the architecture: every file that it names exists, and every package is on it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest

TOP: Final = Path(__file__).resolve().parents[2]
PAGE: Final = (TOP / "docs/guide/architecture.md").read_text(encoding="utf-8")
FOLDERS: Final = (TOP, TOP / "operator/aether_operator", TOP / "services/aether_services")
"""What the paths on the page are relative to."""
SPAN: Final = re.compile(r"`([^`\n]+)`")
PATH: Final = re.compile(r"[\w.-]+(/[\w.-]+)*(/|\.(py|md|toml|yaml))")
PACKAGES: Final = sorted(
    init.parent.relative_to(TOP)
    for root in ("operator/aether_operator", "services/aether_services")
    for init in (TOP / root).glob("*/__init__.py")
)
MODULES: Final = sorted(
    path.stem for path in (TOP / "operator/aether_cli").iterdir() if path.suffix == ".py" and path.stem != "__init__"
)


def section(title: str) -> str:
    """The text below a heading, up to the next heading of any level."""
    (found,) = re.findall(rf"^#+ {title}\n(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def named(text: str) -> list[str]:
    """The files and folders that a text names: whole words in backticks with a slash at the end or an extension."""
    return [span for span in SPAN.findall(text) if PATH.fullmatch(span)]


def missing(paths: list[str]) -> list[str]:
    """Those that exist below none of the folders."""
    return [path for path in paths if not any((folder / path).exists() for folder in FOLDERS)]


def test_every_file_on_the_page_exists() -> None:
    assert len(named(PAGE)) > 50
    assert missing(named(PAGE)) == []


def test_every_folder_of_the_layout_exists() -> None:
    (layout,) = re.findall(r"```\n(.*?)```", section("Layout"), re.DOTALL)
    paths = [word for line in layout.splitlines() for word in re.split(r" {3,}", line)[0].split()]
    folders = {folder.name for folder in TOP.glob("[!.]*") if (folder / "README.md").is_file()}
    assert {path.split("/")[0] for path in paths} - {"pyproject.toml"} == folders
    assert [path for path in paths if not (TOP / path).exists()] == []


@pytest.mark.parametrize("package", PACKAGES, ids=str)
def test_every_package_has_a_row(package: Path) -> None:
    title = "The operator" if package.parent.name == "aether_operator" else "The services"
    assert f"\n| `{package.name}` |" in section(title)


def test_every_module_of_the_command_is_listed() -> None:
    rows = "".join(line.split("|")[1] for line in section("The command").splitlines() if line.startswith("| `"))
    assert sorted(SPAN.findall(rows)) == sorted([*MODULES, "local"])


def test_file_that_does_not_exist_is_detected() -> None:
    text = "`controllers/engine.py`, `controllers/motor.py`, `crds/`, `gone/`, `spec.pairs`, `make up`, `/status`"
    assert missing(named(text)) == ["controllers/motor.py", "gone/"]
