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


def test_missing_settings_exit_78_and_are_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in os.environ if name.startswith("AETHER_")]:
        monkeypatch.delenv(name)
    assert program.main(["exchange_sim"]) == os.EX_CONFIG
    words = capsys.readouterr().err
    assert [f"AETHER_{name}: Field required" in words for name in ("INSTANCE", "RELEASE", "JOURNAL")] == [True] * 3
