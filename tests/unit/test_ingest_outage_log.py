"""Outages in ingest's log: no warning while it starts, each cause once."""

from __future__ import annotations

import logging

import pytest

from aether_services.ingest.service import outage_log
from aether_services.ingest.service.outage_log import OutageLog
from aether_testing.values.clocks import Clock


@pytest.fixture(autouse=True)
def _every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


def an_outage_log(clock: Clock) -> OutageLog:
    return OutageLog(logging.getLogger("outage"), down="output_unavailable", up="output_connected", clock=clock)


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [(one.levelname, one.getMessage()) for one in caplog.records]


async def test_outages_while_it_starts_are_no_warnings(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = an_outage_log(clock)
    log.record_failure("connection refused", output="kafka")
    await clock.sleep(20)
    log.record_success(output="kafka")
    log.record_failure("a topic does not exist yet", output="kafka")
    assert lines(caplog) == [
        ("INFO", "output_unavailable"), ("INFO", "output_connected"), ("INFO", "output_unavailable"),
    ]  # fmt: skip
    assert caplog.records[1].__dict__["seconds"] == 20


async def test_outage_that_outlasts_the_start_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = an_outage_log(clock)
    for _ in range(3):
        log.record_failure("connection refused")
        await clock.sleep(outage_log.START_GRACE)
    assert lines(caplog) == [("INFO", "output_unavailable"), ("WARNING", "output_unavailable")]


async def test_later_outage_warns_at_once_for_each_cause(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    log = an_outage_log(clock)
    log.record_success()
    log.record_success()
    await clock.sleep(outage_log.START_GRACE)
    for cause in ("connection closed", "connection refused", "connection refused"):
        log.record_failure(cause)
    await clock.sleep(7)
    log.record_success()
    assert lines(caplog)[1:] == [
        ("WARNING", "output_unavailable"), ("WARNING", "output_unavailable"), ("INFO", "output_connected"),
    ]  # fmt: skip
    assert caplog.records[-1].__dict__["seconds"] == 7
