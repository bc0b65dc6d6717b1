"""The /status responses of components' pods, as far as they determine the platform's status."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pydantic

from aether_operator.api.reasons import Reason
from aether_operator.catalog import components, names
from aether_operator.observed import child_refs, live_objects, workloads
from aether_runtime import secrecy

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from aether_operator.api.platforms import Platform
    from aether_operator.catalog.components import Component
    from aether_operator.observed.platforms import ObservedPlatform

UNKNOWN_PAIR: Final = "UnknownPair"
"""What ingest reports for a market that the venue does not have."""
BOOK_CONTRADICTED: Final = "Contradicted"
"""What ingest reports for a book whose channel is silent while its market moves."""
BOOK: Final = "book"
"""The channel of order books."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A pod of a component, with the address to query."""

    component: Component
    pod: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentReport:
    """A pod's status, or why there is none: `reason` is READY if its response was valid.

    Ages, rates and lags are left out: they change all the time, and would cause a write of the platform's status each
    time.
    """

    reason: Reason
    message: str = ""
    ready: bool = False
    failing: Mapping[str, str] = field(default_factory=dict)
    """Check → why it fails; only failing checks."""
    settings: str = ""
    """The digest of the live settings that it follows."""
    system: str = ""
    """The venue's own word: online, maintenance, …"""
    disconnected: str | None = None
    """Why the feed is disconnected; None if it is connected or the component has none."""
    received: bool = False
    """Whether any message of the venue was ever received."""
    books: Mapping[str, str] = field(default_factory=dict)
    """Market → why its book is not usable; empty if it is."""
    trades: Mapping[str, str] = field(default_factory=dict)
    """Market → why its trades are held back; only such markets."""
    silent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Market → its channels that are silent while the market trades; only such markets."""
    outputs: Mapping[str, str] = field(default_factory=dict)
    """Output → why it fails; empty if it works."""

    @property
    def ok(self) -> bool:
        """Whether the response was valid."""
        return self.reason is Reason.READY


# The part of contracts/statuses.py that is used here; a test compares the two.


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="ignore", frozen=True)


class _Check(_Part):
    ok: bool
    detail: str = ""


class _Book(_Part):
    usable: bool
    reason: str = ""
    trades: str = ""
    silent: tuple[str, ...] = ()


class _Feed(_Part):
    connected: bool
    detail: str = ""
    system: str = ""
    age_seconds: float | None = None


class _Status(_Part):
    service: str
    ready: bool
    checks: dict[str, _Check] = {}
    settings: str = ""
    system: str = ""
    feed: _Feed | None = None
    books: dict[str, _Book] = {}
    outputs: dict[str, _Check] = {}


class _Versioned(_Part):
    version: int


def read(
    text: str, component: Component, secret_values: Collection[str] = (), addresses: Collection[str] = ()
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
        status = _Status.model_validate(response)
    except ValueError:
        return ComponentReport(reason=Reason.FAILED, message="its /status cannot be parsed")
    if status.service != component:
        return ComponentReport(reason=Reason.FAILED, message=f"it is the service {status.service[:_LONGEST]}")
    feed = status.feed
    # Many markets share one cause, and searching it for secrets is slow.
    why = functools.cache(lambda detail: _why(detail, secret_values, addresses))
    return ComponentReport(
        reason=Reason.READY,
        ready=status.ready,
        failing={name: why(one.detail) for name, one in status.checks.items() if not one.ok},
        settings=status.settings,
        system=feed.system if feed is not None else status.system,
        disconnected=None if feed is None or feed.connected else why(feed.detail),
        received=feed is not None and feed.age_seconds is not None,
        books={name: "" if one.usable else _why(one.reason, ()) for name, one in status.books.items()},
        trades={name: why(one.trades) for name, one in status.books.items() if one.trades},
        silent={
            name: tuple(why(channel) for channel in one.silent) for name, one in status.books.items() if one.silent
        },
        outputs={name: "" if one.ok else why(one.detail) for name, one in status.outputs.items()},
    )


_LONGEST: Final = 200


def _why(detail: str, secret_values: Collection[str], addresses: Collection[str] = ()) -> str:
    """A cause in one line, never empty."""
    # Only a value that is a part of an address is no quotation there; one that contains an address is.
    parts = {value for value in secret_values if any(value in address for address in addresses)} if addresses else set()
    others = [value for value in secret_values if value not in parts] if parts else secret_values
    without_addresses = detail
    for address in addresses:
        without_addresses = without_addresses.replace(address, " ")
    if secrecy.quotes(detail, others) or secrecy.quotes(without_addresses, parts):
        return secrecy.WITHHELD
    return " ".join(detail.split())[:_LONGEST] or "no reason given"


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
