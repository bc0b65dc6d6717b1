"""Metadata that all children have: name, labels, owner reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aether_operator.api import labels, models

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aether_operator.api.owners import Owner
    from aether_operator.catalog.releases import Release
    from aether_operator.observed.kinds import Kind, Manifest


def child_labels(owner: Owner, component: str, release: Release) -> dict[str, str]:
    """A child's labels, which its pods have too; the release's extra labels never override the operator's."""
    return {**release.extra_labels, **labels.for_child(owner, component)}


def retained(kind: Kind, name: str, owner: Owner, component: str, release: Release) -> Manifest:
    """A child without an owner reference: it holds data, and outlives its owner."""
    return {
        "apiVersion": kind.api_version,
        "kind": kind.kind,
        "metadata": {
            "name": name,
            "namespace": owner.namespace,
            "labels": child_labels(owner, component, release),
        },
    }


def owned(kind: Kind, name: str, owner: Owner, component: str, release: Release) -> Manifest:
    """A child that is deleted with its owner."""
    manifest = retained(kind, name, owner, component, release)
    manifest["metadata"]["ownerReferences"] = [owner_reference(owner)]
    return manifest


def workload(kind: Kind, name: str, owner: Owner, component: str, release: Release) -> Manifest:
    """A child that runs pods, and is deleted with its owner."""
    manifest = owned(kind, name, owner, component, release)
    manifest["metadata"]["labels"][labels.VERSION] = release.version_label
    return manifest


def owner_reference(owner: Owner) -> Mapping[str, Any]:
    """The owner reference of an owner's children."""
    return {
        "apiVersion": models.API_VERSION,
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": True,
        "blockOwnerDeletion": False,
    }
