"""Reading pods' statuses and books through the API server's proxy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from aether_cli import cluster_reader, kubectl_client, problems
from aether_operator.api import labels
from aether_testing.processes import command_line
from aether_testing.values import observations
from aether_testing.values.widgets import WIDGET, WITH_WIDGETS

if TYPE_CHECKING:
    from pathlib import Path

NOT_FOUND = "Error from server (NotFound): the server could not find the requested resource"


def a_pod(name: str, phase: str = "Running") -> dict[str, Any]:
    meta = {"namespace": "aether", "name": name, "labels": labels.for_child(observations.an_owner("paper"), "ingest")}
    return {"kind": "Pod", "metadata": meta, "status": {"phase": phase}}


def a_view(*, usable: bool) -> dict[str, Any]:
    return {"symbol": "BTC/USD", "usable": usable, "received": "2026-01-01T12:00:00.000000000Z"}


def a_kubectl(folder: Path, pods: list[dict[str, Any]], **answers: Any) -> kubectl_client.Kubectl:
    """A program that lists pods, and answers for each pod with JSON, or with an error where it is a text."""
    (folder / "pods").write_text(json.dumps({"items": pods}))
    for pod, answer in answers.items():
        where = folder / (f"{pod}.error" if isinstance(answer, str) else f"{pod}.json")
        where.write_text(answer if isinstance(answer, str) else json.dumps(answer))
    program = folder / "kubectl"
    program.write_text(
        f"#!/bin/sh\ncd {folder}\n"
        'case "$*" in *--raw*) ;; *) exec cat pods;; esac\n'
        'echo "$*" >> calls\n'
        'pod=$(echo "$*" | sed "s/.*paper-ingest-\\([0-9]\\).*/p\\1/")\n'
        "if [ -f $pod.json ]; then exec cat $pod.json; fi\n"
        "cat $pod.error >&2; exit 1\n"
    )
    program.chmod(0o755)
    return kubectl_client.Kubectl(program=program)


def a_reader(kubectl: kubectl_client.Kubectl) -> cluster_reader.BookReader:
    return cluster_reader.BookReader(kubectl=kubectl, namespace="aether", platform="paper", symbol="BTC/USD", depth=5)


TWO = [a_pod("paper-ingest-0"), a_pod("paper-ingest-1")]


def test_pod_that_serves_the_market_is_found_then_queried_first(tmp_path: Path) -> None:
    reader = a_reader(a_kubectl(tmp_path, TWO, p0=NOT_FOUND, p1=a_view(usable=True)))
    assert reader.read().pod == "paper-ingest-1"
    assert reader.read().usable
    calls = [line.split()[2] for line in (tmp_path / "calls").read_text().splitlines()]
    where = "/api/v1/namespaces/aether/pods/paper-ingest-{}:8000/proxy/books/BTC/USD?depth=5"
    assert calls == [where.format(pod) for pod in (0, 1, 1)]


def test_of_two_pods_one_with_a_usable_book_is_shown(tmp_path: Path) -> None:
    reader = a_reader(a_kubectl(tmp_path, TWO, p0=a_view(usable=False), p1=a_view(usable=True)))
    assert reader.read().pod == "paper-ingest-1"
    (tmp_path / "p1.json").write_text(json.dumps(a_view(usable=False)))
    assert reader.read().usable is False


def test_unserved_market_is_reported_with_where_to_check(tmp_path: Path) -> None:
    with pytest.raises(problems.NotReady, match="BTC/USD: no ingest pod of platform paper") as error:
        a_reader(a_kubectl(tmp_path, TWO, p0=NOT_FOUND, p1=NOT_FOUND)).read()
    assert error.value.remedy == "Why: aether explain tp/paper -n aether"


def test_without_a_pod_the_market_is_unserved(tmp_path: Path) -> None:
    with pytest.raises(problems.NotReady, match="no ingest pod"):
        a_reader(a_kubectl(tmp_path, [a_pod("paper-ingest-0", phase="Pending")])).read()


def test_unreachable_ingest_is_distinguished(tmp_path: Path) -> None:
    unavailable = "Error from server (ServiceUnavailable): error trying to reach service"
    with pytest.raises(problems.NotReady, match=r"not reachable: .*ServiceUnavailable"):
        a_reader(a_kubectl(tmp_path, TWO, p0=unavailable, p1=NOT_FOUND)).read()


def test_pod_status_or_why_it_is_missing_is_returned(tmp_path: Path) -> None:
    kubectl = a_kubectl(tmp_path, [], p0={"feed": {}}, p1="Error: no")
    assert cluster_reader.pod_status(kubectl, a_pod("paper-ingest-0")).status == {"feed": {}}
    assert "Error: no" in cluster_reader.pod_status(kubectl, a_pod("paper-ingest-1")).error
    assert cluster_reader.pod_status(kubectl, a_pod("paper-ingest-2", phase="Pending")).error == "it is not running"


def test_response_that_is_not_json_is_reported(tmp_path: Path) -> None:
    kubectl = a_kubectl(tmp_path, [], p0={})
    (tmp_path / "p0.json").write_text("<html>")
    assert "the response is not JSON" in cluster_reader.pod_status(kubectl, a_pod("paper-ingest-0")).error


def kubectl_with(folder: Path, **answers: Any) -> kubectl_client.Kubectl:
    """A program that answers `get RESOURCE`, and lists nothing else."""
    replies = {f"get {resource}": answer for resource, answer in answers.items()}
    return kubectl_client.Kubectl(program=command_line.a_kubectl(folder, replies) / "kubectl")


A_WIDGET = {"kind": "Widget", "metadata": {"namespace": "aether", "name": "small"}}
FORBIDDEN = "Error from server (Forbidden): you cannot list them"


def test_objects_of_every_kind_in_the_table_are_read(tmp_path: Path) -> None:
    kubectl = kubectl_with(
        tmp_path, tradingplatforms={"items": [command_line.a_platform()]}, widgets={"items": [A_WIDGET]}
    )
    state = cluster_reader.aether_state(kubectl, ["aether"], WITH_WIDGETS)
    assert (state.platforms, state.others) == ([command_line.a_platform()], [A_WIDGET])
    assert cluster_reader.aether_state(kubectl, ["aether"]).others == []


def test_kind_that_an_older_cluster_lacks_has_no_objects(tmp_path: Path) -> None:
    kubectl = kubectl_with(tmp_path, widgets='error: the server doesn\'t have a resource type "widgets"')
    state = cluster_reader.aether_state(kubectl, (), WITH_WIDGETS)
    assert (state.others, state.unreadable) == ([], [])


def test_user_who_may_list_one_kind_sees_it(tmp_path: Path) -> None:
    kubectl = kubectl_with(tmp_path, tradingplatforms=FORBIDDEN, widgets={"items": [A_WIDGET]})
    state = cluster_reader.aether_state(kubectl, ["aether"], WITH_WIDGETS)
    assert state.others == [A_WIDGET]
    assert [str(one) for one in state.unreadable] == ["tradingplatforms in namespace aether"]


def test_user_who_may_list_no_kind_gets_an_error(tmp_path: Path) -> None:
    plurals = [one.plural for one in WITH_WIDGETS.values()]
    kubectl = kubectl_with(tmp_path, **dict.fromkeys(plurals, FORBIDDEN))
    message = f"you may not list {', '.join(plurals)} in namespace aether"
    with pytest.raises(kubectl_client.Forbidden, match=message):
        cluster_reader.aether_state(kubectl, ["aether"], WITH_WIDGETS)


def test_missing_object_of_another_kind_is_named(tmp_path: Path) -> None:
    kubectl = kubectl_with(tmp_path, **{"widgets.trading.aether.io small": 'Error from server (NotFound): "small"'})
    with pytest.raises(problems.BadInput, match="no Widget small in namespace aether"):
        cluster_reader.get(kubectl, WIDGET, "aether", "small", see_all="aether status -A")
