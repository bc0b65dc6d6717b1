"""The owner recorded on a Kafka, and its topics: observed, planned, created or altered, and observed again.

It uses the same single connection as the check, for the same reason. IncrementalAlterConfigs, which changes some
settings of a topic and leaves the others, is written here: the library has only AlterConfigs, which resets the others.
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
from aether_operator.brokers.connections import BrokerError, CheckResult
from aether_operator.brokers.topics import ClusterState, TopicState
from aether_operator.catalog import owners
from aether_operator.catalog.components import TOPICS
from aether_operator.observed.reports import TopicsReport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from aiokafka.conn import AIOKafkaConnection

    from aether_operator.brokers.topics import AlterTopic, CreateTopic, TopicPlan
    from aether_operator.observed.endpoints import Endpoint
    from aether_operator.observed.server_owners import ServerOwner

log = logging.getLogger(__name__)

TOPIC_RESOURCE: Final = 2
"""The resource type of a topic in requests about configs."""
OP_SET: Final = 0
"""The operation of IncrementalAlterConfigs that sets a value."""
NOT_CONTROLLER: Final = 41
TOPIC_EXISTS: Final = 36
REQUEST_TIMEOUT_MS: Final = 5000
"""How long a broker may work on a request."""
RETRY_INTERVAL: Final = 0.2
"""Seconds between observations of a change, which reaches the brokers one after the other."""
VISIBLE_WITHIN: Final = 0.8
"""The part of the deadline in which a change should become visible."""
_CONFIG_KEYS: Final = sorted({key for topic in (owners.TOPIC, *TOPICS) for key in topic.configs(1)})
EARLIEST: Final = -2
"""The timestamp that stands for the first record."""
MAX_RECORD_BYTES: Final = 1 << 16
"""Bytes fetched at most: an owner's record is much smaller."""


# The owner.


async def check(
    endpoint: Endpoint, owner: ServerOwner, guard: Callable[[], object] | None, deadline: float
) -> CheckResult:
    """Log in, check the release and the login's rights, and read the owner.

    With a guard, `owner` is recorded where none is: the first record of the topic counts.
    """
    async with kafka.connect(endpoint, deadline) as connection:
        version = await kafka.check_login(endpoint, connection)
        record = await _read_owner(endpoint, connection, deadline)
        if record is None and guard is not None:
            connections.check_guard(guard)
            try:
                await _write_owner(endpoint, connection, owner, deadline)
            except BrokerError as error:
                if error.reason is not Reason.PERMISSION_DENIED:
                    raise
                raise _owner_not_recorded(endpoint, owner, error.message) from error
            record = await _read_owner(endpoint, connection, deadline)
    return CheckResult(version, record)


async def _read_owner(endpoint: Endpoint, connection: AIOKafkaConnection, deadline: float) -> str | None:
    """The recorded owner. A login that may not read it gets no command to record one: one may be there."""
    try:
        return await _first_record(endpoint, connection, deadline)
    except BrokerError as error:
        if error.reason is not Reason.PERMISSION_DENIED:
            raise
        needs = f"allow the login to Describe and Read {owners.TOPIC.name}"
        raise BrokerError(Reason.OWNER_NOT_RECORDED, f"{error.message}: {needs}") from error


async def _first_record(endpoint: Endpoint, connection: AIOKafkaConnection, deadline: float) -> str | None:
    """The value of the first record; None without the topic or a record in it."""
    code, data = await _fetch(connection, 0)
    if code == topics.NOT_LEADER:
        async with _connect_to_leader(endpoint, connection, deadline) as leader:
            code, data = await _fetch(leader, 0)
            if code == topics.OUT_OF_RANGE:
                code, data = await _fetch(leader, await _earliest_offset(leader))
    elif code == topics.OUT_OF_RANGE:
        code, data = await _fetch(connection, await _earliest_offset(connection))
    if code == topics.UNKNOWN_TOPIC:
        return None
    if code:
        raise BrokerError(*topics.reason_for_code(code, "read", owners.TOPIC.name))
    records = MemoryRecords(data)
    batch = records.next_batch() if records.has_next() else None
    first = next(iter(batch), None) if batch is not None else None
    return None if first is None else (first.value or b"").decode(errors="replace")


async def _fetch(connection: AIOKafkaConnection, offset: int) -> tuple[int, bytes]:
    """The error code, and the records from an offset on."""
    request = FetchRequest(0, 1, MAX_RECORD_BYTES, 0, [(owners.TOPIC.name, [(0, offset, MAX_RECORD_BYTES)])])
    part = (await connection.send(request)).topics[0][1][0]
    return part[1], part[-1] or b""


async def _earliest_offset(connection: AIOKafkaConnection) -> int:
    """The offset of the first record that still exists."""
    response = await connection.send(OffsetRequest(-1, 0, [(owners.TOPIC.name, [(0, EARLIEST)])]))
    part = response.topics[0][1][0]
    if part[1]:
        raise BrokerError(*topics.reason_for_code(part[1], "read", owners.TOPIC.name))
    return int(part[-1])


@contextlib.asynccontextmanager
async def _connect_to_leader(
    endpoint: Endpoint, connection: AIOKafkaConnection, deadline: float
) -> AsyncIterator[AIOKafkaConnection]:
    """A connection to the leader of the owner topic's partition."""
    metadata = await connection.send(MetadataRequest([owners.TOPIC.name], allow_auto_topic_creation=False))
    code, _, _, parts = metadata.topics[0]
    leader = next((one[2] for one in parts if one[1] == 0), -1)
    broker = next((one for one in metadata.brokers if one[0] == leader), None)
    if code or broker is None:
        raise BrokerError(*topics.reason_for_code(code or topics.TIMED_OUT, "describe", owners.TOPIC.name))
    if (broker[1], broker[2]) == (endpoint.host, endpoint.port):
        yield connection
        return
    async with kafka.connect(dataclasses.replace(endpoint, host=broker[1], port=broker[2]), deadline) as other:
        yield other


async def _write_owner(endpoint: Endpoint, connection: AIOKafkaConnection, owner: ServerOwner, deadline: float) -> None:
    """Create the topic where it is missing, and append a record, which need not be the first."""
    metadata = await connection.send(MetadataRequest([], allow_auto_topic_creation=False))
    topic = topics.CreateTopic(topic=owners.TOPIC, replicas=topics.replication(len(metadata.brokers)))
    await _create_topics(endpoint, connection, [topic], deadline)
    batch = DefaultRecordBatchBuilder(
        magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
        batch_size=MAX_RECORD_BYTES,
    )  # fmt: skip
    # A topic that somebody created with the policy `compact` rejects a record without a key, and drops an older record
    # of the same key. So each record has a key of its own, and the first record stays the first.
    batch.append(0, None, secrets.token_hex(16).encode(), owner.record.encode(), [])
    request = ProduceRequest(None, -1, REQUEST_TIMEOUT_MS, [(owners.TOPIC.name, [(0, bytes(batch.build()))])])
    until = _now() + deadline * VISIBLE_WITHIN
    while True:
        try:
            async with _connect_to_leader(endpoint, connection, deadline) as leader:
                _check_written(await leader.send(request))
        except BrokerError as error:
            # A new topic reaches the brokers one after the other, and needs a leader.
            if error.reason is not Reason.UNREACHABLE or _now() > until:
                raise
            await asyncio.sleep(RETRY_INTERVAL)
        else:
            return


def _check_written(response: Any) -> None:
    code = response.topics[0][1][0][1]
    if code:
        raise BrokerError(*topics.reason_for_code(code, "write to", owners.TOPIC.name))


def _owner_not_recorded(endpoint: Endpoint, owner: ServerOwner, why: str) -> BrokerError:
    servers, topic = f"--bootstrap-server {connections.address(endpoint)}", f"--topic {owners.TOPIC.name}"
    settings = kafka.client_properties(endpoint)
    to_topics, to_producer = (" --command-config FILE", " --producer.config FILE") if settings else ("", "")
    command = (
        f"kafka-topics.sh {servers}{to_topics} --create {topic} --partitions 1 --config retention.ms=-1 && "
        f"echo '{owner.record}' | kafka-console-producer.sh {servers}{to_producer} {topic}"
    )
    needs = f"Create, Describe, DescribeConfigs, AlterConfigs, Read and Write {owners.TOPIC.name}"
    return connections.owner_not_recorded(why, needs, command, f"a FILE of {settings}" if settings else "")


# The topics of the components.


async def ensure_topics(endpoint: Endpoint, guard: Callable[[], object], *, deadline: float) -> TopicsReport:
    """Create and alter the topics of the components; writes nothing where all are as declared.

    Args:
        endpoint: A broker.
        guard: Raises when this process no longer leads; called before every write.
        deadline: Seconds.

    Raises:
        Exception: What the guard raises.
    """
    operation = _converge(endpoint, guard, deadline)
    try:
        report = await connections.attempt(Server.KAFKA, endpoint, operation, deadline=deadline)
    except connections.GuardRaised as raised:
        raise raised.__cause__ or raised from None
    if isinstance(report, BrokerError):
        return TopicsReport(reason=report.reason, message=report.message)
    if report.message:
        return dataclasses.replace(report, message=f"{connections.address(endpoint)}: {report.message}")
    return report


async def _converge(endpoint: Endpoint, guard: Callable[[], object], deadline: float) -> TopicsReport:
    created: set[str] = set()
    changed: set[str] = set()
    until = _now() + deadline * VISIBLE_WITHIN
    async with kafka.connect(endpoint, deadline) as connection:
        while True:
            observed = await _observe(connection)
            # The owner's topic is created by a claim; here only its settings are kept.
            claimed = owners.TOPIC.name in observed.topics
            plan = topics.plan(observed, (owners.TOPIC, *TOPICS) if claimed else TOPICS)
            todo = plan.without(created | changed)
            if todo.has_changes:
                await _apply(endpoint, connection, todo, guard, deadline)
                created |= {one.topic.name for one in todo.to_create}
                changed |= {one.name for one in todo.to_alter}
                log.info("topics_changed", extra={"created_topics": sorted(created), "changed_topics": sorted(changed)})
            # A change reaches the brokers one after the other, and new partitions need leaders.
            elif not (created or changed) or plan == topics.TopicPlan(warnings=plan.warnings) or _now() > until:
                break
            await asyncio.sleep(RETRY_INTERVAL)
    reason, message = plan.reason, plan.message
    if plan.has_changes:
        names = [one.topic.name for one in plan.to_create] + [one.name for one in plan.to_alter]
        reason, message = topics.reason_for_code(topics.TIMED_OUT, "set up", ", ".join(names))
    return TopicsReport(
        reason=reason,
        message=message,
        created=tuple(sorted(created)),
        changed=tuple(sorted(changed)),
        topics=tuple(
            sorted(one.name for one in TOPICS if one.name in observed.topics and not observed.topics[one.name].code)
        ),
        warnings=plan.warnings,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _apply(
    endpoint: Endpoint, connection: AIOKafkaConnection, plan: TopicPlan, guard: Callable[[], object], deadline: float
) -> None:
    connections.check_guard(guard)
    if plan.to_create:
        await _create_topics(endpoint, connection, plan.to_create, deadline)
    if plan.to_alter:
        await _alter_topics(endpoint, connection, plan.to_alter)


async def _observe(connection: AIOKafkaConnection) -> ClusterState:
    names = [topic.name for topic in (owners.TOPIC, *TOPICS)]
    metadata = await connection.send(MetadataRequest(names, allow_auto_topic_creation=False))
    states = {}
    for code, name, _, parts in metadata.topics:
        if name == owners.TOPIC.name and code in {topics.UNKNOWN_TOPIC, *topics.UNAUTHORIZED}:
            continue  # not created yet, or the login may not describe it: the claim has read its record
        partitions = [(one[1], one[2], len(one[3])) for one in parts]
        states[name] = TopicState(
            code=code,
            partitions=len(partitions),
            replicas=min((copies for _, _, copies in partitions), default=0),
            leaderless=tuple(sorted(number for number, leader, _ in partitions if leader < 0)),
        )
    there = [name for name, one in states.items() if not one.code]
    if there:
        described = await connection.send(
            DescribeConfigsRequest([(TOPIC_RESOURCE, name, _CONFIG_KEYS) for name in there])
        )
        for code, _, _, name, entries in described.resources:
            if name == owners.TOPIC.name and code in topics.UNAUTHORIZED:
                del states[name]
                continue
            settings = {entry[0]: entry[1] for entry in entries}
            states[name] = dataclasses.replace(states[name], settings_code=code, settings=settings)
    return ClusterState(brokers=len(metadata.brokers), topics=states)


async def _create_topics(
    endpoint: Endpoint, connection: AIOKafkaConnection, to_create: Sequence[CreateTopic], deadline: float
) -> None:
    requested = [
        (one.topic.name, one.topic.partitions, one.replicas, (), tuple(one.topic.configs(one.replicas).items()))
        for one in to_create
    ]
    request = CreateTopicsRequest(requested, timeout=REQUEST_TIMEOUT_MS, validate_only=False)
    response = await connection.send(request)
    if any(code == NOT_CONTROLLER for _, code, _ in response.topic_errors):
        # Brokers of a cluster with ZooKeeper do not forward it to the controller.
        metadata = await connection.send(MetadataRequest([], allow_auto_topic_creation=False))
        broker = next(one for one in metadata.brokers if one[0] == metadata.controller_id)
        controller = dataclasses.replace(endpoint, host=broker[1], port=broker[2])
        async with kafka.connect(controller, deadline) as other:
            response = await other.send(request)
    for name, code, detail in response.topic_errors:
        if code not in {0, TOPIC_EXISTS}:
            raise BrokerError(*topics.reason_for_code(code, "create", name, endpoint.excerpt(detail or "")))


async def _alter_topics(endpoint: Endpoint, connection: AIOKafkaConnection, to_alter: Sequence[AlterTopic]) -> None:
    response = await connection.send(_AlterConfigs(to_alter))
    for code, detail, _, name in response.results:
        if code:
            raise BrokerError(
                *topics.reason_for_code(code, "change the settings of", name, endpoint.excerpt(detail or ""))
            )


class _AlterConfigsResponse(Response):  # type: ignore[misc]  # the library has neither types nor this request
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


class _AlterConfigsRequest(RequestStruct):  # type: ignore[misc]
    """IncrementalAlterConfigs: sets the configs that it names, and leaves the others."""

    API_KEY = 44
    API_VERSION = 0
    RESPONSE_TYPE = _AlterConfigsResponse
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


class _AlterConfigs(Request[_AlterConfigsRequest]):  # type: ignore[misc]
    API_KEY = 44

    def __init__(self, to_alter: Sequence[AlterTopic]) -> None:
        self.to_alter = to_alter

    def build(self, request_struct_class: type[_AlterConfigsRequest]) -> _AlterConfigsRequest:
        resources = [
            (TOPIC_RESOURCE, one.name, [(key, OP_SET, value) for key, value in sorted(one.settings.items())])
            for one in self.to_alter
        ]
        return request_struct_class(resources, False)  # noqa: FBT003 - of the protocol
