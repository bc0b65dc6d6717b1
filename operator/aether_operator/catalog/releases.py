"""What a release of Aether brings to every platform, as the chart renders it: images, and where pods may run."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from aether_operator.api.models import Model
from aether_operator.api.platforms import Server

_DIGITS: Final = 12


class Release(Model):
    """The part of the operator's configuration that children are made of."""

    images: dict[Server, str]
    service_image: str
    """What every room runs."""
    image_pull_secrets: tuple[str, ...] = ()
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()
    priority_class_name: str = ""
    extra_labels: dict[str, str] = Field(default_factory=dict)
    operator_namespace: str = "aether-system"
    """Where the operator's pods are; network policies let them in."""

    @property
    def version(self) -> str:
        """What the rooms call their release: the tag of their image, or as much of its digest as tells it."""
        name, _, digest = self.service_image.partition("@")
        if digest:
            return digest.removeprefix("sha256:")[:_DIGITS]
        _, colon, tag = name.rpartition("/")[2].partition(":")
        return tag if colon else "latest"
