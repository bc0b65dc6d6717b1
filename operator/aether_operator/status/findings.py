"""What stands between a platform and Ready, part by part, as it was seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aether_operator.api.platforms import Server
from aether_operator.api.reasons import ConditionType, Reason
from aether_operator.observed import child_refs, live_objects, pod_problems, workloads
from aether_operator.status.conditions import Condition, Truth

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aether_operator.api.platforms import Platform
    from aether_operator.observed.kinds import Ref
    from aether_operator.observed.observation import Observed
    from aether_operator.observed.pod_problems import Cause

CONDITIONS: Final[Mapping[Server, ConditionType]] = {
    Server.POSTGRES: ConditionType.POSTGRES_READY,
    Server.KAFKA: ConditionType.KAFKA_READY,
    Server.NATS: ConditionType.NATS_READY,
    Server.REDIS: ConditionType.REDIS_READY,
}
SPEC: Final = "spec"
SCHEMA: Final = "schema"
TOPICS: Final = "topics"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: in which part, why, and the exact name of what is missing."""

    part: str
    reason: Reason
    message: str
    known: bool = True
    """Whether it was seen to be wrong; else it has not been seen yet."""

    def __str__(self) -> str:
        return f"{self.part}: {self.message}"


def of_server(server: Server, platform: Platform, observed: Observed) -> Finding | None:
    """What is wrong with a server: our own children first, then what the server said."""
    workload = None
    if server in child_refs.managed_servers(platform):
        workload = (child_refs.stateful_set(server, platform), child_refs.claim(server, platform), 1)
    expected = child_refs.of_server(server, platform)
    return of_children(server.value, expected, workload, observed) or _of_report(server, observed)


def of_children(
    part: str, expected: Sequence[Ref], workload: tuple[Ref, Ref | None, int] | None, observed: Observed
) -> Finding | None:
    """What is wrong with children of ours.

    `workload` is the StatefulSet among them, its claim if it has one, and how many pods it should have.
    """
    blockers = sorted((one for one in observed.blockers if one.ref in expected), key=lambda one: one.ref)
    if blockers:
        return Finding(part, blockers[0].reason, "; ".join(one.message for one in blockers))
    absent = [str(ref) for ref in expected if ref not in observed.children]
    leaving = [
        str(ref) for ref in expected if ref in observed.children and live_objects.is_deleting(observed.children[ref])
    ]
    if absent or leaving:
        missing = "is not there" if observed.paused else "is not there yet"
        said = [f"{name} {missing}" for name in absent] + [f"{name} is being deleted" for name in leaving]
        return _held(part, said) if observed.paused else Finding(part, Reason.PROGRESSING, ", ".join(said))
    if workload is None:
        return None
    stateful_set, claim, wanted = workload
    scaled = observed.children[stateful_set]["spec"].get("replicas", 1)
    if observed.paused and scaled < wanted:
        return _held(part, [f"{stateful_set} is scaled to {scaled} of {wanted} pods"])
    return _of_workload(part, stateful_set, claim, observed)


def _held(part: str, said: Sequence[str]) -> Finding:
    """What stays as it is until somebody ends the pause."""
    return Finding(part, Reason.PAUSED_BY_SPEC, f"{', '.join(said)}, and nothing is changed while spec.paused is true")


def _of_workload(part: str, stateful_set: Ref, claim: Ref | None, observed: Observed) -> Finding | None:
    said: list[tuple[Reason, str]] = []
    live = observed.children[stateful_set]
    if rest := workloads.unfinished(live):
        forbidding = pod_problems.of_stateful_set(live, observed)
        said.append(_told(f"{stateful_set} {rest}: ", forbidding) or (Reason.ROLLING_OUT, f"{stateful_set} {rest}"))
        for pod in workloads.pods_of(observed.pods, live):
            name, cause = f"Pod {pod['metadata']['name']}: ", workloads.pod_problem(pod)
            unplaced = _told(name, pod_problems.of_pod(pod))
            said += [one for one in (unplaced, (Reason.ROLLING_OUT, f"{name}{cause}") if cause else None) if one]
    if claim is not None and (rest := workloads.unbound(observed.children[claim])):
        volume = pod_problems.of_claim(observed.children[claim], observed)
        said.append(_told(f"{claim} ", volume) or (Reason.ROLLING_OUT, f"{claim} {rest}"))
    if not said:
        return None
    # What stands in the way is said before what follows from it: no volume, no node.
    ordered = sorted(said, key=lambda one: _ROOTS_FIRST.index(one[0]))
    return Finding(part, ordered[0][0], ", ".join(text for _, text in ordered))


_ROOTS_FIRST: Final = (Reason.POD_FORBIDDEN, Reason.VOLUME_MISSING, Reason.UNSCHEDULABLE, Reason.ROLLING_OUT)


def _told(what: str, cause: Cause | None) -> tuple[Reason, str] | None:
    return None if cause is None else (cause.reason, f"{what}{cause}")


def _of_report(server: Server, observed: Observed) -> Finding | None:
    report = observed.servers.get(server)
    if report is None:
        return Finding(server.value, Reason.PROGRESSING, "it was not asked yet", known=False)
    return None if report.ok else Finding(server.value, report.reason, report.message or report.reason.value)


def not_started(part: str, observed: Observed) -> Finding:
    """Of a part of a platform that was never valid, or was paused from the beginning."""
    if observed.paused:
        return Finding(part, Reason.PAUSED_BY_SPEC, "nothing is started while spec.paused is true", known=False)
    return Finding(part, Reason.PROGRESSING, "nothing runs yet", known=False)


def of_other_objects(platform: Platform, observed: Observed) -> tuple[Finding, ...]:
    """Troubles with objects that are no server's."""
    expected = set(child_refs.all_of(platform))
    others = sorted((one for one in observed.blockers if one.ref not in expected), key=lambda one: one.ref)
    return tuple(Finding(SPEC, one.reason, one.message) for one in others)


def condition(server: Server, finding: Finding | None, version: str) -> Condition:
    """A server's own condition."""
    if finding is None:
        return Condition(CONDITIONS[server], Truth.TRUE, Reason.READY, version)
    return Condition(CONDITIONS[server], truth(finding), finding.reason, finding.message)


def truth(finding: Finding) -> Truth:
    """False, or Unknown for what was not seen."""
    return Truth.FALSE if finding.known else Truth.UNKNOWN
