"""What a cluster says of Aether, as lines that a person reads: operator, objects, data planes. Values only.

What a reason means and what to do about it comes from the table that documents the reasons.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.markup import escape

from aether_operator.api import reasons
from aether_operator.api.reasons import ConditionType, Reason, Remedy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Thing = dict[str, Any]
KINDS: Final = {"tradingplatform": "tradingplatforms", "tradingplatforms": "tradingplatforms", "tp": "tradingplatforms"}
"""How a person may name a kind → its plural."""
ALWAYS: Final = (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED)
GOOD_WHEN_FALSE: Final = frozenset(
    {ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.WARNING, ConditionType.PAUSED}
)
SHOWN_EVENTS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """Aether in a cluster, as its API shows it: operator Deployments, Leases and platforms."""

    deployments: Sequence[Thing] = ()
    leases: Sequence[Thing] = ()
    platforms: Sequence[Thing] = ()

    @property
    def healthy(self) -> bool:
        """Whether everything that is there is as it should be."""
        if self.platforms and not self.deployments:
            return False  # nobody keeps them so
        operators = all(
            _available(one) == _wanted(one) and self.leader(one["metadata"]["namespace"]) for one in self.deployments
        )
        return operators and all(is_ready(one) for one in self.platforms)

    def record(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "operators": [
                {
                    **_named(one),
                    "available": _available(one),
                    "replicas": _wanted(one),
                    "leader": self.leader(one["metadata"]["namespace"]),
                }
                for one in self.deployments
            ],
            "platforms": [{**_named(one), "status": one.get("status", {})} for one in self.platforms],
        }

    def leader(self, namespace: str) -> str:
        """The pod that holds the Lease of the operator in this namespace; empty while nobody does."""
        holders = [
            str(one["spec"].get("holderIdentity") or "")
            for one in self.leases
            if one["metadata"]["namespace"] == namespace
        ]
        return next((holder.rpartition("_")[0] for holder in holders if holder), "")


def is_ready(platform: Thing) -> bool:
    """Whether the newest spec of a platform is so, by the word of an operator."""
    status = platform.get("status", {})
    conditions = {one["type"]: one for one in status.get("conditions", [])}
    current = status.get("observedGeneration") == platform["metadata"]["generation"]
    return bool(current and conditions.get(ConditionType.READY, {}).get("status") == "True")


def _named(thing: Thing) -> dict[str, str]:
    return {key: thing["metadata"][key] for key in ("namespace", "name")}


def _wanted(deployment: Thing) -> int:
    return int(deployment["spec"].get("replicas", 1))


def _available(deployment: Thing) -> int:
    return int(deployment.get("status", {}).get("availableReplicas", 0))


def page(desk: Desk) -> Iterator[str]:
    """The part of `aether status` that is about Aether, with markup; nothing where nothing is installed."""
    for one in desk.deployments:
        available, wanted = _available(one), _wanted(one)
        colour = "green" if available == wanted else "red"
        leader = desk.leader(one["metadata"]["namespace"])
        yield (
            f"[bold]Operator[/]  namespace {escape(one['metadata']['namespace'])}: "
            f"[{colour}]{available} of {wanted} replicas[/], "
            + (f"{escape(leader)} leads" if leader else "[red]nobody leads[/]")
        )
    if desk.platforms and not desk.deployments:
        yield "[bold]Operator[/]  [red]none is installed: nothing is repaired[/]"
    for platform in desk.platforms:
        yield from _platform(platform)


def _platform(platform: Thing) -> Iterator[str]:
    meta, status = platform["metadata"], platform.get("status", {})
    yield f"[bold]TradingPlatform {escape(meta['name'])}[/]  namespace {escape(meta['namespace'])}"
    conditions = {one["type"]: one for one in status.get("conditions", [])}
    if not conditions:
        yield "  [red]no word from an operator yet[/]"
    for one in conditions.values():
        if one["type"] in GOOD_WHEN_FALSE and one["status"] == "False":
            continue  # what is not the matter is not worth a line
        yield f"  {one['type']:<14} {_coloured(one)}  {escape(one.get('message', ''))}".rstrip()
    servers, endpoints = status.get("servers", {}), status.get("endpoints", {})
    for name in sorted({*servers, *endpoints}):
        where = endpoints.get(name, {})
        address = f"{where['host']}:{where['port']}" if where.get("host") else "no address yet"
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


def _coloured(one: Thing) -> str:
    good = (one["status"] == "True") != (one["type"] in GOOD_WHEN_FALSE)
    colour = "yellow" if one["type"] in {ConditionType.WARNING, ConditionType.PAUSED} else "green" if good else "red"
    return f"[{colour}]{one['status']}[/] {escape(one.get('reason', ''))}"


def explain(platform: Thing, events: Sequence[Thing]) -> Iterator[str]:
    """Why a platform is as it is, and what to do, in plain words; with markup."""
    meta, status = platform["metadata"], platform.get("status", {})
    name = f"TradingPlatform {meta['name']} in namespace {meta['namespace']}"
    conditions = {one["type"]: one for one in status.get("conditions", [])}
    if not conditions:
        yield f"[bold]{escape(name)}: no operator has looked at it yet.[/]"
        yield "  Is one running, and does it watch this namespace? aether status shows the operators there are."
        return
    yield f"[bold]{escape(name)} {_verdict(conditions, status, meta)}[/]"
    seen = set[str]()
    for one in conditions.values():
        if not _matters(one):
            continue
        said = (one.get("reason", ""), one.get("message", ""))
        if str(said) in seen:
            continue  # Ready repeats what a component says
        seen.add(str(said))
        yield ""
        yield f"  {one['type']} {_coloured(one)}"
        if one.get("message"):
            yield f"    {escape(one['message'])}"
        yield from _words(one.get("reason", ""))
    latest = sorted(events, key=_when)[-SHOWN_EVENTS:]
    if latest:
        yield ""
        yield "  Lately"
        for event in latest:
            yield escape(
                f"    {_when(event)[:19]}  {event.get('reason', '')}: {event.get('note') or event.get('message', '')}"
            )


def _verdict(conditions: dict[str, Thing], status: Thing, meta: Thing) -> str:
    if "deletionTimestamp" in meta:
        return "is being deleted."
    if status.get("observedGeneration") != meta["generation"]:
        return "was edited, and the operator has not looked at that yet."
    for which, words in (
        (ConditionType.STALLED, "is stalled: it waits for a person."),
        (ConditionType.RECONCILING, "is on its way."),
    ):
        if conditions.get(which, {}).get("status") == "True":
            return words
    return "is Ready." if conditions.get(ConditionType.READY, {}).get("status") == "True" else "is not Ready."


def _matters(one: Thing) -> bool:
    """Whether a condition says something that a person may have to do something about."""
    if one["type"] in GOOD_WHEN_FALSE:
        return bool(one["status"] == "True")
    return bool(one["status"] != "True")


def _words(reason: str) -> Iterator[str]:
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


def _when(event: Thing) -> str:
    last = event.get("series", {}).get("lastObservedTime")
    return str(last or event.get("eventTime") or event.get("metadata", {}).get("creationTimestamp") or "")


def parse(what: str) -> tuple[str, str] | None:
    """`KIND/NAME` as plural and name; nothing where it is not that or the kind is none of ours."""
    kind, slash, name = what.partition("/")
    plural = KINDS.get(kind.lower())
    return (plural, name) if slash and plural and name else None
