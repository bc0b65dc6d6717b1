"""What is alike in every child: name, labels, owner."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aether_operator.api import labels
from aether_operator.observed import kinds

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.releases import Release
    from aether_operator.observed.kinds import Kind, Manifest


def child_labels(platform: Platform, component: str, release: Release) -> dict[str, str]:
    """A child's labels: the release's extra ones never hide ours."""
    return {**release.extra_labels, **labels.for_child(platform.name, component)}


def retained(kind: Kind, name: str, platform: Platform, component: str, release: Release) -> Manifest:
    """A child without an owner: it outlives the platform, because data does."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            "name": name,
            "namespace": platform.namespace,
            "labels": child_labels(platform, component, release),
        },
    }


def owned(kind: Kind, name: str, platform: Platform, component: str, release: Release) -> Manifest:
    """A child that goes with the platform."""
    thing = retained(kind, name, platform, component, release)
    thing["metadata"]["ownerReferences"] = [owner(platform)]
    return thing


def owner(platform: Platform) -> Mapping[str, Any]:
    """The platform as its children's owner."""
    return {
        "apiVersion": kinds.PLATFORMS.api_version,
        "kind": kinds.PLATFORMS.kind,
        "name": platform.name,
        "uid": platform.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
