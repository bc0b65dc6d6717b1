"""What a release of Aether, as configured by the chart, gives every platform: images and scheduling. Data only."""

from __future__ import annotations

from typing import Any, Final

from pydantic import Field

from aether_operator.api.models import Model
from aether_operator.api.platforms import Server

_DIGITS: Final = 12
_LABEL_LENGTH: Final = 63


class Release(Model):
    """The part of the operator's configuration that determines the children of platforms."""

    images: dict[Server, str]
    service_image: str
    """The image of all components."""
    image_pull_secrets: tuple[str, ...] = ()
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()
    priority_class_name: str = ""
    extra_labels: dict[str, str] = Field(default_factory=dict)
    operator_namespace: str = "aether-system"
    """The namespace of the operator's pods, which network policies admit."""

    @property
    def version(self) -> str:
        """The release that services report: the tag of their image, or the first digits of its digest."""
        name, _, digest = self.service_image.partition("@")
        if digest:
            return digest.removeprefix("sha256:")[:_DIGITS]
        _, colon, tag = name.rpartition("/")[2].partition(":")
        return tag if colon else "latest"

    @property
    def version_label(self) -> str:
        """The version as a label's value, which is shorter than a tag may be."""
        return self.version[:_LABEL_LENGTH].strip("._-")
