"""The output of `aether status`, built from a cluster's objects. Pure functions: no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape

from aether_operator.api import platforms as api
from aether_operator.api.definitions import DEFINITIONS
from aether_operator.api.reasons import ConditionType
from aether_operator.catalog import names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aether_operator.api.definition import Definition, Definitions

Object = dict[str, Any]
"""A Kubernetes object as JSON."""
GOOD_WHEN_FALSE: Final = frozenset(
    {ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.WARNING, ConditionType.PAUSED}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableResource:
    """A resource that the user may not read."""

    resource: str
    """Its plural, as in RBAC rules."""
    namespace: str = ""
    """Empty for a cluster-scoped resource and for all namespaces."""

    def __str__(self) -> str:
        return f"{self.resource} in namespace {self.namespace}" if self.namespace else self.resource


@dataclass(frozen=True, slots=True, kw_only=True)
class AetherState:
    """Aether's objects in a cluster: operator Deployments, Leases, the objects of our kinds, and the pods of both.

    Resources that the user may not read are listed in `unreadable`; they do not make the state unhealthy.
    """

    deployments: Sequence[Object] = ()
    leases: Sequence[Object] = ()
    platforms: Sequence[Object] = ()
    others: Sequence[Object] = ()
    """The objects of our other kinds."""
    pods: Sequence[Object] = ()
    unreadable: Sequence[UnreadableResource] = ()
    installed: bool = True
    """Whether Aether's CRDs are installed."""

    @property
    def healthy(self) -> bool:
        """Whether operators, objects and pods are ready, as far as the user may read them."""
        if self.without_operator:
            return False
        operators = all(
            _available(one) == _required(one) and (self.leader(namespace) or self.is_unreadable("leases", namespace))
            for one in self.deployments
            for namespace in [one["metadata"]["namespace"]]
        )
        return operators and all(map(is_ready, (*self.platforms, *self.others))) and not self.unhealthy_pods

    @property
    def without_operator(self) -> bool:
        """Whether there are objects, and no operator that reconciles them."""
        return bool(self.platforms or self.others) and not (self.deployments or self.is_unreadable("deployments"))

    @property
    def unhealthy_pods(self) -> list[Object]:
        """The pods that are neither Ready nor Succeeded."""
        return [one for one in self.pods if not _is_healthy(one)]

    def is_unreadable(self, resource: str, namespace: str | None = None) -> bool:
        """Whether the user may not read this resource in the namespace; with None, in any namespace."""
        return any(one.resource == resource and namespace in {None, one.namespace} for one in self.unreadable)

    def record(self) -> dict[str, Any]:
        """The state as JSON values."""
        return {
            "operators": [
                {
                    **_identity(one),
                    "available": _available(one),
                    "replicas": _required(one),
                    "leader": self.leader(one["metadata"]["namespace"]),
                }
                for one in self.deployments
            ],
            "platforms": [{**_identity(one), "venue": venue(one), **_progress(one)} for one in self.platforms],
            **(
                {"others": [{"kind": one["kind"], **_identity(one), **_progress(one)} for one in self.others]}
                if self.others
                else {}
            ),
            "pods": [{**_identity(one), "phase": one["status"].get("phase")} for one in self.pods],
            "installed": self.installed,
            "forbidden": [{"resource": one.resource, "namespace": one.namespace} for one in self.unreadable],
        }

    def leader(self, namespace: str) -> str:
        """The pod that holds the operator's Lease in this namespace; empty where none does."""
        holders = [
            str(one["spec"].get("holderIdentity") or "")
            for one in self.leases
            if one["metadata"]["namespace"] == namespace
        ]
        return next((holder.rpartition("_")[0] for holder in holders if holder), "")


def is_reconciled(item: Object) -> bool:
    """Whether the status is about the newest generation of the spec."""
    return bool(item.get("status", {}).get("observedGeneration") == item["metadata"]["generation"])


def is_ready(item: Object) -> bool:
    """Whether an object is Ready, and that about the newest generation of its spec."""
    conditions = {one["type"]: one for one in item.get("status", {}).get("conditions") or ()}
    return is_reconciled(item) and bool(conditions.get(ConditionType.READY, {}).get("status") == "True")


def venue(platform: Object) -> dict[str, str]:
    """The venue of a platform's spec, and its feed: that of the spec, or the venue's default."""
    spec = platform.get("spec", {}).get("venue", {})
    name = str(spec.get("name", "unknown"))
    feed = spec.get("feed") or next((str(feed) for of, feed in api.FEEDS.items() if of == name), "unknown")
    return {"name": name, "feed": str(feed)}


def venues(platforms: Sequence[Object]) -> str:
    """The venues of some platforms in one line; where they differ, each with its platform."""
    by_platform = {f"{one['metadata']['namespace']}/{one['metadata']['name']}": venue(one) for one in platforms}
    texts = {name: f"venue {one['name']}, feed {one['feed']}" for name, one in by_platform.items()}
    if len(set(texts.values())) <= 1:
        return next(iter(texts.values()), "no platform")
    return "; ".join(f"{name}: {text}" for name, text in sorted(texts.items()))


def _identity(item: Object) -> dict[str, str]:
    return {key: item["metadata"][key] for key in ("namespace", "name")}


def _progress(item: Object) -> dict[str, Any]:
    return {
        "generation": item["metadata"]["generation"],
        "reconciled": is_reconciled(item),
        "status": item.get("status", {}),
    }


def _required(deployment: Object) -> int:
    return int(deployment["spec"].get("replicas", 1))


def _available(deployment: Object) -> int:
    return int(deployment.get("status", {}).get("availableReplicas", 0))


def _is_healthy(pod: Object) -> bool:
    status = pod.get("status", {})
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ())
    return ready or status.get("phase") == "Succeeded"


def status_lines(state: AetherState) -> Iterator[str]:
    """The lines of `aether status` about operators and the objects of our kinds, with markup."""
    if not state.installed:
        yield f"  Aether is not installed: the cluster has no kind {api.KIND}"
    for one in state.deployments:
        available, required = _available(one), _required(one)
        colour = "green" if available == required else "red"
        namespace = one["metadata"]["namespace"]
        leader = state.leader(namespace)
        unknown = "leader unknown" if state.is_unreadable("leases", namespace) else "[red]no leader[/]"
        yield (
            f"[bold]Operator[/]  namespace {escape(namespace)}: [{colour}]{available} of {required} replicas[/], "
            + (f"leader {escape(leader)}" if leader else unknown)
        )
    if state.without_operator:
        what = "platforms" if state.platforms else "objects"
        yield f"[bold]Operator[/]  [red]not found: {what} are not reconciled[/]"
    for platform in state.platforms:
        yield from _platform(platform)
    for item in state.others:
        yield f"[bold]{item['kind']} {escape(item['metadata']['name'])}[/]  {_namespace(item)}"
        yield from _conditions(item)
    if state.unreadable:
        yield f"[yellow]Not shown: forbidden to you[/]  {escape('; '.join(map(str, state.unreadable)))}"


def _platform(platform: Object) -> Iterator[str]:
    status, of_venue = platform.get("status", {}), venue(platform)
    yield (
        f"[bold]{api.KIND} {escape(platform['metadata']['name'])}[/]  {_namespace(platform)}, "
        f"venue {escape(of_venue['name'])}, feed {escape(of_venue['feed'])}"
    )
    yield from _conditions(platform)
    servers, endpoints = status.get("servers", {}), status.get("endpoints", {})
    for name in sorted({*servers, *endpoints}):
        endpoint = endpoints.get(name, {})
        address = names.address(endpoint["host"], endpoint["port"]) if endpoint.get("host") else "no address yet"
        database = f"/{endpoint['database']}" if endpoint.get("database") else ""
        secret = f", Secret {endpoint['secretName']}" if endpoint.get("secretName") else ""
        version = servers.get(name, {}).get("version", "")
        yield escape(f"  {name:<9} {address}{database}{secret}" + (f"  {version}" if version else ""))
    schema = status.get("schema", {})
    if schema:
        parts = [
            f"revision {schema['revision']}" if schema.get("revision") else "",
            str(schema.get("engine", "")),
            f"trades for {schema['tradesDays']} days" if schema.get("tradesDays") else "",
        ]
        yield escape(f"  schema    {', '.join(part for part in parts if part)}")


def _namespace(item: Object) -> str:
    return f"namespace {escape(item['metadata']['namespace'])}"


def _conditions(item: Object) -> Iterator[str]:
    """The conditions of an object, without those that say that nothing is wrong."""
    conditions = {one["type"]: one for one in item.get("status", {}).get("conditions") or ()}
    if not conditions:
        yield "  [red]no status yet: no operator has reconciled it[/]"
    elif not is_reconciled(item):  # the Ready condition is about an older spec
        yield f"  {ConditionType.READY:<14} [red]Unknown[/] not yet reconciled  {generation_note(item)}"
        conditions.pop(ConditionType.READY, None)
    for one in conditions.values():
        if one["type"] in GOOD_WHEN_FALSE and one["status"] == "False":
            continue
        yield f"  {one['type']:<14} {coloured(one)}  {escape(one.get('message', ''))}".rstrip()


def generation_note(item: Object) -> str:
    """Which generation the status is about, for a status that is older than the spec."""
    observed, newest = item["status"].get("observedGeneration"), item["metadata"]["generation"]
    return f"generation {newest}, the status is of generation {observed}"


def coloured(one: Object) -> str:
    good = (one["status"] == "True") != (one["type"] in GOOD_WHEN_FALSE)
    colour = "yellow" if one["type"] in {ConditionType.WARNING, ConditionType.PAUSED} else "green" if good else "red"
    return f"[{colour}]{one['status']}[/] {escape(one.get('reason', ''))}"


def parse_target(what: str, definitions: Definitions = DEFINITIONS) -> tuple[Definition, str] | None:
    """Parse `KIND/NAME`, also as `kubectl get -o name` prints it.

    Returns:
        The kind and the name; None where it is not a kind of Aether's, or not of this form.
    """
    kind, _, name = what.partition("/")
    definition = next((one for one in definitions.values() if one.is_called(kind)), None)
    return (definition, name) if definition and name else None
