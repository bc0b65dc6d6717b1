"""Waiting for a condition through kubectl: events, and the error after the deadline."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from aether_cli import kubectl_client, problems

if TYPE_CHECKING:
    from pathlib import Path


def a_pod(name: str, phase: str) -> dict[str, Any]:
    ready = {"type": "Ready", "status": str(phase == "Running"), "reason": "Why", "message": "because"}
    status = {"phase": phase, "conditions": [ready]}
    return {"kind": "Pod", "metadata": {"namespace": "aether", "name": name}, "status": status}


def a_kubectl(folder: Path, listed: list[dict[str, Any]], *events: dict[str, Any]) -> kubectl_client.Kubectl:
    """A program that answers a list and, to a watch, these events: pretty-printed and in pieces, as kubectl does."""
    text = "\n".join(json.dumps(event, indent=2) for event in events)
    (folder / "list").write_text(json.dumps({"items": listed}))
    (folder / "head").write_text(text[: len(text) // 2])
    (folder / "tail").write_text(text[len(text) // 2 :])
    program = folder / "kubectl"
    program.write_text(
        f"#!/bin/sh\ncd {folder}\n"
        'case "$*" in *--watch*) cat head; sleep 0.1; cat tail; exec sleep 30;; *) cat list;; esac\n'
    )
    program.chmod(0o755)
    return kubectl_client.Kubectl(program=program)


def test_wait_is_fulfilled_by_an_event(tmp_path: Path) -> None:
    kubectl = a_kubectl(
        tmp_path,
        [a_pod("a", "Pending")],
        {"type": "ADDED", "object": a_pod("b", "Pending")},
        {"type": "MODIFIED", "object": a_pod("a", "Running")},
        {"type": "DELETED", "object": a_pod("b", "Pending")},
    )
    objects = kubectl.until(
        lambda objects: (
            kubectl_client.condition(objects.get("aether/a", {}), "Ready") == "True" and "aether/b" not in objects
        ),
        "pods",
        deadline=20,
        expected="a runs alone",
    )
    assert list(objects) == ["aether/a"]


def test_wait_can_be_fulfilled_by_the_first_list(tmp_path: Path) -> None:
    kubectl = a_kubectl(tmp_path, [])
    assert kubectl.until(lambda objects: not objects, "pods", deadline=20, expected="nothing is there") == {}


def test_unmet_wait_reports_what_was_last_observed_and_why(tmp_path: Path) -> None:
    kubectl = a_kubectl(tmp_path, [a_pod("a", "Pending")])
    began = time.monotonic()
    with pytest.raises(problems.NotReady) as caught:
        kubectl.until(lambda _: False, "pods", deadline=0.5, expected="a runs")
    assert time.monotonic() - began < 20
    assert str(caught.value).splitlines() == [
        "a runs: not within 0.5 s",
        "Last observed:",
        '  Pod aether/a: {"phase": "Pending"}; Ready=False (Why: because)',
    ]


def test_unmet_wait_reports_the_last_error(tmp_path: Path) -> None:
    program = tmp_path / "kubectl"
    program.write_text("#!/bin/sh\necho 'error: no such resource' >&2\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(problems.NotReady, match=r"(?s)nothing.*kubectl ended with 1: error: no such resource"):
        kubectl_client.Kubectl(program=program).until(lambda _: False, "x", deadline=0.5, expected="x")
