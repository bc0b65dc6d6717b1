"""Metadata that all children have: name, labels, owner reference."""

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
    """A child's labels; the release's extra labels never override the operator's."""
    return {**release.extra_labels, **labels.for_child(platform.name, component)}


def retained(kind: Kind, name: str, platform: Platform, component: str, release: Release) -> Manifest:
    """A child without an owner reference: it holds data, and outlives the platform."""
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
    """A child that is deleted with the platform."""
    manifest = retained(kind, name, platform, component, release)
    manifest["metadata"]["ownerReferences"] = [owner(platform)]
    return manifest


def owner(platform: Platform) -> Mapping[str, Any]:
    """The owner reference of the platform's children."""
    return {
        "apiVersion": kinds.PLATFORMS.api_version,
        "kind": kinds.PLATFORMS.kind,
        "name": platform.name,
        "uid": platform.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
