"""Runs ingest as a process with real servers, which a test starts, kills and restarts."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from prometheus_client.parser import text_string_to_metric_families

from aether_operator.database import migrator
from aether_services.contracts.marketdata import Topic
from aether_services.contracts.statuses import IngestStatus, Output
from aether_testing import wait
from aether_testing.servers import brokers, free_ports, postgres
from aether_testing.servers.restarts import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

DEADLINE: Final = 60.0
POLL_INTERVAL: Final = 0.05
PAIRS: Final = ("BTC/USD", "ETH/USD", "SOL/USD")
PARTITIONS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPlane:
    """The servers that ingest writes to; each keeps its address across restarts."""

    kafka: int
    nats: int
    postgres: postgres.Postgres
    database: str
    processes: Mapping[Output, ServerProcess]
    """The processes, which a test may stop, kill and restart."""

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.postgres.run(self.database, statement)

    def with_database(self) -> DataPlane:
        """The same servers with a new database; the topics stay."""
        return dataclasses.replace(self, database=a_database(self.postgres))

    def stored(self) -> dict[str, list[int]]:
        """Symbol → the ids of its stored trades in order, duplicates included."""
        found: dict[str, list[int]] = {}
        for symbol, trade_id in self.rows("SELECT symbol, trade_id FROM aether.trades ORDER BY symbol, trade_id"):
            found.setdefault(symbol, []).append(trade_id)
        return found


def new_topics(plane: DataPlane) -> None:
    """Recreate the topics without records: for another venue, whose trades begin at 1."""
    asyncio.run(_make_topics(plane.kafka, recreate=True))


async def _make_topics(port: int, *, recreate: bool = False) -> None:
    """Create the topics as the operator does."""
    admin = AIOKafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}")
    await admin.start()
    names = [topic.value for topic in Topic]
    try:
        if recreate:
            await admin.delete_topics(names)
        topics = [NewTopic(name=name, num_partitions=PARTITIONS, replication_factor=1) for name in names]
        responses: list[Any] = []

        async def exist() -> bool:
            if not recreate and set(names) <= set(await admin.list_topics()):
                return True
            responses.append(await admin.create_topics(topics))
            return not any(one[1] for one in responses[-1].topic_errors)  # those still being deleted are rejected

        await wait.until_async(
            exist,
            "the topics exist",
            seconds=DEADLINE,
            interval=POLL_INTERVAL,
            detail=lambda: responses[-1:],
        )
    finally:
        await admin.close()


@contextlib.contextmanager
def plane(folder: Path) -> Iterator[DataPlane]:
    """Start servers on loopback, and create schema and topics."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        home = stack.enter_context(tempfile.TemporaryDirectory(prefix="aether-postgres-"))  # its user must get in
        server = stack.enter_context(postgres.running(Path(home)))
        kafka = stack.enter_context(brokers.kafka_server(folder / "kafka"))
        nats = stack.enter_context(brokers.nats_server(folder / "nats"))
        asyncio.run(_make_topics(kafka.port))
        processes = {
            Output.KAFKA: ServerProcess(kafka.pid, kafka.port),
            Output.NATS: ServerProcess(nats.pid, nats.port),
            Output.TABLES: ServerProcess(server.process, server.port, signal.SIGINT),  # SIGTERM waits for clients
        }
        for one in processes.values():
            stack.callback(one.end)
        yield DataPlane(
            kafka=kafka.port, nats=nats.port, postgres=server, database=a_database(server), processes=processes
        )


def a_database(server: postgres.Postgres) -> str:
    """A new database with the operator's schema."""
    endpoint = server.fresh()
    report = migrator.ensure_schema(endpoint, postgres.a_schema(), postgres.a_leader(), deadline=60)
    assert report.ok, report
    return endpoint.database


@dataclass(slots=True, kw_only=True)
class Ingest:
    """One replica of ingest, which can be restarted."""

    folder: Path
    environ: Mapping[str, str]
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        """Its log, of all runs."""
        path = self.folder / "ingest.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start the process, and wait until it answers."""
        with (self.folder / "ingest.log").open("ab") as log:
            command = [sys.executable, "-m", "aether_services", "ingest"]
            self.process = subprocess.Popen(command, env=dict(self.environ), cwd=self.folder, stdout=log, stderr=log)
        self.until(lambda: self.get("/healthz") is not None, "it answers")

    def write_live_settings(self, pairs: Sequence[str] = PAIRS, replicas: int = 1) -> None:
        """Replace the live settings file atomically, as a kubelet does."""
        text = json.dumps({"version": 1, "pairs": sorted(pairs), "replicas": replicas}, separators=(",", ":"))
        half = self.folder / "live.json.half"
        half.write_text(text)
        half.rename(self.folder / "live.json")

    def get(self, path: str) -> bytes | None:
        """The response body of a path; None if the request fails."""
        with (
            contextlib.suppress(OSError, http.client.HTTPException),  # it may be killed in mid-answer
            urllib.request.urlopen(f"{self.url}{path}", timeout=2) as answer,
        ):
            body: bytes = answer.read()
            return body
        return None

    def status(self) -> IngestStatus:
        """Its `/status`."""
        response = self.get("/status")
        assert response is not None, self.log[-4000:]
        return IngestStatus.model_validate_json(response)

    def buckets(self, name: str, **labels: str) -> dict[str, float]:
        """The buckets of a histogram in /metrics: upper bound in seconds → cumulative count."""
        response = self.get("/metrics")
        assert response is not None, self.log[-4000:]
        return {
            sample.labels["le"]: sample.value
            for family in text_string_to_metric_families(response.decode())
            for sample in family.samples
            if sample.name == f"{name}_bucket" and labels.items() <= sample.labels.items()
        }

    def until(self, condition: Callable[[], object], expected: str, deadline: float = DEADLINE) -> None:
        """Wait until a condition holds, while it runs."""

        def holds() -> object:
            if value := condition():
                return value
            assert self.process is None or self.process.poll() is None, f"ingest ended by itself\n{self.log[-4000:]}"
            return value

        wait.until(holds, expected, seconds=deadline, interval=POLL_INTERVAL, detail=lambda: self.log[-4000:])

    def until_usable(self, pairs: Sequence[str] = PAIRS) -> None:
        """Wait until it has a usable book of each of these markets."""

        def usable() -> bool:
            books = self.status().books
            return all(pair in books and books[pair].usable for pair in pairs)

        self.until(usable, f"books of {', '.join(pairs)}")

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and wait for the process to exit; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(how)
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)  # it dumps its stacks
            self.process.wait(DEADLINE)
            raise AssertionError(f"it does not end within {DEADLINE:g} s\n{self.log[-8000:]}") from None


@contextlib.contextmanager
def ingest(  # noqa: PLR0913 - where everything is, by name
    folder: Path, plane: DataPlane, *, ws: str, rest: str, number: int = 0, ports: Sequence[int] = (), **settings: Any
) -> Iterator[Ingest]:
    """A replica, not yet started, on a free port of the loopback.

    Args:
        folder: A folder of its own.
        plane: Where it writes to.
        ws: The venue's WebSocket.
        rest: The venue's REST.
        number: Which replica it is.
        ports: The ports of all replicas, where there are several.
        settings: More of its settings, in lower case and without the prefix.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for server, login in (("kafka", ("", "")), ("nats", ("", "")), ("postgres", (postgres.USER, postgres.PASSWORD))):
        (folder / server).mkdir(exist_ok=True)
        for name, text in zip(("username", "password"), login, strict=True):
            (folder / server / name).write_text(text)
    ours = {
        "instance": f"ingest-{number}",
        "release": "test",
        "venue": "Simulated",
        "venue_ws_url": ws,
        "venue_rest_url": rest,
        "live_settings": folder / "live.json",
        "peer_url": "http://127.0.0.1:9{replica}",
        "kafka_host": "127.0.0.1",
        "kafka_port": plane.kafka,
        "nats_host": "127.0.0.1",
        "nats_port": plane.nats,
        "postgres_host": "127.0.0.1",
        "postgres_port": plane.postgres.endpoint().port,
        "postgres_database": plane.database,
        **{f"{server}_tls": "Disabled" for server in ("kafka", "nats", "postgres")},
        **{f"{server}_credentials": folder / server for server in ("kafka", "nats", "postgres")},
        "http_host": "127.0.0.1",
        "http_port": ports[number] if ports else free_ports.one(),
        **settings,
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("AETHER_")}
    others["PYTHONFAULTHANDLER"] = "1"
    environ = {**others, **{f"AETHER_{name.upper()}": str(value) for name, value in ours.items()}}
    one = Ingest(folder=folder, environ=environ, port=int(ours["http_port"]))
    try:
        yield one
    finally:
        if one.process is not None and one.process.poll() is None:
            one.end(signal.SIGKILL)
