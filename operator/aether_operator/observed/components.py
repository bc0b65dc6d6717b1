"""The /status responses of components' pods, as far as they are the same for every service."""

from __future__ import annotations

import dataclasses
import functools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeAlias

import pydantic

from aether_operator.api.reasons import Reason
from aether_operator.catalog import components, names
from aether_operator.observed import child_refs, live_objects, workloads
from aether_runtime import secrecy

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.components import Component
    from aether_operator.observed.platforms import ObservedPlatform


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A pod of a component, with the address to query."""

    component: Component
    pod: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentReport:
    """A pod's status, or why there is none: `reason` is READY if its response was valid.

    This is what every service reports. A service that reports more has a type of its own, derived from this, which only
    a valid response makes. Ages, rates and lags are left out: they change all the time, and would cause a write of the
    platform's status each time.
    """

    reason: Reason
    message: str = ""
    ready: bool = False
    failing: Mapping[str, str] = field(default_factory=dict)
    """Check → why it fails; only failing checks."""
    settings: str = ""
    """The digest of the live settings that it follows; empty if it has none."""

    @property
    def ok(self) -> bool:
        """Whether the response was valid."""
        return self.reason is Reason.READY

    @classmethod
    def of(cls, common: ComponentReport, **own: Any) -> Self:
        """A service's own report: what every service reports, and what only this one does."""
        return cls(**{one.name: getattr(common, one.name) for one in dataclasses.fields(ComponentReport)}, **own)


# The part of contracts/statuses.py that is used here; a test compares the two.


class Part(pydantic.BaseModel):
    """A part of a response: unknown fields are ignored, since a newer service may have more."""

    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)


class Check(Part):
    """Whether something works, and why not."""

    ok: bool
    detail: str = ""


class Status(Part):
    """The response, as far as it is the same for every service."""

    service: str
    ready: bool
    checks: dict[str, Check] = {}
    settings: str = ""


class _Versioned(Part):
    version: int


Why: TypeAlias = "Callable[[str], str]"
"""Makes one line of a cause in a service's words, never empty; withheld if it quotes a Secret."""


class Parser(Protocol):
    """How the response of one service is parsed."""

    Status: type[Status]
    """What is used of it."""

    def report(self, common: ComponentReport, status: Any, why: Why) -> ComponentReport:
        """The service's own report of a `Status`; each text in it went through `why`, but for codes and digests."""
        ...


def read(
    text: str,
    component: Component,
    parser: Parser,
    secret_values: Collection[str] = (),
    addresses: Collection[str] = (),
) -> ComponentReport:
    """Parse a /status response. Texts that quote one of the `secret_values` are withheld.

    `addresses` of servers are no quotations: a username may be a part of a host name.
    """
    try:
        response = json.loads(text)
        version = _Versioned.model_validate(response).version
        if version != components.STATUS_VERSION:
            message = f"its /status has version {version}, and this operator reads {components.STATUS_VERSION}"
            return ComponentReport(reason=Reason.VERSION_UNSUPPORTED, message=message)
        status = parser.Status.model_validate(response)
    except ValueError:
        return ComponentReport(reason=Reason.FAILED, message="its /status cannot be parsed")
    if status.service != component:
        return ComponentReport(reason=Reason.FAILED, message=f"it is the service {status.service[:_LONGEST]}")
    # Many markets share one cause, and searching it for secrets is slow.
    why = functools.cache(lambda detail: _why(detail, secret_values, addresses))
    common = ComponentReport(
        reason=Reason.READY,
        ready=status.ready,
        failing={name: why(one.detail) for name, one in status.checks.items() if not one.ok},
        settings=status.settings,
    )
    return parser.report(common, status, why)


_LONGEST: Final = 200


def one_line(detail: str) -> str:
    """A text of a service in one short line, never empty."""
    return " ".join(detail.split())[:_LONGEST] or "no reason given"


def _why(detail: str, secret_values: Collection[str], addresses: Collection[str]) -> str:
    # Only a value that is a part of an address is no quotation there; one that contains an address is.
    parts = {value for value in secret_values if any(value in address for address in addresses)} if addresses else set()
    others = [value for value in secret_values if value not in parts] if parts else secret_values
    without_addresses = detail
    for address in addresses:
        without_addresses = without_addresses.replace(address, " ")
    if secrecy.quotes(detail, others) or secrecy.quotes(without_addresses, parts):
        return secrecy.WITHHELD
    return one_line(detail)


def expected(component: Component, platform: Platform) -> tuple[str, ...]:
    """The names of the pods that a component should have."""
    return tuple(
        names.component_pod(platform, component, replica) for replica in range(child_refs.replicas(component, platform))
    )


def targets(platform: Platform, observed: ObservedPlatform) -> tuple[Target, ...]:
    """The pods that can be queried: those of the components' StatefulSets that run and have an address."""
    found = []
    for component in child_refs.components_of(platform):
        live = observed.children.get(child_refs.component_stateful_set(component, platform))
        wanted = expected(component, platform)
        for pod in workloads.pods_of(observed.pods, live) if live is not None else ():
            name, seen = pod["metadata"]["name"], pod.get("status") or {}
            runs = seen.get("phase") == "Running" and not live_objects.is_deleting(pod)
            if name in wanted and runs and seen.get("podIP"):
                found.append(Target(component=component, pod=name, address=seen["podIP"]))
    return tuple(found)
