"""What a cluster says of Aether, as lines that a person reads: operator, objects, pods, data planes. Values only.

What a reason means and what to do about it comes from the table that documents the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape

from aether_operator.api import models, reasons
from aether_operator.api import platforms as api
from aether_operator.api.reasons import ConditionType, Reason, Remedy
from aether_operator.catalog import names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Object = dict[str, Any]
KINDS: Final = {"tradingplatform": "tradingplatforms", "tradingplatforms": "tradingplatforms", "tp": "tradingplatforms"}
"""How a person may name a kind → its plural."""
ALWAYS: Final = (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED)
GOOD_WHEN_FALSE: Final = frozenset(
    {ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.WARNING, ConditionType.PAUSED}
)
SHOWN_EVENTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableResource:
    """What whoever asks may not read."""

    what: str
    """In the plural, as RBAC names it."""
    namespace: str = ""
    """Where; empty for what is in no namespace, or in all of them."""

    def __str__(self) -> str:
        return f"{self.what} in namespace {self.namespace}" if self.namespace else self.what


@dataclass(frozen=True, slots=True, kw_only=True)
class AetherState:
    """Aether in a cluster, as its API shows it: operator Deployments, Leases, platforms, and the pods of both.

    What may not be read is named, and not judged.
    """

    deployments: Sequence[Object] = ()
    leases: Sequence[Object] = ()
    platforms: Sequence[Object] = ()
    pods: Sequence[Object] = ()
    unreadable: Sequence[UnreadableResource] = ()
    installed: bool = True
    """Whether the cluster knows our kinds."""

    @property
    def healthy(self) -> bool:
        """Whether everything that is there, and may be read, is as it should be."""
        if self.platforms and not self.deployments and not self.is_unreadable("deployments"):
            return False  # nobody keeps them so
        operators = all(
            _available(one) == _required(one) and (self.leader(space) or self.is_unreadable("leases", space))
            for one in self.deployments
            for space in [one["metadata"]["namespace"]]
        )
        return operators and all(map(is_ready, self.platforms)) and not self.unhealthy_pods

    @property
    def unhealthy_pods(self) -> list[Object]:
        """The pods that are neither Ready nor done."""
        return [one for one in self.pods if not _is_healthy(one)]

    def is_unreadable(self, what: str, namespace: str | None = None) -> bool:
        """Whether some of this may not be read, there or anywhere."""
        return any(one.what == what and namespace in {None, one.namespace} for one in self.unreadable)

    def record(self) -> dict[str, Any]:
        """As JSON values."""
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
            "platforms": [
                {
                    **_identity(one),
                    "venue": venue(one),
                    "generation": one["metadata"]["generation"],
                    "reconciled": is_reconciled(one),
                    "status": one.get("status", {}),
                }
                for one in self.platforms
            ],
            "pods": [{**_identity(one), "phase": one["status"].get("phase")} for one in self.pods],
            "installed": self.installed,
            "unread": [{"resource": one.what, "namespace": one.namespace} for one in self.unreadable],
        }

    def leader(self, namespace: str) -> str:
        """The pod that holds the Lease of the operator in this namespace; empty while nobody does."""
        holders = [
            str(one["spec"].get("holderIdentity") or "")
            for one in self.leases
            if one["metadata"]["namespace"] == namespace
        ]
        return next((holder.rpartition("_")[0] for holder in holders if holder), "")


def is_reconciled(platform: Object) -> bool:
    """Whether what the status says is about the newest spec."""
    return bool(platform.get("status", {}).get("observedGeneration") == platform["metadata"]["generation"])


def is_ready(platform: Object) -> bool:
    """Whether the newest spec of a platform is so, by the word of an operator."""
    conditions = {one["type"]: one for one in platform.get("status", {}).get("conditions") or ()}
    return is_reconciled(platform) and bool(conditions.get(ConditionType.READY, {}).get("status") == "True")


def venue(platform: Object) -> dict[str, str]:
    """Where a platform trades, and where its market data come from, by its spec."""
    said = platform.get("spec", {}).get("venue", {})
    name = str(said.get("name", "unknown"))
    feed = said.get("feed") or next((str(feed) for of, feed in api.FEEDS.items() if of == name), "unknown")
    return {"name": name, "feed": str(feed)}


def venues(platforms: Sequence[Object]) -> str:
    """The venues of some platforms, in a line; which platform has which where they differ."""
    told = {f"{one['metadata']['namespace']}/{one['metadata']['name']}": venue(one) for one in platforms}
    said = {which: f"venue {one['name']}, feed {one['feed']}" for which, one in told.items()}
    if len(set(said.values())) <= 1:
        return next(iter(said.values()), "no platform")
    return "; ".join(f"{which}: {words}" for which, words in sorted(said.items()))


def _identity(thing: Object) -> dict[str, str]:
    return {key: thing["metadata"][key] for key in ("namespace", "name")}


def _required(deployment: Object) -> int:
    return int(deployment["spec"].get("replicas", 1))


def _available(deployment: Object) -> int:
    return int(deployment.get("status", {}).get("availableReplicas", 0))


def _is_healthy(pod: Object) -> bool:
    status = pod.get("status", {})
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions") or ())
    return ready or status.get("phase") == "Succeeded"


def status_lines(state: AetherState) -> Iterator[str]:
    """The part of `aether status` that is about Aether, with markup."""
    if not state.installed:
        yield "  Aether is not installed: there is no kind TradingPlatform"
    for one in state.deployments:
        available, required = _available(one), _required(one)
        colour = "green" if available == required else "red"
        space = one["metadata"]["namespace"]
        leader = state.leader(space)
        no_leader = "its Lease may not be read" if state.is_unreadable("leases", space) else "[red]nobody leads[/]"
        yield (
            f"[bold]Operator[/]  namespace {escape(space)}: [{colour}]{available} of {required} replicas[/], "
            + (f"{escape(leader)} leads" if leader else no_leader)
        )
    if state.platforms and not state.deployments and not state.is_unreadable("deployments"):
        yield "[bold]Operator[/]  [red]none is there: nothing is repaired[/]"
    for platform in state.platforms:
        yield from _platform(platform)
    if state.unreadable:
        yield f"[yellow]Not shown, since you may not read it[/]  {escape('; '.join(map(str, state.unreadable)))}"


def _platform(platform: Object) -> Iterator[str]:
    meta, status = platform["metadata"], platform.get("status", {})
    where = venue(platform)
    yield (
        f"[bold]TradingPlatform {escape(meta['name'])}[/]  namespace {escape(meta['namespace'])}, "
        f"venue {escape(where['name'])}, feed {escape(where['feed'])}"
    )
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    if not conditions:
        yield "  [red]no word from an operator yet[/]"
    elif not is_reconciled(platform):  # Ready is said of the newest spec, or it is not known
        yield f"  {ConditionType.READY:<14} [red]Unknown[/] not yet reconciled  {_generation_note(platform)}"
        conditions.pop(ConditionType.READY, None)
    for one in conditions.values():
        if one["type"] in GOOD_WHEN_FALSE and one["status"] == "False":
            continue  # what is not the matter is not worth a line
        yield f"  {one['type']:<14} {_coloured(one)}  {escape(one.get('message', ''))}".rstrip()
    servers, endpoints = status.get("servers", {}), status.get("endpoints", {})
    for name in sorted({*servers, *endpoints}):
        where = endpoints.get(name, {})
        address = names.address(where["host"], where["port"]) if where.get("host") else "no address yet"
        database = f"/{where['database']}" if where.get("database") else ""
        secret = f", Secret {where['secretName']}" if where.get("secretName") else ""
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


def _generation_note(platform: Object) -> str:
    """That what follows is about a spec which is no longer the newest."""
    seen, newest = platform["status"].get("observedGeneration"), platform["metadata"]["generation"]
    return f"generation {newest}; what follows is of {seen}"


def _coloured(one: Object) -> str:
    good = (one["status"] == "True") != (one["type"] in GOOD_WHEN_FALSE)
    colour = "yellow" if one["type"] in {ConditionType.WARNING, ConditionType.PAUSED} else "green" if good else "red"
    return f"[{colour}]{one['status']}[/] {escape(one.get('reason', ''))}"


def explanation_lines(platform: Object, events: Sequence[Object]) -> Iterator[str]:
    """Why a platform is as it is, and what to do, in plain words; with markup."""
    meta, status = platform["metadata"], platform.get("status", {})
    name = f"TradingPlatform {meta['name']} in namespace {meta['namespace']}"
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    if not conditions:
        yield f"[bold]{escape(name)}: no operator has looked at it yet.[/]"
        yield "  Is one running, and does it watch this namespace? The status page shows the operators there are."
        return
    yield f"[bold]{escape(name)} {_summary(conditions, platform)}[/]"
    if not is_reconciled(platform):
        yield f"  Not yet reconciled: {_generation_note(platform)}."
        yield "  Does an operator run, and does it watch this namespace? The status page shows the operators there are."
    latest = sorted(events, key=_when)[-SHOWN_EVENTS:]
    if latest and latest[-1].get("reason") == Reason.RECONCILE_FAILED:
        when = _when(latest[-1])[:19]
        yield f"  [red]At {when} the operator could not finish its look at it; what follows is of before.[/]"
        yield from _reason_lines(Reason.RECONCILE_FAILED)
    seen = set[str]()
    for one in conditions.values():
        if not _needs_attention(one):
            continue
        said = (one.get("reason", ""), one.get("message", ""))
        if str(said) in seen:
            continue  # Ready repeats what a component says
        seen.add(str(said))
        yield ""
        yield f"  {one['type']} {_coloured(one)}"
        if one.get("message"):
            yield f"    {escape(one['message'])}"
        yield from _reason_lines(one.get("reason", ""))
    if latest:
        yield ""
        yield "  Lately"
        for event in latest:
            yield escape(
                f"    {_when(event)[:19]}  {event.get('reason', '')}: {event.get('note') or event.get('message', '')}"
            )


def _summary(conditions: dict[str, Object], platform: Object) -> str:
    if "deletionTimestamp" in platform["metadata"]:
        return "is being deleted."
    if not is_reconciled(platform):
        return "was edited, and the operator has not looked at that yet."
    for which, words in (
        (ConditionType.STALLED, "is stalled: it waits for a person."),
        (ConditionType.RECONCILING, "is on its way."),
    ):
        if conditions.get(which, {}).get("status") == "True":
            return words
    return "is Ready." if conditions.get(ConditionType.READY, {}).get("status") == "True" else "is not Ready."


def _needs_attention(one: Object) -> bool:
    """Whether a condition says something that a person may have to do something about."""
    if one["type"] in GOOD_WHEN_FALSE:
        return bool(one["status"] == "True")
    return bool(one["status"] != "True")


def _reason_lines(reason: str) -> Iterator[str]:
    try:
        text = reasons.TEXTS[Reason(reason)]
    except (KeyError, ValueError):
        # An operator that is newer than this command.
        yield "    This command does not know this reason: is it older than the operator?"
        return
    yield f"    What it means: {escape(text.meaning)}"
    if text.act:
        yield f"    What to do: {escape(text.act)}"
    if text.remedy is Remedy.TIME:
        yield "    It is looked at again by itself: once that is so, nothing more has to be done."


def _when(event: Object) -> str:
    last = event.get("series", {}).get("lastObservedTime")
    return str(last or event.get("eventTime") or event.get("metadata", {}).get("creationTimestamp") or "")


def parse_target(what: str) -> tuple[str, str] | None:
    """`KIND/NAME` as plural and name, also as `kubectl get -o name` says it; nothing where the kind is none of ours."""
    kind, slash, name = what.partition("/")
    plural = KINDS.get(kind.lower().removesuffix(f".{models.GROUP}"))
    return (plural, name) if slash and plural and name else None
