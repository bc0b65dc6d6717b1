"""Writes what is generated: crds/, its copy in the chart, and the reference pages. `make crds`; a test compares."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import yaml

from aether_operator.api import crds, pages, platforms
from aether_testing import states

if TYPE_CHECKING:
    from collections.abc import Mapping

TOP: Final = Path(__file__).resolve().parents[2]
FIRST_LINE: Final = "# Written by `make crds` from operator/aether_operator/api. Change the models, not this file.\n"


def files() -> Mapping[str, str]:
    """Path below the repository → what it should hold."""
    crd = FIRST_LINE + yaml.dump(crds.definition(), sort_keys=False, width=110, Dumper=_Plain)
    name = f"{platforms.PLURAL}.yaml"
    return {
        f"crds/v1alpha1/{name}": crd,
        f"helm/aether-operator/files/crds/{name}": crd,
        "docs/reference/conditions.md": pages.conditions(),
        "docs/reference/states.md": states.page(),
        "docs/reference/trading-platform.md": pages.platform(),
    }


class _Plain(yaml.SafeDumper):
    """Without anchors: people read these files."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the shape of an override
        return True


def main() -> None:
    """Write them."""
    for path, text in files().items():
        (TOP / path).parent.mkdir(parents=True, exist_ok=True)
        (TOP / path).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
