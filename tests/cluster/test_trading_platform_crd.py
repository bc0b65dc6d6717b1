"""TradingPlatform on a real API server: validation and its messages, defaulting, and status for clients."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from kubernetes.aio import client, config

from aether_operator import status
from aether_operator.api import models, parsing, platforms
from aether_operator.api.platform_definition import DEFINITION
from aether_operator.api.platforms import PlatformSpec, Server
from aether_operator.api.resources import Resource
from aether_operator.kube import api_client
from aether_operator.observed import kinds
from aether_testing.processes import installations
from aether_testing.values import kstatus, manifests, states

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from aether_cli.local.startup import Cluster
    from aether_testing.cluster.namespaces import Namespace
    from aether_testing.values.manifests import InvalidManifest

TOP: Final = Path(__file__).resolve().parents[2]
FILE: Final = TOP / f"crds/v1alpha1/{platforms.PLURAL}.yaml"
NAME: Final = DEFINITION.resource
WIDEST: Final = 120
AT_ONCE: Final = 16


@pytest.fixture(scope="session")
def definition(control_plane: Cluster) -> dict[str, Any]:
    """The CRD, established without a warning."""
    words = ("--server-side", "--force-conflicts", "--field-manager=aether-cli", "--warnings-as-errors")
    control_plane.kubectl.text("apply", *words, f"--filename={FILE}")
    installations.install_crds(control_plane)  # waits until it is established
    return control_plane.kubectl.get("crd", NAME)


@dataclass
class ApiServer:
    """A namespace, and a client of the API server."""

    api: api_client.Api
    namespace: Namespace
    limit: asyncio.Semaphore

    async def create(self, thing: dict[str, Any], *, dry: bool = True) -> dict[str, Any]:
        """Create an object; `dry`: as a dry run."""
        query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry else {})}
        where = api_client.path(kinds.PLATFORMS, self.namespace.name)
        async with self.limit:
            made: dict[str, Any] = await self.api.request("POST", where, query=query, body=thing)
        return made

    async def patch(self, name: str, spec: Any, *, dry: bool = True) -> dict[str, Any]:
        """Merge-patch the spec of a platform."""
        query = {"fieldValidation": "Strict", **({"dryRun": "All"} if dry else {})}
        where = api_client.path(kinds.PLATFORMS, self.namespace.name, name)
        async with self.limit:
            made: dict[str, Any] = await self.api.request(
                "PATCH", where, query=query, body={"spec": spec}, content=api_client.MERGE
            )
        return made

    async def write_status(self, thing: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        """Apply a status, as the operator does."""
        name = thing["metadata"]["name"]
        body = {"apiVersion": models.API_VERSION, "kind": platforms.KIND, "metadata": {"name": name}, "status": status}
        async with self.limit:
            return await self.api.apply(kinds.PLATFORMS, body, self.namespace.name, subresource="status")


@pytest.fixture
async def api_server(
    control_plane: Cluster, namespace: Namespace, definition: dict[str, Any], tmp_path: Path
) -> AsyncIterator[ApiServer]:
    assert definition["metadata"]["name"] == NAME
    configuration = client.Configuration(retries=False)
    await config.load_kube_config(str(control_plane.kubeconfig), client_configuration=configuration)
    api = api_client.Api(configuration=configuration)
    kubectl = replace(namespace.kubectl, cache=tmp_path / "kubectl")  # other caches may be older than our CRDs
    yield ApiServer(api, replace(namespace, kubectl=kubectl), asyncio.Semaphore(AT_ONCE))
    await api.close()


async def check_rejection(wrong: InvalidManifest, sent: Any) -> str:
    """What is wrong with the rejection of an invalid platform; empty if nothing is."""
    try:
        await sent
    except api_client.ApiError as rejected:
        if rejected.code not in {400, 422}:
            return f"{wrong.id}: {rejected}"
        named = re.search(rf"(?<![\w.]){re.escape(wrong.field)}(?![\w])", rejected.message)
        return "" if named else f"{wrong.id}: does not name {wrong.field}: {rejected.message}"
    return f"{wrong.id}: accepted"


async def amiss(checks: Iterable[Any]) -> list[str]:
    return [one for one in await asyncio.gather(*checks) if one]


# ---- the CRD


def test_crd_is_established_with_its_names_and_a_structural_schema(definition: dict[str, Any]) -> None:
    truths = {one["type"]: one["status"] for one in definition["status"]["conditions"]}
    assert truths == {"NamesAccepted": "True", "Established": "True"}  # NonStructuralSchema and others would be here
    assert definition["status"]["storedVersions"] == [models.VERSION]


def test_api_server_stores_the_crd_as_it_is_written(definition: dict[str, Any]) -> None:
    written = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    kept = dict(definition["spec"])
    assert kept.pop("conversion") == {"strategy": "None"}
    assert kept == written["spec"]


# ---- validation


async def test_each_invalid_platform_is_rejected_with_its_field(api_server: ApiServer) -> None:
    assert len(manifests.INVALID) >= 80
    sent = [
        check_rejection(one, api_server.create(manifests.a_manifest(one.spec, one.name))) for one in manifests.INVALID
    ]
    assert await amiss(sent) == []


async def test_platform_without_a_spec_is_rejected(api_server: ApiServer) -> None:
    thing = manifests.a_manifest({})
    del thing["spec"]
    with pytest.raises(api_client.ApiError, match="spec: Required value"):
        await api_server.create(thing)


async def test_each_invalid_edit_is_rejected_with_its_field(api_server: ApiServer) -> None:
    names = {"managed": manifests.MANAGED, "external": manifests.EXTERNAL}
    for name, spec in names.items():
        await api_server.create(manifests.a_manifest(spec, name), dry=False)
    assert {json.dumps(one.before) for one in manifests.INVALID_EDITS} == {json.dumps(one) for one in names.values()}
    of = {json.dumps(spec): name for name, spec in names.items()}
    sent = [
        check_rejection(one, api_server.patch(of[json.dumps(one.before)], one.spec)) for one in manifests.INVALID_EDITS
    ]
    assert await amiss(sent) == []


# ---- valid objects


@pytest.mark.parametrize("name", manifests.VALID)
async def test_valid_platform_gets_the_defaults_of_the_models(api_server: ApiServer, name: str) -> None:
    spec = manifests.VALID[name]
    kept = await api_server.create(manifests.a_manifest(spec))
    wanted = PlatformSpec.model_validate(spec)
    understood = parsing.parse(DEFINITION, kept)
    assert isinstance(understood, Resource)
    assert understood.spec == wanted
    assert filled(kept["spec"]) == wanted.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert kept["status"] == {"observedGeneration": -1}


def filled(value: Any, name: str = "") -> Any:
    """A stored spec, with its quantities as text."""
    if isinstance(value, dict):
        return {key: filled(part, key) for key, part in value.items()}
    return str(value) if name in {"cpu", "memory", "storage"} else value


async def test_example_platform_is_valid(api_server: ApiServer) -> None:
    example = yaml.safe_load((TOP / "examples/01-paper-platform/platform.yaml").read_text())
    example["metadata"]["namespace"] = api_server.namespace.name
    kept = await api_server.create(example)
    assert isinstance(parsing.parse(DEFINITION, kept), Resource)


@pytest.mark.parametrize("server", Server)
async def test_storage_can_be_increased(api_server: ApiServer, server: Server) -> None:
    await api_server.create(manifests.a_manifest({}), dry=False)
    for size in ("10241Mi", "11Gi", 21474836480):
        kept = await api_server.patch("paper", {"dataPlane": {server.value: {"managed": {"storage": size}}}}, dry=False)
        assert kept["spec"]["dataPlane"][server.value]["managed"]["storage"] == size


async def test_other_fields_can_be_edited(api_server: ApiServer) -> None:
    await api_server.create(manifests.a_manifest({}), dry=False)
    await api_server.create(manifests.a_manifest(manifests.EXTERNAL, "elsewhere"), dry=False)
    resources = {"limits": {"cpu": "2", "memory": "2Gi"}}
    plane = {"postgres": {"timescale": "Required"}, "kafka": {"managed": {"resources": resources}}}
    own: dict[str, Any] = {
        "paused": True,
        "progressDeadlineSeconds": 60,
        "retention": {"tradesDays": 7},
        "pairs": ["SOL/USD"],
        "components": {"ingest": {"replicas": 4}, "exchangeSim": {"speed": 2}},
        "dataPlane": plane,
    }
    assert (await api_server.patch("paper", own))["metadata"]["generation"] == 2
    moved = {"external": {"host": "10.0.0.7", "port": 6380, "tls": "Disabled", "secretName": "other"}}
    kept = await api_server.patch("elsewhere", {"dataPlane": {"redis": moved}})
    assert kept["spec"]["dataPlane"]["redis"]["external"] == moved["external"]


# ---- status


async def test_kubectl_explain_shows_the_descriptions_of_the_models(api_server: ApiServer) -> None:
    explanation = api_server.namespace.kubectl.text("explain", "tp.spec.dataPlane.postgres")
    plain = " ".join(explanation.split())
    for words in ("market data", "Immutable", "report a Warning", "required with mode External"):
        assert words.lower() in plain.lower()
    assert api_server.namespace.kubectl.text("api-resources", "--categories=aether", "-o", "name").split() == [NAME]


async def test_every_status_survives_the_api_server_as_it_was_computed(api_server: ApiServer) -> None:
    """Each documented state, as kstatus computes it from the stored object, and as `kubectl wait` sees it."""
    rows = await asyncio.gather(
        *(create_with_status(api_server, number, one) for number, one in enumerate(states.STATES))
    )
    assert len(rows) >= 40
    wrong = [f"{one.title}: {kstatus.compute(thing)}" for one, thing in rows if kstatus.compute(thing) != one.kstatus]
    assert wrong == []
    ready = {thing["metadata"]["name"] for one, thing in rows if one.state == status.State.READY}
    others = {thing["metadata"]["name"] for _, thing in rows} - ready
    assert ready
    assert met(api_server, ready) == ready
    assert met(api_server, others) == set()


async def create_with_status(
    api_server: ApiServer, number: int, one: states.State
) -> tuple[states.State, dict[str, Any]]:
    """Create a platform for a state, with the state as its status."""
    name = f"s{number:03d}-{'-'.join(re.findall('[a-z]+', one.title.lower()))}"[: platforms.MAX_NAME_LENGTH].strip("-")
    kept = await api_server.create(manifests.a_manifest(one.spec, name), dry=False)
    assert kept["metadata"]["generation"] == 1
    thing = await api_server.write_status(kept, one.status)
    assert thing["status"] == one.status  # nothing was pruned, nothing filled in
    return one, thing


def met(api_server: ApiServer, names: set[str]) -> set[str]:
    """The platforms that `kubectl wait` reports as Ready; it does not wait for others."""
    things = [f"{platforms.SHORT}/{name}" for name in sorted(names)]
    words = ["wait", "--for=condition=Ready", "--timeout=0s", f"--namespace={api_server.namespace.name}", *things]
    command = api_server.namespace.kubectl.command(*words)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    found = re.findall(r"^tradingplatform\.\S+/(\S+) condition met$", done.stdout, re.MULTILINE)
    late = re.findall(r"condition not met for tradingplatforms/(\S+)", done.stderr)
    assert sorted([*found, *late]) == sorted(names), done.stderr
    assert (done.returncode == 0) is (not late)
    return set(found)


async def test_a_table_of_platforms_fits_a_terminal(api_server: ApiServer) -> None:
    steady = next(one for one in states.STATES if one.state == status.State.READY)
    longest = max(states.STATES, key=lambda one: len(one.state + one.reason))
    for name, one in {"paper": steady, "p" * platforms.MAX_NAME_LENGTH: longest}.items():
        await api_server.write_status(
            await api_server.create(manifests.a_manifest(one.spec, name), dry=False), one.status
        )
    lines = api_server.namespace.text("get", "aether").splitlines()
    assert re.split(r"\s{2,}", lines[0].strip()) == ["NAME", "VENUE", "PAIRS", "READY", "STATE", "REASON", "AGE"]
    assert len(lines) == 3
    assert max(map(len, lines)) <= WIDEST
    assert f"Simulated   {steady.status['readyPairs']}" in lines[1]
    assert f" {steady.status['readyParts']} " in lines[1]
    assert "MESSAGE" in api_server.namespace.text("get", "tp", "-o", "wide").splitlines()[0]
