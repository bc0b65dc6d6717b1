"""What must agree with the chart and the operator's image: configuration, servers, and imports."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Final

import yaml

from aether_cli import installer
from aether_cli.local import images
from aether_operator.api.platforms import Server
from aether_operator.kube import api_client

TOP: Final = Path(__file__).resolve().parents[2]
CHART: Final = TOP / "helm/aether-operator"
DISTRIBUTIONS: Final = {"nats": "nats-py", "yaml": "pyyaml", "prometheus_client": "prometheus-client"}
"""Module → distribution, where the names differ."""


def names(lines: list[str]) -> set[str]:
    """The distributions that requirements name, without extras and versions."""
    return {found[0].lower() for line in lines if (found := re.match(r"[A-Za-z0-9._-]+", line))}


def required() -> set[str]:
    return names((TOP / "images/operator/requirements.in").read_text().splitlines())


def locked(path: str) -> dict[str, str]:
    return dict(re.findall(r"^([a-z0-9._-]+)(?:\[\w+\])?==(\S+)", (TOP / path).read_text(), re.MULTILINE))


def test_up_brings_images_for_exactly_the_servers_of_a_platform() -> None:
    assert set(installer.SERVERS) == {str(server) for server in Server}
    assert set(yaml.safe_load((CHART / "values.yaml").read_text())["dataPlaneImages"]) == set(installer.SERVERS)


def test_chart_contains_the_crds_byte_for_byte() -> None:
    generated = {path.name: path.read_bytes() for path in (TOP / "crds/v1alpha1").glob("*.yaml")}
    assert generated
    assert {path.name: path.read_bytes() for path in (CHART / "files/crds").iterdir()} == generated


def test_operator_knows_the_messages_of_the_admission_policies() -> None:
    fence, finalizers = ((CHART / f"templates/{name}.yaml").read_text() for name in ("fence", "finalizers"))
    assert f"' {api_client.FENCED} {{{{" in fence
    state, colon, rest = api_client.NAMESPACE_DELETING.partition(":")
    assert f"(variables.terminating ? ' {state}' : " in finalizers
    assert f"'{colon}{rest}'" in finalizers


def test_operator_image_has_exactly_what_the_operator_imports() -> None:
    imported = {
        name.partition(".")[0]
        for package in ("operator/aether_operator", images.RUNTIME)
        for path in (TOP / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        for name in (
            [one.name for one in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom) and not node.level
            else []
        )
    }
    others = imported - set(sys.stdlib_module_names) - {"aether_operator", "aether_runtime", ""}
    assert {DISTRIBUTIONS.get(name, name) for name in others} == required()


def test_the_operator_s_image_has_the_versions_that_are_tested() -> None:
    project = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
    assert required() <= names(project["dependencies"])
    everything, image = locked("requirements.lock"), locked("images/operator/requirements.lock")
    assert required() <= set(image)
    assert image.items() <= everything.items()
