"""Rules about imports that import-linter cannot express."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from aether_cli.local import images
from aether_services import __main__ as program

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

TOP: Final = Path(__file__).resolve().parents[2]
DISTRIBUTIONS: Final = {
    "nats": "nats-py",
    "prometheus_client": "prometheus-client",
    "starlette": "fastapi",
    "yaml": "pyyaml",
}
"""Module → distribution that brings it, where the names differ."""
HEAVY: Final = {
    "aiohttp", "aiokafka", "alembic", "kopf", "kubernetes", "nats", "psycopg", "pytest", "redis", "rich", "sqlalchemy",
    "sqlite3", "typer",
}  # fmt: skip
"""Packages that take memory and time: clients, drivers, and what only commands and tests need."""


def imported(path: Path) -> Iterator[str]:
    """The modules that a module imports, or all the modules of a package."""
    for module in [path] if path.is_file() else path.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Import):
                yield from (one.name for one in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert not node.level, f"{module}: a relative import"
                yield from (f"{node.module}.{one.name}" for one in node.names)


def packages(*paths: Path) -> set[str]:
    """The packages that they import, without their modules."""
    return {name.partition(".")[0] for path in paths for name in imported(path)}


def test_the_shared_package_imports_only_the_standard_library() -> None:
    found = packages(TOP / images.RUNTIME)
    assert "logging" in found
    assert found - {"aether_runtime"} <= sys.stdlib_module_names


# What each image and process needs, and no more.


def names(lines: Iterable[str]) -> set[str]:
    """The distributions that requirements name, without extras and versions."""
    return {found[0].lower() for line in lines if (found := re.match(r"[A-Za-z0-9._-]+", line))}


def required(image: str) -> set[str]:
    return names((TOP / f"images/{image}/requirements.in").read_text().splitlines())


def locked(path: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[\w+\])?==(\S+)", (TOP / path).read_text(), re.MULTILINE))


@pytest.mark.parametrize(("image", "indirect"), [("operator", set()), ("service", {"websockets"})])
def test_image_has_exactly_what_its_packages_import(image: str, indirect: set[str]) -> None:
    """`indirect` is imported under a name that no code of ours has: uvicorn's implementation of WebSockets."""
    (definition,) = (one for one in images.CATALOGUE if one.name == image)
    found = packages(*(TOP / part for part in definition.extra)) - set(sys.stdlib_module_names)
    others = {name for name in found if not name.startswith("aether_")}
    assert {DISTRIBUTIONS.get(name, name) for name in others} | indirect == required(image)


@pytest.mark.parametrize("image", ["operator", "service"])
def test_image_has_the_versions_that_are_tested(image: str) -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    assert required(image) <= names(project["dependencies"])
    everything, versions = locked("requirements.lock"), locked(f"images/{image}/requirements.lock")
    assert required(image) <= set(versions)
    assert versions.items() <= everything.items()


def used(package: Path) -> set[str]:
    """The heavy packages that a package imports, directly or by a client that services share."""
    clients = {name.split(".")[2] for name in imported(package) if name.startswith("aether_services.clients.")}
    return HEAVY & packages(package, *(TOP / f"services/aether_services/clients/{name}.py" for name in clients))


@pytest.mark.parametrize(
    ("package", "start"),
    [
        ("operator/aether_operator", "aether_operator.__main__"),
        *((f"services/aether_services/{name}", f"aether_services.{name}.app") for name in program.SERVICES),
    ],
)
def test_process_loads_no_heavy_package_that_it_does_not_use(package: str, start: str) -> None:
    script = f"import importlib, sys; importlib.import_module({start!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert HEAVY & loaded == used(TOP / package)


def test_venue_uses_no_client_but_its_journal() -> None:
    assert used(TOP / "services/aether_services/exchange_sim") == {"sqlite3"}


# Inside a service.


def test_every_module_of_a_service_has_a_layer() -> None:
    """Import-linter's own `exhaustive` does not fit: the wildcard that finds new services also finds kit and domain."""
    contracts = tomllib.loads((TOP / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (inside,) = (one for one in contracts if one.get("containers") == ["aether_services.*"])
    layers = {name.strip(" ()") for layer in inside["layers"] for name in layer.split("|")}
    for service in program.SERVICES:
        folder = TOP / "services/aether_services" / service
        assert {path.stem for path in folder.iterdir() if not path.name.startswith("__")} <= layers, service


READS: Final = {"after", "contradicts", "count_after", "oldest_after", "levels"}
"""Methods of a market and its parts that change nothing."""
SETS: Final = {"add", "clear", "discard", "pop", "remove", "update"}


def changes(tree: ast.Module) -> Iterator[str]:
    """Assignments to attributes of `market` or `markets`, and calls that may change a market or one of their parts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            if re.search(r"\bmarkets?\.", ast.unparse(node).replace("_markets", "markets")):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            called = ast.unparse(node.func).replace("_markets", "markets")
            of_a_market = re.search(r"\bmarket\.(?:\w+\.)?(\w+)$", called)
            of_a_set = re.search(r"\bmarkets\.\w+\.(\w+)$", called)
            if (of_a_market and of_a_market[1] not in READS) or (of_a_set and of_a_set[1] in SETS):
                yield called


@pytest.mark.parametrize(
    "line",
    [
        "market.gaps += 1",
        "self._markets.latest = 0",
        "market.add(trade, now)",
        "market.book.invalidate(why)",
        "self.markets.backfill.add(one)",
    ],
)
def test_a_change_of_a_market_is_recognized(line: str) -> None:
    assert list(changes(ast.parse(line)))


def test_only_the_core_of_ingest_changes_a_market() -> None:
    folder = TOP / "services/aether_services/ingest"
    outside = [path for path in folder.rglob("*.py") if "core" not in path.relative_to(folder).parts]
    assert len(outside) > 10
    found = {path.name: list(changes(ast.parse(path.read_text()))) for path in outside}
    assert {name: lines for name, lines in found.items() if lines} == {}
