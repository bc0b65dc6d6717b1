"""What is to be done to the topics of a Kafka: decided from what was seen. Values only.

What is missing is made, what we declare and is otherwise is set. No topic is deleted, and none gets other partitions:
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
"""For the topic, for the cluster."""
OUT_OF_RANGE: Final = 1
"""There is no record of that number any more, or not yet."""
NOT_LEADER: Final = 6
TIMED_OUT: Final = 7
_NOT_YET: Final = {UNKNOWN_TOPIC, 5, NOT_LEADER, -1, TIMED_OUT, 9, 19, 20}
"""Not heard of, no leader yet, not the leader any more; something unexpected, timed out: brokers whose controllers are
away; copies that are not there, or too few of them.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSeen:
    """A topic as a broker tells of it."""

    code: int = 0
    """Why it does not."""
    partitions: int = 0
    replicas: int = 0
    """Copies of the partition that has the fewest."""
    leaderless: tuple[int, ...] = ()
    """Partitions that nobody can write to."""
    settings_code: int = 0
    """Why it does not tell the settings."""
    settings: Mapping[str, str] = field(default_factory=dict)
    """The values in force, of what we declare."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A cluster: how many brokers it has, and our topics."""

    brokers: int
    topics: Mapping[str, TopicSeen]


@dataclass(frozen=True, slots=True, kw_only=True)
class Make:
    """Makes a topic."""

    topic: Topic
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Sets what is otherwise; what we do not declare stays."""

    name: str
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do, or why nothing can be; and what a person should know."""

    makes: tuple[Make, ...] = ()
    changes: tuple[Change, ...] = ()
    reason: Reason = Reason.READY
    message: str = ""
    warnings: tuple[str, ...] = ()

    def without(self, names: AbstractSet[str]) -> Plan:
        """The same but for topics that something was done to already."""
        return replace(
            self,
            makes=tuple(one for one in self.makes if one.topic.name not in names),
            changes=tuple(one for one in self.changes if one.name not in names),
        )

    @property
    def steps(self) -> bool:
        """Whether there is something to do."""
        return bool(self.makes or self.changes)


def plan(seen: Seen, wanted: Sequence[Topic] = TOPICS) -> Plan:
    """What leads to the topics that are wanted."""
    makes, changes, warnings = [], [], []
    lacking: list[tuple[Reason, str]] = []
    for topic in wanted:
        live = seen.topics.get(topic.name, TopicSeen(code=UNKNOWN_TOPIC))
        if live.code == UNKNOWN_TOPIC:
            makes.append(Make(topic=topic, replicas=copies(seen.brokers)))
            continue
        for code, operation in ((live.code, "describe"), (live.settings_code, "describe the settings of")):
            if code:
                lacking.append(refusal(code, operation, topic.name))
        if live.code or live.settings_code:
            continue
        if live.leaderless:
            which = ", ".join(map(str, live.leaderless))
            lacking.append((Reason.UNREACHABLE, f"topic {topic.name} has no leader for partition {which}"))
        should = topic.configs(live.replicas)
        differing = {key: value for key, value in should.items() if live.settings.get(key) != value}
        if differing:
            changes.append(Change(name=topic.name, settings=differing))
        warnings += _warnings(topic, live, seen.brokers)
    reason, message = Reason.READY, ""
    if lacking:
        # A right that is missing is what a person can bring.
        lacking.sort(key=lambda one: one[0] is not Reason.PERMISSION_DENIED)
        reason, message = lacking[0][0], "; ".join(text for _, text in lacking)
    return Plan(makes=tuple(makes), changes=tuple(changes), reason=reason, message=message, warnings=tuple(warnings))


def copies(brokers: int) -> int:
    """How many a new topic gets."""
    return max(1, min(REPLICAS, brokers))


def refusal(code: int, operation: str, name: str, words: str = "") -> tuple[Reason, str]:
    """What a broker's code means for an operation on a topic."""
    if code in UNAUTHORIZED:
        return Reason.PERMISSION_DENIED, f"the login may not {operation} topic {name}"
    if code in _NOT_YET:
        return Reason.UNREACHABLE, f"topic {name}: the brokers could not {operation} it yet (code {code})"
    said = f": {words}" if words else ""
    return Reason.FAILED, f"topic {name}: to {operation} it was refused with code {code}{said}"


def _warnings(topic: Topic, live: TopicSeen, brokers: int) -> list[str]:
    said = []
    if live.partitions != topic.partitions:
        said.append(f"topic {topic.name} has {live.partitions} instead of {topic.partitions} partitions")
    if live.replicas < min(REPLICAS, brokers):
        said.append(f"topic {topic.name} has {live.replicas} instead of {min(REPLICAS, brokers)} copies")
    return said
