"""The topics of Kafka: planned with values, and applied to a real broker."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from aether_operator import brokers
from aether_operator.api.platforms import Server
from aether_operator.api.reasons import Reason
from aether_operator.brokers import topics
from aether_operator.brokers.topics import ClusterState, TopicState
from aether_operator.catalog.components import COMPONENTS, TOPICS
from aether_operator.observed.endpoints import Endpoint, SecretText
from aether_operator.observed.reports import TopicsReport
from aether_services.contracts.marketdata import Topic
from aether_testing import wait
from aether_testing.servers import brokers as servers
from aether_testing.servers import free_ports

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PASSWORD = "t0p-Secret-word"  # noqa: S105 - of servers that this test starts
GUIDE = Path(__file__).resolve().parents[2] / "docs/guide/operator.md"
NAMES = tuple(sorted(topic.name for topic in TOPICS))
(TRADES,) = (topic for topic in TOPICS if topic.name == "md.trades")
DAY = 86_400_000


def test_topics_are_those_the_services_use() -> None:
    assert set(NAMES) == set(Topic)


def test_topic_has_one_writer_that_gets_the_kafka_address() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert [run.component for run in COMPONENTS.values() if run.topics and Server.KAFKA not in run.servers] == []


def test_guide_lists_each_topic_with_writer_and_retention() -> None:
    rows = re.findall(r"^\| `([a-z.]+)` \| `(\w+)` \| (\d+) \| (\d+) days? \|$", GUIDE.read_text(), re.MULTILINE)
    assert rows == [
        (topic.name, run.component.value, str(topic.partitions), str(topic.kept_days))
        for run in COMPONENTS.values()
        for topic in run.topics
    ]


# ---- planning


def a_cluster(brokers: int = 3, **other: Any) -> ClusterState:
    """A cluster with the desired topics; only `md.trades` may differ."""
    copies = min(3, brokers)
    found = {one.name: TopicState(partitions=6, replicas=copies, settings=one.configs(copies)) for one in TOPICS}
    found["md.trades"] = dataclasses.replace(found["md.trades"], **other)
    return ClusterState(brokers=brokers, topics=found)


def test_correct_topics_need_no_change() -> None:
    assert topics.plan(a_cluster()) == topics.TopicPlan()


@pytest.mark.parametrize(("brokers", "copies", "least"), [(1, 1, "1"), (2, 2, "1"), (3, 3, "2"), (9, 3, "2")])
def test_topic_has_three_replicas_and_tolerates_one_missing_broker(brokers: int, copies: int, least: str) -> None:
    plan = topics.plan(ClusterState(brokers=brokers, topics={}))
    assert {make.replicas for make in plan.to_create} == {copies}
    assert {make.topic.configs(make.replicas)["min.insync.replicas"] for make in plan.to_create} == {least}
    assert {make.topic.name: make.topic.configs(copies)["retention.ms"] for make in plan.to_create} == {
        topic.name: str(-1 if topic.kept_days is None else topic.kept_days * DAY) for topic in TOPICS
    }


def test_topic_with_fewer_replicas_can_still_be_written_to() -> None:
    one_copy = a_cluster(replicas=1, settings=TRADES.configs(1))
    plan = topics.plan(one_copy)
    assert (plan.has_changes, plan.warnings) == (False, ("topic md.trades has 1 instead of 3 replicas",))


def test_only_differing_declared_settings_are_changed() -> None:
    settings = {**TRADES.configs(3), "retention.ms": "1", "max.message.bytes": "7"}
    (change,) = topics.plan(a_cluster(settings=settings)).to_alter
    assert (change.name, change.settings) == ("md.trades", {"retention.ms": str(7 * DAY)})


@pytest.mark.parametrize("partitions", [1, 12])
def test_other_partition_count_is_reported_and_kept(partitions: int) -> None:
    plan = topics.plan(a_cluster(partitions=partitions))
    assert (plan.has_changes, plan.reason) == (False, Reason.READY)
    assert plan.warnings == (f"topic md.trades has {partitions} instead of 6 partitions",)


@pytest.mark.parametrize(
    ("other", "reason", "message"),
    [
        ({"code": 29}, Reason.PERMISSION_DENIED, "the login may not describe topic md.trades"),
        ({"settings_code": 29}, Reason.PERMISSION_DENIED, "the login may not describe the settings of topic md.trades"),
        ({"leaderless": (0, 4)}, Reason.UNREACHABLE, "topic md.trades has no leader for partition 0, 4"),
        ({"code": 5}, Reason.UNREACHABLE, "topic md.trades: the brokers could not describe it yet (code 5)"),
        ({"code": 17}, Reason.FAILED, "topic md.trades: the brokers rejected to describe it (code 17)"),
    ],
)
def test_blocking_problem_is_named(other: dict[str, Any], reason: Reason, message: str) -> None:
    plan = topics.plan(a_cluster(**other))
    assert (plan.reason, plan.message, plan.has_changes) == (reason, message, False)


def test_missing_permission_takes_precedence_as_reason() -> None:
    observed = a_cluster(leaderless=(0,))
    found = {**observed.topics, "md.ticker": TopicState(code=29)}
    plan = topics.plan(dataclasses.replace(observed, topics=found))
    assert plan.reason is Reason.PERMISSION_DENIED
    assert "md.trades" in plan.message


# ---- a real broker


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Kafka]:
    users = dict.fromkeys(("aether", "nothing", "sees", "makes", "looks", "all"), PASSWORD)
    with servers.kafka_server(tmp_path_factory.mktemp("kafka"), users=users) as one:
        yield one


@pytest.fixture
async def admin(kafka: servers.Kafka) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client, with our topics deleted."""
    client = AIOKafkaAdminClient(bootstrap_servers=f"{servers.HOST}:{kafka.port}")
    await client.start()
    ours = [name for name in await client.list_topics() if name.startswith("md.")]
    if ours:
        await client.delete_topics(ours)
    while any(name.startswith("md.") for name in await client.list_topics()):
        pass  # the response comes when the deletion begins, not when it is done
    yield client
    await client.close()


async def ensure(kafka: servers.Kafka, username: str = "aether", **other: Any) -> tuple[TopicsReport, int]:
    """The report, and how often the guard was called: before each write."""
    guard_calls = []
    endpoint = kafka.at(kafka.login, username, PASSWORD, **other)
    report = await brokers.ensure_topics(endpoint, lambda: guard_calls.append(1), deadline=20)
    assert PASSWORD not in repr(report)
    return report, len(guard_calls)


async def settings(admin: AIOKafkaAdminClient, name: str) -> dict[str, tuple[str, int]]:
    """Key → its value and its source: 1 is the topic itself."""
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    return {entry[0]: (entry[1], entry[3]) for entry in answer.resources[0][4]}


async def test_topics_are_created_as_declared_and_then_unchanged(
    kafka: servers.Kafka, admin: AIOKafkaAdminClient
) -> None:
    report, guard_calls = await ensure(kafka)
    assert (report.reason, report.message, report.created, report.topics, guard_calls) == (
        Reason.READY,
        "",
        NAMES,
        NAMES,
        1,
    )
    for described in await admin.describe_topics(list(NAMES)):
        assert len(described["partitions"]) == 6
    for topic in TOPICS:
        live = await settings(admin, topic.name)
        assert {key: live[key][0] for key in topic.configs(1)} == topic.configs(1)
    before = await settings(admin, "md.trades")
    for _ in range(3):
        report, guard_calls = await ensure(kafka)
        assert (report, guard_calls) == (TopicsReport(reason=Reason.READY, topics=NAMES), 0)
    assert await settings(admin, "md.trades") == before


async def test_foreign_topic_changes_are_reverted_and_undeclared_settings_stay(
    kafka: servers.Kafka, admin: AIOKafkaAdminClient
) -> None:
    await ensure(kafka)
    theirs = {"retention.ms": "1", "max.message.bytes": "77777"}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "md.book", configs=theirs)])
    while (await settings(admin, "md.book"))["retention.ms"][0] != "1":
        pass  # the change reaches a broker a little later
    report, guard_calls = await ensure(kafka)
    assert (report.ok, report.created, report.changed, guard_calls) == (True, (), ("md.book",), 1)
    live = await settings(admin, "md.book")
    assert (live["retention.ms"][0], live["max.message.bytes"]) == (str(DAY), ("77777", 1))


async def test_existing_topic_keeps_its_partitions_and_records(
    kafka: servers.Kafka, admin: AIOKafkaAdminClient
) -> None:
    await admin.create_topics([NewTopic("md.trades", 2, 1), NewTopic("md.ticker", 2, 1)])
    await admin.create_partitions({"md.ticker": NewPartitions(9)})
    producer = AIOKafkaProducer(bootstrap_servers=f"{servers.HOST}:{kafka.port}")
    await producer.start()
    kept = await producer.send_and_wait("md.trades", b"kept", partition=1)
    await producer.stop()
    report, _ = await ensure(kafka)
    missing = tuple(name for name in NAMES if name not in {"md.trades", "md.ticker"})
    # The retention of md.trades is a broker's default.
    assert (report.ok, report.created, report.changed) == (True, missing, ("md.ticker",))
    assert report.warnings == (
        "topic md.trades has 2 instead of 6 partitions",
        "topic md.ticker has 9 instead of 6 partitions",
    )
    assert kept.offset == 0
    assert {len(one["partitions"]) for one in await admin.describe_topics(["md.trades"])} == {2}


async def test_concurrent_topic_setups_do_not_conflict(kafka: servers.Kafka, admin: AIOKafkaAdminClient) -> None:
    del admin
    reports = await asyncio.gather(*(ensure(kafka) for _ in range(4)))
    assert all(report.ok and report.topics == NAMES for report, _ in reports)


async def test_missing_permission_is_named_with_its_topic(kafka: servers.Kafka, admin: AIOKafkaAdminClient) -> None:
    grants = {
        "sees": ("describe",),
        "makes": ("describe", "create"),
        "looks": ("describe", "create", "describe the settings of"),
        "all": ("describe", "create", "describe the settings of", "change the settings of"),
    }
    for name, operations in grants.items():
        await kafka.grant(name, *operations)
    await wait_for_report(kafka, "nothing", "the login may not describe topic md.")
    await wait_for_report(kafka, "sees", "the login may not create topic md.")
    await wait_for_report(kafka, "makes", "the login may not describe the settings of topic md.")
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, "md.book", configs={"retention.ms": "1"})])
    await wait_for_report(kafka, "looks", "the login may not change the settings of topic md.book")
    await wait_for_report(kafka, "all", "")


async def wait_for_report(kafka: servers.Kafka, username: str, message: str) -> None:
    """Repeat until the report has this message: ACLs and changes by others take effect a little later."""
    reports: list[TopicsReport] = []

    async def reported() -> bool:
        report, _ = await ensure(kafka, username)
        assert report.reason in {Reason.PERMISSION_DENIED, Reason.READY}, report
        reports.append(report)
        return message in report.message and report.ok == (message == "")

    await wait.until_async(reported, f"{username}: {message or 'ready'}", detail=lambda: reports[-1])


async def test_process_that_does_not_lead_writes_nothing_and_reports_it(
    kafka: servers.Kafka, admin: AIOKafkaAdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    class Lost(Exception):
        pass

    def guard() -> None:
        raise Lost

    with pytest.raises(Lost):
        await brokers.ensure_topics(kafka.at(kafka.login, "aether", PASSWORD), guard, deadline=20)
    assert [name for name in await admin.list_topics() if name.startswith("md.")] == []
    assert caplog.records == []


async def test_unavailable_broker_or_rejected_login_is_named(kafka: servers.Kafka) -> None:
    endpoint = Endpoint(host=servers.HOST, port=free_ports.one(), username="aether", password=SecretText(PASSWORD))
    report = await brokers.ensure_topics(endpoint, lambda: None, deadline=5)
    assert (report.reason, report.topics) == (Reason.UNREACHABLE, ())
    report, guard_calls = await ensure(kafka, "stranger")
    assert (report.reason, guard_calls) == (Reason.AUTHENTICATION_FAILED, 0)
