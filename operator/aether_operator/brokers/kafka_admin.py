"""Whose a Kafka is, and its topics, brought to what a platform wants: looks, decides, does it, looks again.

By the same one connection as the check, and for the same reason. The library knows no request that changes some
settings of a topic and leaves the others; the older one that it has would reset them.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import secrets
from typing import TYPE_CHECKING, Any, Final

from aiokafka.protocol import types
from aiokafka.protocol.admin import CreateTopicsRequest, DescribeConfigsRequest
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.brokers import connections, kafka, topics
from aether_operator.brokers.connections import Refused, Told
from aether_operator.brokers.topics import Seen, TopicSeen
from aether_operator.catalog import owners
from aether_operator.catalog.components import TOPICS
from aether_operator.observed.reports import TopicsReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from aiokafka.conn import AIOKafkaConnection

    from aether_operator.brokers.topics import Change, Make, Plan
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.owners import Owner

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
_KEYS: Final = sorted({key for topic in (owners.TOPIC, *TOPICS) for key in topic.configs(1)})
EARLIEST: Final = -2
"""The time that stands for the first record."""
LARGEST: Final = 1 << 16
"""Bytes of a record that is read."""


# Whose it is.


async def ask(endpoint: Endpoint, owner: Owner, guard: Callable[[], object] | None, deadline: float) -> Told:
    """Log in, see the version and what the login may, and whose it is.

    With a guard, the owner is written down where there is none: whoever's record is the first has it.
    """
    async with kafka.connected(endpoint, deadline) as connection:
        version = await kafka.check(endpoint, connection)
        found = await _owner(endpoint, connection, deadline)
        if found is None and guard is not None:
            connections.permit(guard)
            try:
                await _write_owner(endpoint, connection, owner, deadline)
            except Refused as refused:
                if refused.reason is not Reason.PERMISSION_DENIED:
                    raise
                raise _by_hand(endpoint, owner, refused.message) from refused
            found = await _owner(endpoint, connection, deadline)
    return Told(version, found)


async def _owner(endpoint: Endpoint, connection: AIOKafkaConnection, deadline: float) -> str | None:
    """What is written down; who may not read it is not told to make anything, since nobody knows what is there."""
    try:
        return await _first_record(endpoint, connection, deadline)
    except Refused as refused:
        if refused.reason is not Reason.PERMISSION_DENIED:
            raise
        needs = f"let the login Describe and Read {owners.TOPIC.name}"
        raise Refused(Reason.OWNER_NOT_RECORDED, f"{refused.message}: {needs}") from refused


async def _first_record(endpoint: Endpoint, connection: AIOKafkaConnection, deadline: float) -> str | None:
    """The value of the first record; nothing where there is no topic or no record in it."""
    code, data = await _fetched(connection, 0)
    if code == topics.NOT_LEADER:
        async with _to_leader(endpoint, connection, deadline) as leader:
            code, data = await _fetched(leader, 0)
            if code == topics.OUT_OF_RANGE:
                code, data = await _fetched(leader, await _earliest(leader))
    elif code == topics.OUT_OF_RANGE:
        code, data = await _fetched(connection, await _earliest(connection))
    if code == topics.UNKNOWN_TOPIC:
        return None
    if code:
        raise Refused(*topics.refusal(code, "read", owners.TOPIC.name))
    records = MemoryRecords(data)
    batch = records.next_batch() if records.has_next() else None
    first = next(iter(batch), None) if batch is not None else None
    return None if first is None else (first.value or b"").decode(errors="replace")


async def _fetched(connection: AIOKafkaConnection, offset: int) -> tuple[int, bytes]:
    """What is there from an offset on, and why not."""
    request = FetchRequest(0, 1, LARGEST, 0, [(owners.TOPIC.name, [(0, offset, LARGEST)])])
    part = (await connection.send(request)).topics[0][1][0]
    return part[1], part[-1] or b""


async def _earliest(connection: AIOKafkaConnection) -> int:
    """The offset of the first record that is still there."""
    answer = await connection.send(OffsetRequest(-1, 0, [(owners.TOPIC.name, [(0, EARLIEST)])]))
    part = answer.topics[0][1][0]
    if part[1]:
        raise Refused(*topics.refusal(part[1], "read", owners.TOPIC.name))
    return int(part[-1])


@contextlib.asynccontextmanager
async def _to_leader(
    endpoint: Endpoint, connection: AIOKafkaConnection, deadline: float
) -> AsyncIterator[AIOKafkaConnection]:
    """A connection to the broker that the first record is read from and written to."""
    known = await connection.send(MetadataRequest([owners.TOPIC.name], allow_auto_topic_creation=False))
    code, _, _, parts = known.topics[0]
    leader = next((one[2] for one in parts if one[1] == 0), -1)
    place = next((one for one in known.brokers if one[0] == leader), None)
    if code or place is None:
        raise Refused(*topics.refusal(code or topics.TIMED_OUT, "describe", owners.TOPIC.name))
    if (place[1], place[2]) == (endpoint.host, endpoint.port):
        yield connection
        return
    async with kafka.connected(dataclasses.replace(endpoint, host=place[1], port=place[2]), deadline) as other:
        yield other


async def _write_owner(endpoint: Endpoint, connection: AIOKafkaConnection, owner: Owner, deadline: float) -> None:
    """Make the topic where there is none, and add a record, which need not be the first."""
    known = await connection.send(MetadataRequest([], allow_auto_topic_creation=False))
    make = topics.Make(topic=owners.TOPIC, replicas=topics.copies(len(known.brokers)))
    await _make(endpoint, connection, [make], deadline)
    batch = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=LARGEST,
    )  # fmt: skip
    # A topic that somebody made with the policy `compact` takes no record without a key, and drops an older one of the
    # same key: no key is written twice, so that the first record stays the first.
    batch.append(0, None, secrets.token_hex(16).encode(), owner.record.encode(), [])
    request = ProduceRequest(None, -1, REQUEST, [(owners.TOPIC.name, [(0, bytes(batch.build()))])])
    until = _now() + deadline * PATIENCE
    while True:
        try:
            async with _to_leader(endpoint, connection, deadline) as leader:
                _written(await leader.send(request))
        except Refused as refused:
            # Brokers hear of a new topic one after the other, and choose its leader.
            if refused.reason is not Reason.UNREACHABLE or _now() > until:
                raise
            await asyncio.sleep(AGAIN)
        else:
            return


def _written(answer: Any) -> None:
    code = answer.topics[0][1][0][1]
    if code:
        raise Refused(*topics.refusal(code, "write to", owners.TOPIC.name))


def _by_hand(endpoint: Endpoint, owner: Owner, why: str) -> Refused:
    servers, topic = f"--bootstrap-server {connections.place(endpoint)}", f"--topic {owners.TOPIC.name}"
    settings = kafka.settings(endpoint)
    to_topics, to_producer = (" --command-config FILE", " --producer.config FILE") if settings else ("", "")
    command = (
        f"kafka-topics.sh {servers}{to_topics} --create {topic} --partitions 1 --config retention.ms=-1 && "
        f"echo '{owner.record}' | kafka-console-producer.sh {servers}{to_producer} {topic}"
    )
    needs = f"Create, Describe, DescribeConfigs, AlterConfigs, Read and Write {owners.TOPIC.name}"
    return connections.by_hand(why, needs, command, f"a FILE of {settings}" if settings else "")


# The topics of the rooms.


async def ensure_topics(endpoint: Endpoint, guard: Callable[[], object], *, deadline: float) -> TopicsReport:
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
        found = await connections.answered(Server.KAFKA, endpoint, asking, deadline=deadline)
    except connections.Withheld as withheld:
        raise withheld.__cause__ or withheld from None
    if isinstance(found, Refused):
        return TopicsReport(reason=found.reason, message=found.message)
    if found.message:
        return dataclasses.replace(found, message=f"{connections.place(endpoint)}: {found.message}")
    return found


async def _converge(endpoint: Endpoint, guard: Callable[[], object], deadline: float) -> TopicsReport:
    created: set[str] = set()
    changed: set[str] = set()
    until = _now() + deadline * PATIENCE
    async with kafka.connected(endpoint, deadline) as connection:
        while True:
            seen = await _look(connection)
            # Its settings are kept; that it is there is a matter of whose Kafka it is.
            there = owners.TOPIC.name in seen.topics
            plan = topics.plan(seen, (owners.TOPIC, *TOPICS) if there else TOPICS)
            todo = plan.without(created | changed)
            if todo.steps:
                await _do(endpoint, connection, todo, guard, deadline)
                created |= {one.topic.name for one in todo.makes}
                changed |= {one.name for one in todo.changes}
                log.info("topics_set", extra={"made": sorted(created), "changed": sorted(changed)})
            # Brokers hear of it one after the other, and choose leaders.
            elif not (created or changed) or plan == topics.Plan(warnings=plan.warnings) or _now() > until:
                break
            await asyncio.sleep(AGAIN)
    reason, message = plan.reason, plan.message
    if plan.steps:
        names = [one.topic.name for one in plan.makes] + [one.name for one in plan.changes]
        reason, message = topics.refusal(topics.TIMED_OUT, "set up", ", ".join(names))
    return TopicsReport(
        reason=reason,
        message=message,
        created=tuple(sorted(created)),
        changed=tuple(sorted(changed)),
        topics=tuple(sorted(one.name for one in TOPICS if one.name in seen.topics and not seen.topics[one.name].code)),
        warnings=plan.warnings,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _do(
    endpoint: Endpoint, connection: AIOKafkaConnection, plan: Plan, guard: Callable[[], object], deadline: float
) -> None:
    connections.permit(guard)
    if plan.makes:
        await _make(endpoint, connection, plan.makes, deadline)
    if plan.changes:
        await _change(endpoint, connection, plan.changes)


async def _look(connection: AIOKafkaConnection) -> Seen:
    names = [topic.name for topic in (owners.TOPIC, *TOPICS)]
    answer = await connection.send(MetadataRequest(names, allow_auto_topic_creation=False))
    found = {}
    for code, name, _, parts in answer.topics:
        if name == owners.TOPIC.name and code in {topics.UNKNOWN_TOPIC, *topics.UNAUTHORIZED}:
            continue  # somebody else made it, or has yet to be let to: what stands in it was read
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
            if name == owners.TOPIC.name and code in topics.UNAUTHORIZED:
                del found[name]
                continue
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
