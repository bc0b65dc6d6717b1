"""Renders the chart with Helm; and the names that the chart's tests share."""

from __future__ import annotations

import functools
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from aether_cli import installer, processes, progress
from aether_cli.local import binaries, manifests, paths, program_builder
from aether_testing import generator

if TYPE_CHECKING:
    from aether_operator.api.definition import Definitions

CHART: Final = Path(__file__).resolve().parents[3] / "helm/aether-operator"
OPERATOR_NAMESPACE, PLATFORM_NAMESPACE = manifests.NAMESPACES
NAME: Final = installer.RELEASE
Object = dict[str, Any]


@functools.cache
def helm() -> Path:
    """The Helm program of the local cluster, built if necessary."""
    (ours,) = [binary for binary in binaries.NODE if binary.name == "helm"]
    cache = paths.for_cluster("aether", os.environ).cache
    return program_builder.ensure((ours,), cache, os.environ, progress.TerminalReporter())["helm"]


def with_kinds(folder: Path, definitions: Definitions) -> Path:
    """Copy the chart to a folder that does not exist yet, for these kinds; returns the folder."""
    shutil.copytree(CHART, folder)
    for path, text in generator.files(definitions).items():
        file = generator.TOP / path
        if file.is_relative_to(CHART):
            (folder / file.relative_to(CHART)).write_text(text, encoding="utf-8")
    return folder


def rendered(
    *words: str, values: Object | None = None, namespace: str = OPERATOR_NAMESPACE, chart: Path = CHART
) -> list[Object]:
    """The objects that the chart renders to.

    Args:
        words: More arguments of `helm template`.
        values: The chart's values.
        namespace: The release's namespace.
        chart: The chart's folder.
    """
    text = processes.run(
        [helm(), "template", NAME, chart, f"--namespace={namespace}", "--values=-", *words],
        stdin=json.dumps(values or {}),
    )
    return [one for one in yaml.safe_load_all(text) if one]
