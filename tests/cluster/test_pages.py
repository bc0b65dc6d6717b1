"""Every documented kubectl and helm command and manifest, checked by kubectl, Helm and an API server with our CRDs.

Nothing is changed: what would be is a dry run, and of what is not there it is enough that it is looked for.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from aether_cli import kubectl_client, problems, processes
from aether_testing.cluster import charts
from aether_testing.processes import installations
from aether_testing.values import pages
from aether_testing.values.pages import TOP, Way

if TYPE_CHECKING:
    from pathlib import Path

    from aether_cli.local.startup import Cluster
    from aether_testing.values.pages import Command

CHANGES: Final = frozenset({"apply", "create", "delete", "patch", "scale", "label", "annotate"})
NOT_THERE: Final = ("(NotFound)", "not found", "there is no")
"""The error for a valid name of an object that does not exist."""


def check(cluster: Cluster, command: Command, folder: Path, *, in_block: bool) -> None:
    """Check a command by its own program.

    Args:
        cluster: What knows our kinds.
        command: The command.
        folder: A clone, with what the pages have people write there.
        in_block: Whether it is to be typed as it is; in a sentence it may be a verb alone.
    """
    if command.words[0] == "helm":
        check_helm(cluster, command, folder)
    elif command.words[:2] != ("kubectl", "aether"):  # our own commands: tests/contract/test_pages.py
        # kubectl's discovery cache may be older than our CRDs.
        check_kubectl(replace(cluster.kubectl, cache=folder / "kubectl"), command, in_block=in_block)


def verb_of(words: tuple[str, ...]) -> tuple[str, list[str]]:
    """Kubectl's verb, which options may precede, and the other words."""
    rest = list(words[1:])
    nth = 0
    while nth < len(rest) and rest[nth].startswith("-"):
        nth += 1 if "=" in rest[nth] else 2
    return (rest[nth], [*rest[:nth], *rest[nth + 1 :]]) if nth < len(rest) else ("", rest)


def check_kubectl(kubectl: kubectl_client.Kubectl, command: Command, *, in_block: bool) -> None:
    """Check a command by kubectl, and that the API server has the kinds that it names."""
    verb, rest = verb_of(command.literal_words)
    if in_block or (command.whole and any(not word.startswith("-") for word in rest)):
        dry = ["--dry-run=server"] if verb in CHANGES else []
        try:
            processes.run([*kubectl.command(), verb, *rest, *dry], env={"EDITOR": "true"}, cwd=TOP, deadline=60)
        except problems.ProgramFailed as rejected:
            if not any(text in rejected.cause for text in NOT_THERE):
                raise
        return
    # A program's name in a sentence, with options at most: they exist.
    usage = "".join(processes.run([*kubectl.command(), *words]) for words in ((verb, "--help"), ("options",)))
    assert f"kubectl {verb} " in usage, f"no verb {verb}"
    unknown = [word for word in rest if word.startswith("-") and _option(word) not in usage]
    assert unknown == []


def _option(word: str) -> str:
    """An option as kubectl's help lists it: `-k, --kustomize=''`."""
    return f"{word.partition('=')[0]}=" if word.startswith("--") else f" {word}, --"


def check_helm(cluster: Cluster, command: Command, folder: Path) -> None:
    """Check a command by Helm: render its chart with its values."""
    _, verb, *rest = command.literal_words
    if all(word.startswith("-") for word in rest):
        usage = processes.run([charts.helm(), verb, "--help"])
        assert f"helm {verb} " in usage
        assert [word for word in rest if word not in usage] == []
        return
    # `client`: existing namespaces of the cluster cannot belong to a release.
    dry = ["--dry-run"] if verb == "uninstall" else ["--dry-run=client"]
    try:
        processes.run([charts.helm(), verb, *rest, *dry, f"--kubeconfig={cluster.kubeconfig}"], cwd=folder)
    except problems.ProgramFailed as rejected:
        if verb != "uninstall" or "not found" not in rejected.cause:
            raise


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clone with the page's values in a file."""
    for path in TOP.iterdir():
        if not path.name.startswith("."):
            (tmp_path / path.name).symlink_to(path)
    (values,) = [block for block in pages.blocks("yaml") if block.page == "docs/guide/installing.md"]
    (tmp_path / "values.yaml").write_text(values.text)
    return tmp_path


def test_kubectl_and_helm_accept_every_documented_command(control_plane: Cluster, folder: Path) -> None:
    installations.install_crds(control_plane)
    faults = []
    seen = set[tuple[str, ...]]()
    for line in [*pages.typed(), *pages.mentioned()]:
        if line.way is not Way.PARSED:
            continue  # it is run on a platform
        for command in line.commands:
            words = command.words[command.words[:2] == ("aether", "kubectl") :]
            whole = len(words) > 1 and pages.ELLIPSIS not in words[1]
            if words[0] in {"kubectl", "helm"} and whole and words not in seen:
                seen.add(words)
                try:
                    check(control_plane, replace(command, words=words), folder, in_block=line.in_block)
                except (problems.AetherError, AssertionError) as fault:
                    faults.append(f"{line}\n    {fault}")
    assert len(seen) > 10
    assert faults == [], "\n".join(faults)


@pytest.mark.parametrize(
    "text",
    [
        "kubectl gat pods", "kubectl get aethers", "kubectl delete pvc -l x --unknown", "kubectl delete crds.x y",
        "kubectl wait --fro=x", "kubectl explain tp.specs", "kubectl apply -f examples/none",
        "helm upgrade --install x helm/aether-operator --namespace n --set createNamespace=true",
        "helm upgrade --install x helm/none", "helm install --unknown", "helm instal x helm/aether-operator",
    ],
)  # fmt: skip
def test_unknown_word_of_a_command_is_detected(control_plane: Cluster, folder: Path, text: str) -> None:
    installations.install_crds(control_plane)
    (command,) = pages.Line(page="", line=0, text=text, in_block=False).commands
    with pytest.raises((problems.AetherError, AssertionError)):
        check(control_plane, command, folder, in_block=False)


def test_api_server_accepts_every_documented_manifest(control_plane: Cluster) -> None:
    installations.install_crds(control_plane)
    things: list[Any] = [
        thing
        for block in pages.blocks("yaml")
        for thing in yaml.safe_load_all(block.text)
        if isinstance(thing, dict) and {"apiVersion", "kind"} <= thing.keys()
    ]
    assert things
    for thing in things:
        control_plane.kubectl.text(
            "apply", "--server-side", "--dry-run=server", "--filename=-", stdin=yaml.safe_dump(thing)
        )
