"""What a request to the API server is about, from its path."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The object or collection that a path identifies."""

    group: str
    version: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""


def parse(path: str) -> Target | None:
    """The target of a path; None for discovery, health and OpenAPI."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, *rest = "", *parts[1:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, *rest = parts[1:]
    else:
        return None
    namespace = ""
    # A namespace itself has only these two subresources; anything else after its name is an object in it.
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in {"status", "finalize"}:
        namespace, rest = rest[1], rest[2:]
    resource, name, *sub = *rest, *([] if len(rest) > 1 else [""])
    return Target(
        group=group, version=version, resource=resource, namespace=namespace, name=name, subresource="/".join(sub)
    )


def is_counted_by_default(about: Target) -> bool:
    """What counts as a write by default: not Leases, Events, and review requests."""
    return about.resource not in {"leases", "events"} and about.group not in {
        "authentication.k8s.io", "authorization.k8s.io",
    } and about.subresource != "token"  # fmt: skip
