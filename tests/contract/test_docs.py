"""What must agree: pages and code, links and files, packages and programs; and no module named `operator`."""

from __future__ import annotations

import functools
import html
import operator
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

from aether_cli import problems
from aether_cli.local import requirements
from aether_operator.api.definitions import DEFINITIONS
from aether_operator.catalog.logins import PRIVILEGES
from aether_operator.catalog.platform_schema import PLATFORM_SCHEMA
from aether_operator.database import revisions
from aether_operator.planning import child_kinds
from aether_testing.values import status_picture

TOP: Final = Path(__file__).resolve().parents[2]
LONGEST_README: Final = 15
PICTURE: Final = TOP / "docs/images/status.svg"
SCHEMA_PAGE: Final = TOP / "docs/guide/schema.md"

CODE: Final = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\[[^\]]*\]\(<?([^)\s>]+)|^\[[^\]]+\]: *(\S+)", re.MULTILINE)
ELSEWHERE: Final = re.compile(r"[a-z][a-z0-9+.-]*:")

# A home folder, or the folder of a clone.
OF_A_MACHINE: Final = re.compile(r"(?<![\w.~$}-])/(?:(?:root|work)/|home/[a-z][\w.-]*)")
PEOPLE_OF_TESTS: Final = ("/home/q", "/home/quant")
# In parts, so that this file does not contain what it forbids.
HOSTS: Final = (
    ("pypi", "org"),
    ("pythonhosted", "org"),
    ("proxy", "golang", "org"),
    ("sum", "golang", "org"),
    ("npmjs", "org"),
    ("crates", "io"),
    ("maven", "org"),
    ("repo", "maven", "apache", "org"),
    ("deb", "debian", "org"),
    ("docker", "io"),
    ("gcr", "io"),
    ("ghcr", "io"),
    ("quay", "io"),
    ("registry", "k8s", "io"),
)
CHOICES: Final = (("--index", "url "), ("--index", "url="), ("--extra-index", "url"))
OF_A_REGISTRY: Final = re.compile(
    "|".join(
        [
            *(r"(?<![\w-])" + re.escape(".".join(parts)) + r"\b" for parts in HOSTS),
            *(re.escape("-".join(parts)) for parts in CHOICES),
        ]
    )
)


@functools.cache
def committed() -> tuple[Path, ...]:
    """Every file that is in Git, or would be after the next `git add`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    return tuple(sorted({path for name in listed.split("\0") if name and (path := TOP / name).is_file()}))


def text_of(path: Path) -> str:
    """A file as text; empty for a binary file."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def found(pattern: re.Pattern[str], path: Path, *, allowed: tuple[str, ...] = ()) -> list[str]:
    """The lines of a file that match, as `path:line: text`."""
    return [
        f"{path.relative_to(TOP)}:{number}: {match[0]}"
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        for match in pattern.finditer(line)
        if match[0] not in allowed
    ]


def links(page: Path) -> list[str]:
    """The targets in this repository that a page links to."""
    targets = [one or other for one, other in LINK.findall(CODE.sub("", text_of(page)))]
    return [target for target in targets if not ELSEWHERE.match(target) and not target.startswith("#")]


def top_level_folders() -> dict[str, list[Path]]:
    """The top-level folders, and the files in each."""
    folders: dict[str, list[Path]] = {}
    for path in committed():
        first, *rest = path.relative_to(TOP).parts
        if rest and not first.startswith("."):
            folders.setdefault(first, []).append(path)
    return folders


def test_exit_code_page_lists_exactly_the_codes_of_the_program() -> None:
    page = text_of(TOP / "docs/reference/exit-codes.md")
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE)
    assert {int(code): meaning for code, meaning in rows} == problems.EXIT_CODES
    assert len(rows) == len(problems.EXIT_CODES)


def test_every_error_has_a_documented_exit_code() -> None:
    def below(kind: type[problems.AetherError]) -> list[type[problems.AetherError]]:
        return [kind, *(one for child in kind.__subclasses__() for one in below(child))]

    assert {kind.exit_code for kind in below(problems.AetherError)} <= set(problems.EXIT_CODES)


def test_command_page_is_what_make_docs_would_write(tmp_path: Path) -> None:
    (recipe,) = [line for line in text_of(TOP / "Makefile").splitlines() if " -m typer " in line]
    _, *words, page = shlex.split(recipe)
    generated = tmp_path / "cli.md"
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("AETHER_", "FORCE_", "TYPER_"))}
    subprocess.run(
        [sys.executable, *words, str(generated)],
        cwd=TOP,
        capture_output=True,
        check=True,
        timeout=60,
        env={**plain, "COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"},
    )
    assert text_of(TOP / page) == text_of(generated), "the command has changed: make docs"


def test_pages_show_the_newest_revision_of_the_schema() -> None:
    pages = [PICTURE, TOP / "README.md", *(TOP / "examples").rglob("*.md")]
    texts = [html.unescape(text_of(page)).replace("\u00a0", " ") for page in pages]
    shown = {one for text in texts for one in re.findall(r"(?:revision|pg_partman) +(\d{4})\b", text)}
    assert shown == {revisions.Revisions(PLATFORM_SCHEMA).head}


def test_page_on_installing_lists_the_rights_of_every_kind() -> None:
    page = text_of(TOP / "docs/guide/installing.md")
    rights = page.partition("## Rights")[2].partition("\n## ")[0]
    rows = {
        (name, verbs)
        for names, verbs in re.findall(r"^\| (`[^|]*`) \| ([^|]*) \|", rights, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", names)
    }
    ours = {
        row
        for one in DEFINITIONS.values()
        for row in ((one.plural, "get, list, watch"), (f"{one.plural}/status", "patch"))
    }
    assert rows >= ours | {(kind.plural, ", ".join(kind.verbs)) for kind in child_kinds.KINDS}
    assert ("none has" in rights) is not any(one.finalizer for one in DEFINITIONS.values())


def test_schema_page_lists_each_login_with_what_it_writes() -> None:
    rows = re.findall(r"^\| `aether_(\w+)` \| `NAME-postgres-(\w+)` \| (.*) \|$", text_of(SCHEMA_PAGE), re.MULTILINE)
    assert [(user, secret, set(re.findall(r"`(\w+)`", may))) for user, secret, may in rows] == [
        (user, user, set(privileges.writes)) for user, privileges in PRIVILEGES.items()
    ]


def test_picture_of_the_readme_loads_nothing_from_elsewhere() -> None:
    assert str(PICTURE.relative_to(TOP)) in links(TOP / "README.md")
    assert set(re.findall(r"\w+://[^\"')<]*", text_of(PICTURE).replace("&#160;", " "))) == {
        "http://www.w3.org/2000/svg", status_picture.TARGET.server,
    }  # fmt: skip
    assert set(re.findall(r"url\((.)", text_of(PICTURE))) == {"#"}


def test_every_link_leads_to_a_committed_file() -> None:
    there = {*committed(), *(folder for path in committed() for folder in path.parents)}
    broken = [
        f"{page.relative_to(TOP)}: {target}"
        for page in committed()
        if page.suffix == ".md"
        for target in links(page)
        if Path(os.path.normpath(page.parent / target.partition("#")[0])) not in there
    ]
    assert broken == []


def test_every_top_level_folder_has_a_short_readme() -> None:
    for name, files in top_level_folders().items():
        if all(path.suffix == ".lock" for path in files):
            continue  # generated files
        readme = TOP / name / "README.md"
        assert readme in files, f"{name} has no README.md"
        assert 0 < len(text_of(readme).splitlines()) <= LONGEST_README, f"{name}/README.md is not a few lines"


def test_no_committed_file_contains_a_path_of_one_machine() -> None:
    tests = TOP / "tests"
    assert [
        hit
        for path in committed()
        for hit in found(OF_A_MACHINE, path, allowed=PEOPLE_OF_TESTS if path.is_relative_to(tests) else ())
    ] == []


def test_no_committed_file_chooses_where_packages_come_from() -> None:
    assert [hit for path in committed() for hit in found(OF_A_REGISTRY, path)] == []


def test_make_installs_every_package_that_provides_a_required_program() -> None:
    listed = re.search(r'^PACKAGES="([^"]*)"', text_of(TOP / ".ci/packages"), re.MULTILINE)
    assert listed is not None
    named = {
        package
        for table in (requirements.ALWAYS, requirements.NODE, requirements.EGRESS, requirements.BUILDAH)
        for package in table.values()
    }
    assert named - set(listed[1].split()) == set()


def test_operator_is_still_the_standard_library_s() -> None:
    assert Path(operator.__file__).parent == Path(os.__file__).parent


def test_no_top_level_package_and_no_test_folder_named_operator() -> None:
    folders = [TOP / name for name in top_level_folders()]
    assert [folder for folder in folders if (folder / "__init__.py").exists()] == []
    tests = [path.relative_to(TOP) for path in committed() if path.is_relative_to(TOP / "tests")]
    assert [path for path in tests if "operator" in path.parts] == []
