"""The command line of the services: which exist, and how one that cannot start ends."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

import pytest

from aether_services import __main__ as program
from aether_services.kit.process import Service

if TYPE_CHECKING:
    from collections.abc import Sequence


def test_services_are_found_by_their_app() -> None:
    assert {"exchange_sim", "ingest"} <= set(program.SERVICES)
    assert not {"clients", "contracts", "domain", "kit"} & set(program.SERVICES)


@pytest.mark.parametrize("name", program.SERVICES)
def test_the_app_of_a_service_declares_it(name: str) -> None:
    assert isinstance(importlib.import_module(f"aether_services.{name}.app").SERVICE, Service)


@pytest.mark.parametrize("arguments", [[], ["no-such"], ["kit"], ["ingest", "ingest"]])
def test_unknown_service_exits_64_and_lists_those_there_are(
    arguments: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(list(arguments)) == os.EX_USAGE
    assert capsys.readouterr().err == f"aether_services: name one service of {', '.join(program.SERVICES)}\n"


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of the process, without a setting of a service."""
    empty: dict[str, str] = {}
    monkeypatch.setattr(os, "environ", empty)
    return empty


@pytest.mark.usefixtures("environ")
def test_missing_settings_exit_78_and_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["exchange_sim"]) == os.EX_CONFIG
    words = capsys.readouterr().err
    assert [f"AETHER_{name}: Field required" in words for name in ("INSTANCE", "RELEASE", "JOURNAL")] == [True] * 3


def test_unknown_log_level_exits_78_and_is_named(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    environ |= {"AETHER_INSTANCE": "venue-0", "AETHER_RELEASE": "1", "AETHER_JOURNAL": "j", "AETHER_LOG_LEVEL": "loud"}
    assert program.main(["exchange_sim"]) == os.EX_CONFIG
    assert "AETHER_LOG_LEVEL: Input should be 'DEBUG'" in capsys.readouterr().err
