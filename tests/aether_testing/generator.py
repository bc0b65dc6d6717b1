"""Writes what is generated: crds/, its copy in the chart, reference pages, a picture. `make crds`; a test compares."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from aether_operator.api import crds, labels, pages
from aether_operator.api.definitions import DEFINITIONS
from aether_operator.observed import kinds
from aether_operator.planning import child_kinds
from aether_testing.values import states, status_picture

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from aether_operator.api.definition import Definitions
    from aether_operator.observed.kinds import Kind

TOP: Final = Path(__file__).resolve().parents[2]
FIRST_LINE: Final = "# Written by `make crds` from operator/aether_operator/api. Change the models, not this file.\n"
FIRST_LINE_OF_KUSTOMIZATION: Final = (
    "# Written by `make crds`. Without an extension, so that `kubectl apply -R -f` skips it.\n"
)
KINDS: Final = "helm/aether-operator/files/kinds.yaml"
FIRST_LINE_OF_KINDS: Final = "# Written by `make crds` from the operator's tables of kinds. Change those, not this.\n"


def files(definitions: Definitions = DEFINITIONS) -> Mapping[str, str]:
    """Path below the repository → what it should hold."""
    written = {
        "docs/reference/conditions.md": pages.conditions(definitions),
        "docs/reference/states.md": states.page(),
        "docs/images/status.svg": status_picture.svg(),
        KINDS: FIRST_LINE_OF_KINDS + as_yaml(rights(definitions)),
        "crds/Kustomization": FIRST_LINE_OF_KUSTOMIZATION + as_yaml(kustomization(definitions)),
    }
    for definition in definitions.values():
        crd = FIRST_LINE + as_yaml(crds.of(definition))
        written[f"crds/v1alpha1/{definition.plural}.yaml"] = crd
        written[f"helm/aether-operator/files/crds/{definition.plural}.yaml"] = crd
        written[f"docs/reference/{definition.page}.md"] = pages.of(definition)
    return written


def kustomization(definitions: Definitions) -> dict[str, Any]:
    """What `kubectl apply -k crds` applies."""
    return {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"v1alpha1/{definition.plural}.yaml" for definition in definitions.values()],
    }


def rights(definitions: Definitions, children: Iterable[Kind] = child_kinds.KINDS) -> dict[str, Any]:
    """What the chart's Roles and admission policies walk: our own kinds, and what the operator may do with others."""

    def others(*found: Kind) -> list[dict[str, Any]]:
        return [{"group": one.group, "plural": one.plural, "verbs": list(one.verbs)} for one in found]

    return {
        "kinds": [{"plural": one.plural, "finalizer": one.finalizer} for one in definitions.values()],
        "finalizer": labels.FINALIZER,
        "children": others(*children),
        "pods": others(kinds.PODS),
        "events": others(kinds.EVENTS),
    }


def as_yaml(value: object) -> str:
    """A value as people read it."""
    return yaml.dump(value, sort_keys=False, width=110, Dumper=_Plain)


class _Plain(yaml.SafeDumper):
    """Without anchors: people read these files."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the shape of an override
        return True


def main() -> None:
    for path, text in files().items():
        (TOP / path).parent.mkdir(parents=True, exist_ok=True)
        (TOP / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
