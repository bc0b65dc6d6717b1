"""The fixtures: one control plane and one node for a whole run, a namespace for each test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import pytest
from xdist.scheduler import LoadScopeScheduling

from aether_testing.cluster import clusters, machines, namespaces
from aether_testing.processes import ingests, planes
from aether_testing.servers import fake_services
from aether_testing.values import recordings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from aether_cli.local.startup import Cluster

NAMESPACE = pytest.StashKey[namespaces.Namespace]()


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """etcd, API server and controllers, with kwok: pods become Ready without a node."""
    with clusters.running(clusters.WITH_KWOK, clusters.unique_paths(tmp_path_factory.mktemp("control-plane"))) as one:
        yield one


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A whole cluster: pods run."""
    with clusters.running(clusters.NODE, clusters.unique_paths(tmp_path_factory.mktemp("node"))) as one:
        yield one


@pytest.fixture(scope="session")
def plane() -> Iterator[planes.Plane]:
    """Real servers on loopback that platforms of the control plane use."""
    with planes.running() as one:
        yield one


@pytest.fixture(scope="session")
def fakes(control_plane: Cluster) -> Iterator[fake_services.FakeServices]:
    """The endpoints of service pods in the control plane, which kwok only reports as running."""
    with fake_services.running(control_plane) as one:
        yield one


@pytest.fixture(scope="session")
def market_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ingests.DataPlane]:
    """Real servers on loopback that ingest writes to, with the schema and the topics; a test may kill them."""
    with ingests.plane(tmp_path_factory.mktemp("market-plane")) as one:
        yield one


def _namespace(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[namespaces.Namespace]:
    one = namespaces.create(cluster, request.node.name)
    request.node.stash[NAMESPACE] = one
    yield one
    one.kubectl.text("delete", "namespace", one.name, "--wait=false")


@pytest.fixture
def namespace(control_plane: Cluster, request: pytest.FixtureRequest) -> Iterator[namespaces.Namespace]:
    """A namespace of the control plane, for this test."""
    yield from _namespace(control_plane, request)


@pytest.fixture
def node_namespace(node: Cluster, request: pytest.FixtureRequest) -> Iterator[namespaces.Namespace]:
    """A namespace of the node, for this test."""
    yield from _namespace(node, request)


@pytest.fixture(scope="session", params=recordings.sources())
def source(request: pytest.FixtureRequest) -> str:
    """Where messages come from: each test on the generated feed, and where recordings are, on the recorded one."""
    name: str = request.param
    return name


@pytest.fixture
def frames(source: str) -> Sequence[bytes]:
    """A snapshot of a book and the updates that follow it."""
    return recordings.book_frames(source)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[machines.Machine]:
    """The machine as this test has it, apart from whatever else happens there."""
    with machines.isolated(tmp_path / "machine") as one:
        yield one


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How often a campaign repeats: two rounds in a test run, what it asks for in `make campaign`."""
    asked = request.node.get_closest_marker("campaign")
    full: int = asked.kwargs["full"]
    return full if request.config.getoption("--full") else 2


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failed test shows its namespace."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if report.when == "call" and report.failed and (one := item.stash.get(NAMESPACE, None)):
        report.sections.append((f"namespace {one.name}", one.shown()))
    return report  # type: ignore[return-value]


TOGETHER: Final = {
    "campaign/test_operator": "a control plane",
    "cluster": "control planes",
    "e2e": "nodes",
    "campaign/test_up": "nodes",
}
"""Where tests share a cluster → a name for it."""


class _Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # the library has no types
    """What one process does of several, as a whole: all that shares a cluster, or a file of the rest."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0].removeprefix("tests/")
        return next((scope for begin, scope in TOGETHER.items() if path.startswith(begin)), path)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _Scheduling:
    """Its `loadgroup` would do, but does not know the names that this pytest gives to tests."""
    return _Scheduling(config, log)


def pytest_report_header() -> str:
    """Which feeds tests of market data run on here."""
    return f"feeds: {', '.join(recordings.sources())} (recordings: {recordings.folder()})"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--full`, for `make campaign`."""
    parser.addoption("--full", action="store_true", help="campaigns in full length")
