"""Brings the topics of a Kafka to what a platform wants: looks, decides, does it, looks again.

By the same one connection as the check, and for the same reason. The library knows no request that changes some
settings of a topic and leaves the others; the older one that it has would reset them.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING, Final

from aiokafka.protocol import types
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest

from aether_operator.api.platforms import Server
from aether_operator.brokers import connecting, kafka, topics
from aether_operator.brokers.connecting import Refused
from aether_operator.brokers.topics import Seen, TopicSeen
from aether_operator.catalog.rooms import TOPICS
from aether_operator.observed.reports import TopicsReport

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiokafka.conn import AIOKafkaConnection

    from aether_operator.brokers.topics import Change, Make, Plan
    from aether_operator.observed.endpoints import Endpoint

log = logging.getLogger(__name__)

TOPIC: Final = 2
"""A resource's type, as settings know it."""
SET: Final = 0
NOT_CONTROLLER: Final = 41
THERE_ALREADY: Final = 36
REQUEST: Final = 5000
"""Milliseconds that a broker has for a request."""
AGAIN: Final = 0.2
"""Seconds until the next look at what was done, which brokers hear of one after the other."""
PATIENCE: Final = 0.8
"""The part of the deadline in which what was done should be seen."""
_KEYS: Final = sorted(TOPICS[0].configs(1))


async def bring_up(endpoint: Endpoint, guard: Callable[[], object], *, deadline: float) -> TopicsReport:
    """Bring the topics to what is wanted; takes at most `deadline` seconds, and writes nothing where nothing is to do.

    Args:
        endpoint: A broker.
        guard: Raises when this process does not lead any more; asked before everything that writes.
        deadline: In seconds.

    Raises:
        Exception: Whatever the guard raises.
    """
    asking = _converge(endpoint, guard, deadline)
    try:
        found = await connecting.answered(Server.KAFKA, endpoint, asking, deadline=deadline)
    except connecting.Withheld as withheld:
        raise withheld.__cause__ or withheld from None
    if isinstance(found, Refused):
        return TopicsReport(reason=found.reason, message=found.message)
    if found.message:
        return dataclasses.replace(found, message=f"{connecting.place(endpoint)}: {found.message}")
    return found


async def _converge(endpoint: Endpoint, guard: Callable[[], object], deadline: float) -> TopicsReport:
    made: set[str] = set()
    changed: set[str] = set()
    until = _now() + deadline * PATIENCE
    async with kafka.connected(endpoint, deadline) as connection:
        while True:
            seen = await _look(connection)
            plan = topics.plan(seen)
            todo = plan.without(made | changed)
            if todo.steps:
                await _do(endpoint, connection, todo, guard, deadline)
                made |= {one.topic.name for one in todo.makes}
                changed |= {one.name for one in todo.changes}
                log.info("topics_set", extra={"made": sorted(made), "changed": sorted(changed)})
            # Brokers hear of it one after the other, and choose leaders.
            elif not (made or changed) or plan == topics.Plan(warnings=plan.warnings) or _now() > until:
                break
            await asyncio.sleep(AGAIN)
    reason, message = plan.reason, plan.message
    if plan.steps:
        names = [one.topic.name for one in plan.makes] + [one.name for one in plan.changes]
        reason, message = topics.refusal(topics.TIMED_OUT, "set up", ", ".join(names))
    return TopicsReport(
        reason=reason,
        message=message,
        made=tuple(sorted(made)),
        changed=tuple(sorted(changed)),
        topics=tuple(sorted(name for name, one in seen.topics.items() if not one.code)),
        warnings=plan.warnings,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _do(
    endpoint: Endpoint, connection: AIOKafkaConnection, plan: Plan, guard: Callable[[], object], deadline: float
) -> None:
    try:
        guard()
    except Exception as lost:
        raise connecting.Withheld from lost
    if plan.makes:
        await _make(endpoint, connection, plan.makes, deadline)
    if plan.changes:
        await _change(endpoint, connection, plan.changes)


async def _look(connection: AIOKafkaConnection) -> Seen:
    names = [topic.name for topic in TOPICS]
    answer = await connection.send(MetadataRequest(names, allow_auto_topic_creation=False))
    found = {}
    for code, name, _, parts in answer.topics:
        partitions = [(one[1], one[2], len(one[3])) for one in parts]
        found[name] = TopicSeen(
            code=code,
            partitions=len(partitions),
            replicas=min((copies for _, _, copies in partitions), default=0),
            leaderless=tuple(sorted(number for number, leader, _ in partitions if leader < 0)),
        )
    there = [name for name, one in found.items() if not one.code]
    if there:
        described = await connection.send(DescribeConfigsRequest([(TOPIC, name, _KEYS) for name in there]))
        for code, _, _, name, entries in described.resources:
            settings = {entry[0]: entry[1] for entry in entries}
            found[name] = dataclasses.replace(found[name], settings_code=code, settings=settings)
    return Seen(brokers=len(answer.brokers), topics=found)


async def _make(endpoint: Endpoint, connection: AIOKafkaConnection, makes: Sequence[Make], deadline: float) -> None:
    wanted = [
        (make.topic.name, make.topic.partitions, make.replicas, (), tuple(make.topic.configs(make.replicas).items()))
        for make in makes
    ]
    request = CreateTopicsRequest(wanted, timeout=REQUEST, validate_only=False)
    answer = await connection.send(request)
    if any(code == NOT_CONTROLLER for _, code, _ in answer.topic_errors):
        # Brokers that still live with ZooKeeper do not hand it on.
        known = await connection.send(MetadataRequest([], allow_auto_topic_creation=False))
        place = next(one for one in known.brokers if one[0] == known.controller_id)
        controller = dataclasses.replace(endpoint, host=place[1], port=place[2])
        async with kafka.connected(controller, deadline) as other:
            answer = await other.send(request)
    for name, code, words in answer.topic_errors:
        if code not in {0, THERE_ALREADY}:
            raise Refused(*topics.refusal(code, "create", name, endpoint.words(words or "")))


async def _change(endpoint: Endpoint, connection: AIOKafkaConnection, changes: Sequence[Change]) -> None:
    answer = await connection.send(_SetConfigs(changes))
    for code, words, _, name in answer.results:
        if code:
            raise Refused(*topics.refusal(code, "change the settings of", name, endpoint.words(words or "")))


class _SetConfigsResponse(Response):  # type: ignore[misc]  # the library has no types, and not this request
    API_KEY = 44
    API_VERSION = 0
    SCHEMA = types.Schema(
        ("throttle_time_ms", types.Int32),
        (
            "results",
            types.Array(
                ("error_code", types.Int16),
                ("error_message", types.String("utf-8")),
                ("resource_type", types.Int8),
                ("resource_name", types.String("utf-8")),
            ),
        ),
    )


class _SetConfigsRequest(RequestStruct):  # type: ignore[misc]
    """IncrementalAlterConfigs: sets what it names, and leaves what it does not."""

    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _SetConfigsResponse
    SCHEMA = types.Schema(
        (
            "resources",
            types.Array(
                ("resource_type", types.Int8),
                ("resource_name", types.String("utf-8")),
                (
                    "configs",
                    types.Array(
                        ("name", types.String("utf-8")), ("operation", types.Int8), ("value", types.String("utf-8"))
                    ),
                ),
            ),
        ),
        ("validate_only", types.Boolean),
    )


class _SetConfigs(Request[_SetConfigsRequest]):  # type: ignore[misc]
    API_KEY = 44

    def __init__(self, changes: Sequence[Change]) -> None:
        self.changes = changes

    def build(self, request_struct_class: type[_SetConfigsRequest]) -> _SetConfigsRequest:
        resources = [
            (TOPIC, change.name, [(key, SET, value) for key, value in sorted(change.settings.items())])
            for change in self.changes
        ]
        return request_struct_class(resources, False)  # noqa: FBT003 - of the protocol
