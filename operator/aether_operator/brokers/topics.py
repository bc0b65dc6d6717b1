"""Plans the topics of a Kafka from its observed state. Pure functions.

A missing topic is created, a declared setting that differs is set. No topic is deleted, and none gets other partitions:
its markets would move between them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from aether_operator.api.reasons import Reason
from aether_operator.catalog.components import TOPICS
from aether_operator.catalog.topics import REPLICAS, Topic

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

UNKNOWN_TOPIC: Final = 3
UNAUTHORIZED: Final = {29, 31}
"""TOPIC_AUTHORIZATION_FAILED, CLUSTER_AUTHORIZATION_FAILED."""
OUT_OF_RANGE: Final = 1
"""OFFSET_OUT_OF_RANGE: no record of that offset any more, or not yet."""
NOT_LEADER: Final = 6
TIMED_OUT: Final = 7
_TRANSIENT: Final = {UNKNOWN_TOPIC, 5, NOT_LEADER, -1, TIMED_OUT, 9, 19, 20}
"""Unknown topic, no leader yet, not the leader; unknown server error and timed out, as brokers without a controller
respond; replicas missing or too few.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicState:
    """A topic as a broker describes it."""

    code: int = 0
    """The error code of describing it; 0 is none."""
    partitions: int = 0
    replicas: int = 0
    """Replicas of the partition that has the fewest."""
    leaderless: tuple[int, ...] = ()
    """Partitions without a leader, which cannot be written to."""
    settings_code: int = 0
    """The error code of describing its configs; 0 is none."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The effective values of the configs that we declare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterState:
    """A Kafka cluster: how many brokers it has, and those of our topics that exist or could not be described."""

    brokers: int
    topics: Mapping[str, TopicState]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTopic:
    """A topic to create."""

    topic: Topic
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlterTopic:
    """Configs to set; the topic's other configs stay."""

    name: str
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPlan:
    """What to create and alter; what is wrong that neither cures (`reason`, `message`); and warnings."""

    to_create: tuple[CreateTopic, ...] = ()
    to_alter: tuple[AlterTopic, ...] = ()
    reason: Reason = Reason.READY
    message: str = ""
    warnings: tuple[str, ...] = ()

    def without(self, names: AbstractSet[str]) -> TopicPlan:
        """The plan without these topics, which were created or altered already."""
        return replace(
            self,
            to_create=tuple(one for one in self.to_create if one.topic.name not in names),
            to_alter=tuple(one for one in self.to_alter if one.name not in names),
        )

    @property
    def has_changes(self) -> bool:
        """Whether there is anything to create or alter."""
        return bool(self.to_create or self.to_alter)


def plan(observed: ClusterState, desired: Sequence[Topic] = TOPICS) -> TopicPlan:
    """What leads from the observed topics to the desired ones."""
    to_create, to_alter, warnings = [], [], []
    problems: list[tuple[Reason, str]] = []
    for topic in desired:
        state = observed.topics.get(topic.name, TopicState(code=UNKNOWN_TOPIC))
        if state.code == UNKNOWN_TOPIC:
            to_create.append(CreateTopic(topic=topic, replicas=replication(observed.brokers)))
            continue
        for code, operation in (
            (state.code, "describe"),
            (state.settings_code, "describe the settings of"),
        ):
            if code:
                problems.append(reason_for_code(code, operation, topic.name))
        if state.code or state.settings_code:
            continue
        if state.leaderless:
            which = ", ".join(map(str, state.leaderless))
            problems.append((Reason.UNREACHABLE, f"topic {topic.name} has no leader for partition {which}"))
        declared = topic.configs(state.replicas)
        differing = {key: value for key, value in declared.items() if state.settings.get(key) != value}
        if differing:
            to_alter.append(AlterTopic(name=topic.name, settings=differing))
        warnings += _warnings(topic, state, observed.brokers)
    reason, message = Reason.READY, ""
    if problems:
        # A missing right comes first: a person can grant it.
        problems.sort(key=lambda one: one[0] is not Reason.PERMISSION_DENIED)
        reason, message = problems[0][0], "; ".join(text for _, text in problems)
    return TopicPlan(
        to_create=tuple(to_create), to_alter=tuple(to_alter), reason=reason, message=message, warnings=tuple(warnings)
    )


def replication(brokers: int) -> int:
    """How many replicas a new topic gets."""
    return max(1, min(REPLICAS, brokers))


def reason_for_code(code: int, operation: str, name: str, detail: str = "") -> tuple[Reason, str]:
    """The reason and message for a broker's error code after an operation on a topic."""
    if code in UNAUTHORIZED:
        return Reason.PERMISSION_DENIED, f"the login may not {operation} topic {name}"
    if code in _TRANSIENT:
        return Reason.UNREACHABLE, f"topic {name}: the brokers could not {operation} it yet (code {code})"
    cause = f": {detail}" if detail else ""
    return Reason.FAILED, f"topic {name}: the brokers rejected to {operation} it (code {code}){cause}"


def _warnings(topic: Topic, state: TopicState, brokers: int) -> list[str]:
    warnings = []
    if state.partitions != topic.partitions:
        warnings.append(f"topic {topic.name} has {state.partitions} instead of {topic.partitions} partitions")
    if state.replicas < min(REPLICAS, brokers):
        warnings.append(f"topic {topic.name} has {state.replicas} instead of {min(REPLICAS, brokers)} replicas")
    return warnings
