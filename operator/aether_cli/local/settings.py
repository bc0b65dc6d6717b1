"""The settings of a local cluster. No I/O."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, Self


class Profile(StrEnum):
    """Which components a cluster has."""

    CONTROL_PLANE = "control-plane"
    """etcd, API server and controllers: objects, but no running pods."""
    NODE = "node"
    """Also a scheduler and a node: pods run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one cluster.

    Args:
        profile: Which components it has.
        port: The API server's port on the machine's loopback; 0 takes any free port.
        egress: Whether pods may reach the machine's network.
        kwok: Whether kwok makes pods Ready without a node (control-plane only).
        durable: Whether etcd's data and the images of pods are on disk, and etcd syncs. False only for tests' clusters:
            the data are in memory. Volumes are on disk in any case.
        platforms: Whether the images of the operator and of platforms are loaded on the node. False only for tests
            whose pods use the base image: loading takes most of a start.
        owned: Whether the cluster ends when the process that started it does. For tests.
    """

    profile: Profile = Profile.NODE
    port: int = 16443
    egress: bool = False
    kwok: bool = False
    durable: bool = True
    platforms: bool = True
    owned: bool = False

    @property
    def has_node(self) -> bool:
        """Whether pods can run."""
        return self.profile is Profile.NODE

    def record(self) -> dict[str, Any]:
        """The settings as JSON values."""
        return asdict(self)

    @classmethod
    def read(cls, record: dict[str, Any]) -> Self:
        """The inverse of `record`; a setting that the record of an older release lacks has its default."""
        values = {field.name: record.get(field.name, field.default) for field in fields(cls)}
        return cls(**{**values, "profile": Profile(values["profile"])})
