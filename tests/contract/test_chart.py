"""What must agree with the chart: configuration, servers, CRDs and messages."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import yaml

from aether_cli import installer
from aether_operator.api.platforms import Server
from aether_operator.kube import api_client

TOP: Final = Path(__file__).resolve().parents[2]
CHART: Final = TOP / "helm/aether-operator"


def test_up_brings_images_for_exactly_the_servers_of_a_platform() -> None:
    assert set(installer.SERVERS) == {str(server) for server in Server}
    assert set(yaml.safe_load((CHART / "values.yaml").read_text())["dataPlaneImages"]) == set(installer.SERVERS)


def test_chart_contains_the_crds_byte_for_byte() -> None:
    generated = {path.name: path.read_bytes() for path in (TOP / "crds/v1alpha1").glob("*.yaml")}
    assert generated
    assert {path.name: path.read_bytes() for path in (CHART / "files/crds").iterdir()} == generated


def test_operator_knows_the_messages_of_the_admission_policies() -> None:
    fence, finalizers = ((CHART / f"templates/{name}.yaml").read_text() for name in ("fence", "finalizers"))
    assert f"' {api_client.FENCED} {{{{" in fence
    state, colon, rest = api_client.NAMESPACE_DELETING.partition(":")
    assert f"(variables.terminating ? ' {state}' : " in finalizers
    assert f"'{colon}{rest}'" in finalizers
