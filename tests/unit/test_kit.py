"""The kit of the services: log lines, HTTP endpoints, and settings whose errors contain no value."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import prometheus_client
import pytest

from aether_runtime import logs
from aether_services.contracts.statuses import Check, Status
from aether_services.domain.times import Nanoseconds
from aether_services.kit import apps, http_server
from aether_services.kit.settings import InvalidSettings, Settings
from aether_testing import wait
from aether_testing.servers import address_families

if TYPE_CHECKING:
    from collections.abc import Mapping

    import fastapi

SERVICES: Final = Path(__file__).resolve().parents[2] / "services"
SECRET: Final = "canary-0f3a"  # noqa: S105 - it may appear nowhere


# ---- log lines


def a_record(event: str = "subscribed", *args: Any, level: int = logging.INFO, **extra: Any) -> logging.LogRecord:
    record = logging.LogRecord("aether_services.ingest", level, "/a/b.py", 7, event, args, None)
    record.created = 1_700_000_000.25
    record.__dict__ |= extra
    return record


def formatted(record: logging.LogRecord) -> dict[str, Any]:
    text = logs.JsonFormatter("ingest").format(record)
    assert "\n" not in text
    line: dict[str, Any] = json.loads(text)
    return line


def test_log_line_is_one_json_object_with_all_its_keys() -> None:
    assert formatted(a_record()) == {
        "time": "2023-11-14T22:13:20.250+00:00",
        "level": "info",
        "service": "ingest",
        "logger": "aether_services.ingest",
        "event": "subscribed",
    }


@pytest.mark.parametrize("name", ["debug", "info", "warning", "error", "critical"])
def test_log_level_is_in_lower_case(name: str) -> None:
    assert formatted(a_record(level=getattr(logging, name.upper())))["level"] == name


def test_extra_values_of_an_event_are_keys_of_the_line() -> None:
    given: dict[str, Any] = {
        "symbol": "BTC/USD",
        "gap": 3,
        "late": 0.5,
        "usable": False,
        "cause": None,
        "pairs": ["BTC/USD"],
    }
    line = formatted(a_record(**given))
    assert {key: line[key] for key in given} == given


def test_values_unknown_to_json_are_logged_as_text() -> None:
    line = formatted(a_record(path=Path("/settings/live.json"), price=Decimal("0.10")))
    assert (line["path"], line["price"]) == ("/settings/live.json", "0.10")


def test_an_exception_is_in_the_line_of_its_event() -> None:
    try:
        int("no\nnumber")
    except ValueError:
        record = a_record("failed", level=logging.ERROR)
        record.exc_info = sys.exc_info()
    line = formatted(record)
    assert line["event"] == "failed"
    assert line["trace"].startswith("Traceback (most recent call last):\n")
    assert line["trace"].endswith(r"'no\nnumber'")


def test_multiline_library_message_stays_one_line_without_extra_keys() -> None:
    line = formatted(a_record("%s is\naway", "broker"))
    assert line["event"] == "broker is\naway"
    assert set(line) == set(formatted(a_record()))


LOGGING_PROGRAM: Final = """
import logging
from aether_runtime import logs
logs.set_up("WARNING", service="ingest")
logging.getLogger("aether_services.ingest").info("not_asked_for")
logging.getLogger("aether_services.ingest").warning("gap", extra={"symbol": "BTC/USD"})
logging.getLogger("somebody.else").error("theirs")
for library in ("aiokafka.conn", "nats", "uvicorn.error"):
    logging.getLogger(library).warning("an adapter logs it once")
"""


def test_process_logs_to_stderr_at_its_level_muting_adapter_libraries() -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LOGGING_PROGRAM], cwd=SERVICES, capture_output=True, text=True, check=True, timeout=30
    )
    assert ended.stdout == ""
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [(line["level"], line["event"], line.get("symbol")) for line in lines] == [
        ("warning", "gap", "BTC/USD"),
        ("error", "theirs", None),
    ]


# ---- settings


class ExampleSettings(Settings):
    """The settings of a service."""

    kafka_port: int
    password: int
    speed: float = 1.0


def test_invalid_environment_names_every_variable_without_values() -> None:
    environ = {"AETHER_PASSWORD": SECRET, "AETHER_TOKEN": SECRET, "AETHER_SPEED": "2", "HOME": SECRET}
    with pytest.raises(InvalidSettings) as error:
        ExampleSettings.read(environ)
    words = str(error.value)
    assert [part.partition(":")[0] for part in words.split("; ")] == [
        "AETHER_KAFKA_PORT", "AETHER_PASSWORD", "AETHER_TOKEN",
    ]  # fmt: skip
    assert SECRET not in words
    assert error.value.__cause__ is None


# ---- HTTP endpoints


@dataclass
class FakeService:
    """A service with the checks of a test."""

    needs: dict[str, Check] = field(default_factory=dict)
    draining: bool = False

    def checks(self) -> Mapping[str, Check]:
        return self.needs

    def status(self) -> Status:
        return Status(
            service="any",
            release="1",
            instance="any-0",
            started=Nanoseconds(1_700_000_000 * 10**9),
            ready=apps.ready(self),
            draining=self.draining,
            checks=self.needs,
        )


def an_app(service: FakeService) -> fastapi.FastAPI:
    registry = prometheus_client.CollectorRegistry()
    prometheus_client.Counter("aether_any", "Anything.", registry=registry).inc(3)
    return apps.create(service, title="Any service", status_model=Status, registry=registry)


async def get(service: FakeService, path: str) -> tuple[int, str, str]:
    """Status, media type and text of an answer, without a server: as ASGI has it."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(dict(message))

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
        "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"", "headers": [],
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
    }  # fmt: skip
    await an_app(service)(scope, receive, send)
    begin, *rest = sent
    kinds = dict(begin["headers"])
    body: bytes = b"".join(one.get("body", b"") for one in rest)
    return begin["status"], kinds[b"content-type"].decode().partition(";")[0], body.decode()


WELL: Final = {"ok": True, "detail": ""}
CLOSED: Final = Check(ok=False, detail="closed by the venue")


@pytest.mark.parametrize(
    ("service", "status", "body"),
    [
        (FakeService(), 200, {}),
        (FakeService({"feed": Check(ok=True), "settings": Check(ok=True)}), 200, {"feed": WELL, "settings": WELL}),
        (
            FakeService({"feed": CLOSED, "settings": Check(ok=True)}),
            503,
            {"feed": {"ok": False, "detail": "closed by the venue"}, "settings": WELL},
        ),
        (
            FakeService({"feed": Check(ok=True)}, draining=True),
            503,
            {"feed": WELL, "draining": {"ok": False, "detail": "shutting down"}},
        ),
    ],
    ids=["needs nothing", "all well", "one is not", "shutting down"],
)
async def test_readyz_lists_each_check_and_is_200_when_all_pass(
    service: FakeService, status: int, body: dict[str, Any]
) -> None:
    code, media, text = await get(service, "/readyz")
    assert (code, media, json.loads(text)) == (status, "application/json", body)


@pytest.mark.parametrize(
    "service", [FakeService({"feed": CLOSED}), FakeService({"feed": Check(ok=True)})], ids=["not well", "well"]
)
async def test_status_readiness_and_checks_equal_those_of_readyz(service: FakeService) -> None:
    (code, _, checks), (_, _, status) = await get(service, "/readyz"), await get(service, "/status")
    formatted = json.loads(status)
    assert (formatted["ready"], formatted["checks"]) == (code == 200, json.loads(checks))


async def test_healthz_is_ok_while_readiness_fails() -> None:
    assert await get(FakeService({"feed": CLOSED}, draining=True), "/healthz") == (200, "text/plain", "ok\n")


async def test_metrics_come_from_the_services_own_registry_in_prometheus_format() -> None:
    code, media, text = await get(FakeService(), "/metrics")
    assert (code, media) == (200, "text/plain")
    assert [line for line in text.splitlines() if not line.startswith("#") and "created" not in line] == [
        "aether_any_total 3.0"
    ]


async def test_service_has_an_openapi_schema_but_no_pages() -> None:
    _, _, text = await get(FakeService(), "/openapi.json")
    assert set(json.loads(text)["paths"]) == {"/healthz", "/readyz", "/status", "/metrics"}
    assert [(await get(FakeService(), path))[0] for path in ("/docs", "/redoc")] == [404, 404]


# ---- serving


class _Working:
    """A service that runs until SIGTERM."""

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def drain(self) -> None:
        """There is nothing to hand over."""


async def test_without_a_host_each_family_is_served_on_one_port() -> None:
    server = http_server.server(an_app(FakeService()), host=None, port=0)
    task = asyncio.create_task(http_server.serve(server, _Working(), grace=1))
    async with asyncio.timeout(30), aiohttp.ClientSession() as client:
        await wait.until_async(lambda: server.started, "uvicorn, which has no event for it, has started")
        ports = {one.sockets[0].getsockname()[1] for one in server.servers}
        assert len(ports) == 1
        for address in address_families.LOOPBACKS:
            async with client.get(f"http://{address}:{next(iter(ports))}/healthz") as answer:
                assert await answer.text() == "ok\n"
        os.kill(os.getpid(), signal.SIGTERM)
        await task


# ---- the process of a service


PROCESS: Final = """
import asyncio, contextlib, os, signal, sys
import prometheus_client
from aether_services.kit import process
from aether_services.kit.settings import ServiceSettings

class Work:
    async def run(self):
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.Event().wait()
    async def drain(self):
        print("drained")

async def app(scope, receive, send):
    await send({"type": await receive() and "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})

@contextlib.asynccontextmanager
async def compose(settings, registry):
    found = prometheus_client.generate_latest(registry).decode()
    print(settings.instance, "process_resident_memory_bytes" in found)
    yield process.Composed(app=app, work=Work())
    print("closed")

process.run("toy", process.Service(settings=ServiceSettings, compose=compose, grace=5), os.environ)
print("ended")
"""


def test_process_composes_its_service_drains_on_sigterm_and_closes() -> None:
    given = {
        "AETHER_INSTANCE": "toy-0",
        "AETHER_RELEASE": "1",
        "AETHER_HTTP_HOST": "127.0.0.1",
        "AETHER_HTTP_PORT": "0",
    }
    ended = subprocess.run(
        [sys.executable, "-c", PROCESS], cwd=SERVICES, env=given, capture_output=True, text=True, check=True, timeout=30
    )
    assert ended.stdout.split("\n") == ["toy-0 True", "drained", "closed", "ended", ""]
    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [(line["service"], line["event"]) for line in lines] == [("toy", "draining"), ("toy", "stopped")]
