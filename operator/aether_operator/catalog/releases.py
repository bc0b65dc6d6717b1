"""What a release of Aether brings to every platform, as the chart renders it: images, and where pods may run."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from aether_operator.api.models import Model
from aether_operator.api.platforms import Server


class Release(Model):
    """The part of the operator's configuration that children are made of."""

    images: dict[Server, str]
    image_pull_secrets: tuple[str, ...] = ()
    node_selector: dict[str, str] = Field(default_factory=dict)
    tolerations: tuple[dict[str, Any], ...] = ()
    priority_class_name: str = ""
    extra_labels: dict[str, str] = Field(default_factory=dict)
    operator_namespace: str = "aether-system"
    """Where the operator's pods are; network policies let them in."""
