"""The manifests of `crds/` and `examples/`: each folder can be applied by `-k`, and all of it by `-R -f`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from aether_operator.api import parsing
from aether_operator.api.definitions import DEFINITIONS
from aether_operator.api.resources import Resource

TOP: Final = Path(__file__).resolve().parents[2]
ROOTS: Final = (TOP / "crds", TOP / "examples")
KUSTOMIZED: Final = (TOP / "crds", *sorted(path for path in (TOP / "examples").iterdir() if path.is_dir()))
APPLIED: Final = frozenset({".json", ".yaml", ".yml"})
"""The extensions of the files that kubectl reads from a folder."""
NAME: Final = "Kustomization"
"""The one name of a kustomization among kustomize's three that kubectl does not read from a folder as an object."""


def manifests(folder: Path) -> list[Path]:
    """The files that `kubectl apply --recursive --filename` applies."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix in APPLIED)


def faults(folder: Path) -> list[str]:
    """What kubectl or the API server would reject, one line each."""
    return [
        f"{path.relative_to(folder)}: {fault}"
        for path in manifests(folder)
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if (fault := fault_of(document))
    ]


def fault_of(document: Any) -> str:
    """Why an API server with our CRDs would not accept a document; empty where it would."""
    if not isinstance(document, dict) or not {"apiVersion", "kind", "metadata"} <= document.keys():
        return "not an object"
    if document["kind"] == "CustomResourceDefinition":
        return "" if document["metadata"]["name"].endswith(f".{document['spec']['group']}") else "another group's name"
    if document["kind"] not in DEFINITIONS:
        return f"no matches for kind {document['kind']}"
    definition = DEFINITIONS[document["kind"]]
    stored = {"uid": "u-1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z", **document["metadata"]}
    parsed = parsing.parse(definition, {**document, "metadata": stored})
    return "" if isinstance(parsed, Resource) else "; ".join(parsed.problems)


@pytest.mark.parametrize("root", ROOTS, ids=lambda root: root.name)
def test_recursive_apply_finds_only_valid_objects(root: Path) -> None:
    assert manifests(root)
    assert faults(root) == []


@pytest.mark.parametrize("folder", KUSTOMIZED, ids=lambda folder: folder.name)
def test_kustomization_lists_every_manifest_of_its_folder(folder: Path) -> None:
    kustomization = yaml.safe_load((folder / NAME).read_text(encoding="utf-8"))
    assert kustomization.keys() == {"apiVersion", "kind", "resources"}
    assert (kustomization["apiVersion"], kustomization["kind"]) == ("kustomize.config.k8s.io/v1beta1", NAME)
    listed = [Path(os.path.normpath(folder / one)) for one in kustomization["resources"]]
    assert sorted(listed) == manifests(folder)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("kustomization.yaml", f"kind: {NAME}\nresources: []\n", "not an object"),
        ("kustomization.yml", f"apiVersion: v\nkind: {NAME}\nmetadata: {{}}\n", f"no matches for kind {NAME}"),
        ("expected/children.yaml", "Secret:\n- paper-kafka\n", "not an object"),
        (
            "platform.yaml",
            "{apiVersion: v, kind: TradingPlatform, metadata: {namespace: aether, name: x}, spec: {pairz: []}}",
            "spec.pairz: ",
        ),
    ],
)
def test_file_that_kubectl_rejects_is_detected(tmp_path: Path, name: str, text: str, fault: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    (found,) = faults(tmp_path)
    assert found.startswith(f"{name}: {fault}")
