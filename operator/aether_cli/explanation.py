"""The output of `aether explain`: why an object is not Ready, each cause once, and what to do. Pure functions: no I/O.

What a reason means and what to do about it comes from the operator's table of reasons. A cause is a part of the object
with a problem of its own; those of a platform are a server, the schema, the topics, the venue, ingest, the spec. A part
that only waits for others is not a cause: it is named as blocked by theirs.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from rich.markup import escape

from aether_cli.console import ShellCommand
from aether_cli.status_view import Object, coloured, generation_note, is_reconciled, venue
from aether_operator.api import platforms as api
from aether_operator.api import reasons
from aether_operator.api.reasons import ConditionType, Reason, Remedy
from aether_operator.catalog.components import COMPONENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SHOWN_EVENTS: Final = 5
PLACEHOLDER: Final = "…"
"""What the user replaces in a command line."""
SPEC: Final = "spec"
"""The part of problems that belong to no other part; the operator reports them in the Ready condition only."""
PART_CONDITIONS: Final[Mapping[ConditionType, str]] = {one: one.part for one in ConditionType if one.part}
"""Condition → the part that it is about, as the operator's messages name it."""
_LAST: Final = (Reason.ROLLING_OUT, Reason.PROGRESSING)
"""Reasons that usually follow from another cause."""


class CommandLines(Protocol):
    """Makes command lines for the cluster that is explained."""

    def kubectl_line(self, *words: str) -> str:
        """A command line of kubectl."""
        ...

    def with_options(self, text: str) -> str:
        """The same text, with the options that select the cluster in the commands that it names."""
        ...


class CurrentContext:
    """Command lines without options: for the cluster of the current context."""

    def kubectl_line(self, *words: str) -> str:
        """A command line of kubectl."""
        return quoted(["kubectl", *words])

    def with_options(self, text: str) -> str:
        """The same text."""
        return text


def quoted(words: Sequence[str]) -> str:
    """Words as a command line; a placeholder alone needs no quotes."""
    safe = [shlex.quote(word.replace(PLACEHOLDER, "x")) == word.replace(PLACEHOLDER, "x") for word in words]
    return " ".join(word if plain else shlex.quote(word) for word, plain in zip(words, safe, strict=True))


@dataclass(frozen=True, slots=True)
class Cause:
    """A problem that follows from no other one."""

    reason: str
    message: str
    parts: tuple[str, ...]
    """The parts that have it; several servers may use one Secret."""
    waiting: tuple[str, ...] = ()
    """The parts that only wait for these."""

    @property
    def blocked(self) -> tuple[str, ...]:
        """Everything that it keeps from being ready."""
        return tuple(one for one in (*self.parts, *self.waiting) if one != SPEC)


def causes(item: Object) -> list[Cause]:
    """The causes why an object is not Ready, those that a person must resolve first."""
    conditions = {one["type"]: one for one in item.get("status", {}).get("conditions") or ()}
    bad = {
        part: conditions[kind]
        for kind, part in PART_CONDITIONS.items()
        if kind in conditions and conditions[kind]["status"] != "True"
    }
    dependencies = dependencies_of(item) if item["kind"] == api.KIND else {}
    roots = [part for part in bad if not _waits(part, bad, dependencies)]
    waiting: dict[str, list[str]] = {part: [] for part in roots}
    for part in [one for one in bad if one not in roots]:
        found = [root for root in roots if root in _reachable(part, bad, dependencies)]
        if not found:  # parts that wait for each other: none is explained by another
            waiting[part] = []
        for root in found:
            waiting[root].append(part)
    grouped: dict[tuple[str, str], list[str]] = {}
    for part in waiting:
        grouped.setdefault((bad[part].get("reason", ""), bad[part].get("message", "")), []).append(part)
    result = [
        Cause(reason, message, tuple(parts), tuple(one for one in bad if any(one in waiting[part] for part in parts)))
        for (reason, message), parts in grouped.items()
    ]
    spec = _of_spec(conditions.get(ConditionType.READY), bad)
    if spec and "applied" not in item["status"]:  # no spec is in force, so nothing was started
        not_started = [one for one in result if one.reason == Reason.PROGRESSING]
        result = [one for one in result if one not in not_started]
        blocked = tuple(part for part in bad if any(part in one.blocked for one in not_started))
        spec = [replace(spec[0], waiting=blocked)]
    return sorted([*spec, *result], key=_urgency)


def _urgency(cause: Cause) -> tuple[bool, bool]:
    explained = _explained(cause.reason)
    return explained is None or explained.remedy is not Remedy.USER, cause.reason in _LAST


def dependencies_of(platform: Object) -> dict[str, tuple[str, ...]]:
    """Part of a platform → the parts that it waits for."""
    name = venue(platform)["name"]
    schema, topics = ConditionType.SCHEMA_READY.part, ConditionType.TOPICS_READY.part
    found: dict[str, tuple[str, ...]] = {schema: (api.Server.POSTGRES.value,), topics: (api.Server.KAFKA.value,)}
    for row in COMPONENTS.values():
        if name not in row.venues and set(row.venues) < set(api.VenueName):
            # It simulates a venue, and what calls the real one reports on that.
            found[row.condition.part] = tuple(one.condition.part for one in COMPONENTS.values() if one.calls_venue)
            continue
        found[row.condition.part] = (
            *(server.value for server in row.servers),
            *((schema,) if row.database_user is not None else ()),
            *((topics,) if row.topics else ()),
            *(COMPONENTS[called].condition.part for called in row.calls if called is not row.component),
        )
    return found


def _waits(part: str, bad: Mapping[str, Object], dependencies: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether a part only waits for another one with a problem."""
    return bad[part].get("reason") == Reason.PROGRESSING and any(one in bad for one in dependencies.get(part, ()))


def _reachable(part: str, bad: Mapping[str, Object], dependencies: Mapping[str, tuple[str, ...]]) -> set[str]:
    """The parts with a problem that a part waits for, directly or through others."""
    found, following = set[str](), [part]
    while following:
        for one in dependencies.get(following.pop(), ()):
            if one in bad and one not in found:
                found.add(one)
                following.append(one)
    return found


def _of_spec(ready: Object | None, bad: Mapping[str, Object]) -> list[Cause]:
    """What the Ready condition reports beyond the parts."""
    if ready is None or ready["status"] == "True":
        return []
    message, reason = str(ready.get("message", "")), str(ready.get("reason", ""))
    rest = message
    for part, one in bad.items():
        rest = rest.replace(f"{part}: {one.get('message', '')}", "")
    marker = f"{SPEC}: "
    if bad and marker not in rest and reason in {one.get("reason") for one in bad.values()}:
        return []
    if marker in rest:  # it may follow `not ready after 300 s: `
        rest = rest.partition(marker)[2].replace(marker, "")
        rest = "; ".join(one for one in rest.split("; ") if one.strip())
    return [Cause(reason, rest or message, (SPEC,))]


def explanation_lines(item: Object, events: Sequence[Object], commands: CommandLines | None = None) -> Iterator[str]:
    """The lines of `aether explain`, with markup: state, causes with what to do, warnings, recent events.

    Args:
        item: The object.
        events: Its events.
        commands: Makes the command lines for its cluster; by default for that of the current context.
    """
    commands = commands or CurrentContext()
    meta, status = item["metadata"], item.get("status", {})
    name = f"{item['kind']} {meta['name']} in namespace {meta['namespace']}"
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    no_operator = "  Is an operator running, and does it watch this namespace? `aether status` lists the operators."
    if not conditions:
        yield f"[bold]{escape(name)}: no operator has reconciled it yet.[/]"
        yield escape(commands.with_options(no_operator))
        return
    yield f"[bold]{escape(name)} {_summary(conditions, item)}[/]"
    if conditions.get(ConditionType.STALLED, {}).get("reason") == Reason.PROGRESS_DEADLINE_EXCEEDED:
        yield f"  {reasons.EXPLANATIONS[Reason.PROGRESS_DEADLINE_EXCEEDED].meaning}"
    if not is_reconciled(item):
        yield f"  Not yet reconciled: {generation_note(item)}."
        yield escape(commands.with_options(no_operator))
    latest = sorted(events, key=_when)[-SHOWN_EVENTS:]
    found = causes(item)
    shown_reasons = {one.reason for one in found}
    failed = bool(latest) and latest[-1].get("reason") == Reason.RECONCILE_FAILED
    if failed and Reason.RECONCILE_FAILED not in shown_reasons:
        yield f"  [red]A reconcile failed at {_when(latest[-1])[:19]}; the status is from before.[/]"
        yield from _reason_lines(Reason.RECONCILE_FAILED, commands)
    yield from _cause_lines(item, found, commands)
    for kind in (ConditionType.WARNING, ConditionType.PAUSED):
        one = conditions.get(kind)
        if one is not None and one["status"] == "True" and one.get("reason") not in shown_reasons:
            yield ""
            yield f"  {kind} {coloured(one)}"
            if one.get("message"):
                yield escape(f"    {commands.with_options(one['message'])}")
            yield from _reason_lines(one.get("reason", ""), commands)
    if latest:
        yield ""
        yield "  Recent events"
        shown = {status.get("message"), *(condition.get("message") for condition in conditions.values())}
        for event in latest:
            message = str(event.get("note") or event.get("message") or "")
            repeated = not message or message in shown  # the status has it, too
            text = "" if repeated else f": {commands.with_options(message)}"
            yield escape(f"    {_when(event)[:19]}  {event.get('reason', '')}{text}")


def _cause_lines(item: Object, found: Sequence[Cause], commands: CommandLines) -> Iterator[str]:
    """The causes, grouped by their reason, each group with what to do."""
    by_reason: dict[str, list[Cause]] = {}
    for one in found:
        by_reason.setdefault(one.reason, []).append(one)
    for reason, group in by_reason.items():
        yield ""
        explained = _explained(reason)
        meaning = explained.meaning if explained else "Unknown reason: is this command older than the operator?"
        yield f"  [red]{escape(reason)}[/]  {escape(meaning)}"
        for one in group:
            blocked = f" (blocks {', '.join(one.blocked)})" if one.blocked else ""
            yield escape(f"    {commands.with_options(one.message or one.reason)}{blocked}")
        if explained and explained.action:
            yield escape(f"    What to do: {commands.with_options(explained.action)}")
        yield from _secret_lines(item, group, commands)
    if by_reason.keys() - {Reason.TERMINATING}:
        yield ""
        yield "  The operator continues by itself once this is resolved."


def _secret_lines(item: Object, group: Sequence[Cause], commands: CommandLines) -> Iterator[str]:
    """The commands that create missing Secrets, or add missing keys, for the user to fill in."""
    namespace = f"--namespace={item['metadata']['namespace']}"
    verified = False
    for one in group:
        external = _external(item, one.parts[0])
        name = str(external.get("secretName", ""))
        if not name or f"Secret {name} " not in one.message:
            continue
        if one.reason == Reason.SECRET_MISSING:
            values = [f"--from-literal={key}={PLACEHOLDER}" for key in api.LOGIN_KEYS]
            words = ["create", "secret", "generic", name, "--namespace", namespace.partition("=")[2], *values]
            verified = verified or external.get("tls", api.Tls.VERIFY) == api.Tls.VERIFY
        elif one.reason == Reason.SECRET_KEY_MISSING:
            keys = ",".join(f'"{key}":"{PLACEHOLDER}"' for key in api.LOGIN_KEYS if f"no key {key}" in one.message)
            words = ["patch", "secret", name, namespace, "-p", f'{{"stringData":{{{keys}}}}}']
        else:
            continue
        yield ShellCommand(escape(f"      {commands.kubectl_line(*words)}"))
    if verified:
        yield (
            f"    Add --from-file={api.CA_KEY}=FILE where the server's certificate is not signed by one of the "
            "system's CAs."
        )


def _external(item: Object, part: str) -> Object:
    """The address of an External server in a platform's spec; empty for another part."""
    spec = item.get("spec", {}).get("dataPlane", {}).get(part) or {}
    return spec.get("external") or {}


def _summary(conditions: dict[str, Object], item: Object) -> str:
    if "deletionTimestamp" in item["metadata"]:
        return "is being deleted."
    if not is_reconciled(item):
        return "was edited, and no operator has reconciled the edit yet."
    for kind, text in (
        (ConditionType.STALLED, "is stalled: only a change by a person can make it Ready."),
        (ConditionType.RECONCILING, "is being reconciled."),
    ):
        if conditions.get(kind, {}).get("status") == "True":
            return text
    return "is Ready." if conditions.get(ConditionType.READY, {}).get("status") == "True" else "is not Ready."


def _explained(reason: str) -> reasons.Explanation | None:
    """What a reason means; None for one of a newer operator."""
    try:
        return reasons.EXPLANATIONS[Reason(reason)]
    except (KeyError, ValueError):
        return None


def _reason_lines(reason: str, commands: CommandLines) -> Iterator[str]:
    text = _explained(reason)
    if text is None:
        yield "    Unknown reason: is this command older than the operator?"
        return
    yield f"    What it means: {escape(text.meaning)}"
    if text.action:
        yield f"    What to do: {escape(commands.with_options(text.action))}"


def _when(event: Object) -> str:
    last = event.get("series", {}).get("lastObservedTime")
    return str(last or event.get("eventTime") or event.get("metadata", {}).get("creationTimestamp") or "")
