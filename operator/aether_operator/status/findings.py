"""What prevents an object from being Ready: its children and their pods. Kinds add findings of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aether_operator.api.reasons import Reason
from aether_operator.observed import live_objects, pod_problems, workloads
from aether_operator.status.conditions import Truth

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from aether_operator.observed.kinds import Ref
    from aether_operator.observed.observation import Observed
    from aether_operator.observed.pod_problems import Cause

SPEC: Final = "spec"
SCHEMA: Final = "schema"
TOPICS: Final = "topics"


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem: the part it is in, its reason, and a message with the exact name of what is missing."""

    part: str
    reason: Reason
    message: str
    known: bool = True
    """Whether the problem was observed; False if the part was not observed yet."""

    def __str__(self) -> str:
        return f"{self.part}: {self.message}"


def of_children(
    part: str, expected: Sequence[Ref], workload: tuple[Ref, Ref | None, int] | None, observed: Observed
) -> Finding | None:
    """What is wrong with these children; None if nothing is.

    `workload` is their StatefulSet, its claim if it has one, and its number of pods.
    """
    blockers = sorted((one for one in observed.blockers if one.ref in expected), key=lambda one: one.ref)
    if blockers:
        return Finding(part, blockers[0].reason, "; ".join(one.message for one in blockers))
    missing_refs = [str(ref) for ref in expected if ref not in observed.children]
    deleting = [
        str(ref) for ref in expected if ref in observed.children and live_objects.is_deleting(observed.children[ref])
    ]
    if missing_refs or deleting:
        wording = "does not exist" if observed.paused else "does not exist yet"
        texts = [f"{name} {wording}" for name in missing_refs] + [f"{name} is being deleted" for name in deleting]
        return _held(part, texts) if observed.paused else Finding(part, Reason.PROGRESSING, ", ".join(texts))
    if workload is None:
        return None
    stateful_set, claim, replicas = workload
    scaled = observed.children[stateful_set]["spec"].get("replicas", 1)
    if observed.paused and scaled < replicas:
        return _held(part, [f"{stateful_set} is scaled to {scaled} of {replicas} pods"])
    return _of_workload(part, stateful_set, claim, observed)


def _held(part: str, texts: Sequence[str]) -> Finding:
    """What stays incomplete while the owner is paused."""
    return Finding(part, Reason.PAUSED_BY_SPEC, f"{', '.join(texts)}, and nothing is changed while spec.paused is true")


def _of_workload(part: str, stateful_set: Ref, claim: Ref | None, observed: Observed) -> Finding | None:
    texts: list[tuple[Reason, str]] = []
    live = observed.children[stateful_set]
    if progress := workloads.unfinished(live):
        creation_problem = pod_problems.of_stateful_set(live, observed)
        texts.append(
            _with_cause(f"{stateful_set} {progress}: ", creation_problem)
            or (Reason.ROLLING_OUT, f"{stateful_set} {progress}")
        )
        for pod in workloads.pods_of(observed.pods, live):
            name, cause = f"Pod {pod['metadata']['name']}: ", workloads.pod_problem(pod)
            unscheduled = _with_cause(name, pod_problems.of_pod(pod))
            texts += [one for one in (unscheduled, (Reason.ROLLING_OUT, f"{name}{cause}") if cause else None) if one]
    if claim is not None and (progress := workloads.unbound(observed.children[claim])):
        volume = pod_problems.of_claim(observed.children[claim], observed)
        texts.append(_with_cause(f"{claim} ", volume) or (Reason.ROLLING_OUT, f"{claim} {progress}"))
    if not texts:
        return None
    # Root causes come before what follows from them: no volume, then no node.
    ordered = sorted(texts, key=lambda one: _ROOTS_FIRST.index(one[0]))
    return Finding(part, ordered[0][0], ", ".join(text for _, text in ordered))


_ROOTS_FIRST: Final = (Reason.POD_FORBIDDEN, Reason.VOLUME_MISSING, Reason.UNSCHEDULABLE, Reason.ROLLING_OUT)


def _with_cause(what: str, cause: Cause | None) -> tuple[Reason, str] | None:
    return None if cause is None else (cause.reason, f"{what}{cause}")


def not_started(part: str, observed: Observed) -> Finding:
    """For a part of an object that was never valid, or that was created paused."""
    if observed.paused:
        return Finding(part, Reason.PAUSED_BY_SPEC, "nothing is started while spec.paused is true", known=False)
    return Finding(part, Reason.PROGRESSING, "nothing runs yet", known=False)


def of_other_objects(expected: Collection[Ref], observed: Observed) -> tuple[Finding, ...]:
    """Blockers of objects that are not expected by the spec."""
    others = sorted((one for one in observed.blockers if one.ref not in expected), key=lambda one: one.ref)
    return tuple(Finding(SPEC, one.reason, one.message) for one in others)


def truth(finding: Finding) -> Truth:
    """False for an observed problem, Unknown for what was not observed yet."""
    return Truth.FALSE if finding.known else Truth.UNKNOWN
