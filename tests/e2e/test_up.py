"""`aether up` as a user runs it: from no cluster to a platform with market data; edits; down; and up again."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from aether_cli import installer, kubectl_client, problems, progress
from aether_cli.local import manifests, startup
from aether_operator.api.reasons import ConditionType, Reason
from aether_services.domain import books
from aether_testing.cluster import charts, clusters, e2e_platform, machines
from aether_testing.values import pages
from aether_testing.values.pages import TOP, Way

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aether_cli.local import paths
    from aether_testing.cluster.e2e_platform import Aether, E2EPlatform
    from aether_testing.cluster.machines import Machine, Traces

SYSTEM, NAMESPACE = manifests.NAMESPACES
PAIRS: Final = ("BTC/USD", "ETH/USD", "SOL/USD")
"""The pairs of the example."""
ONE_MORE: Final = "XRP/USD"
OUTPUTS: Final = ("kafka", "nats", "tables")
WELL: Final = 10.0
"""The largest lag of a healthy platform, in seconds; with more it is not Ready."""
GAPS: Final = """
SELECT symbol, min(trade_id), max(trade_id), count(*) FROM aether.trades GROUP BY symbol
HAVING count(*) <> max(trade_id) - min(trade_id) + 1 OR count(*) <> count(DISTINCT trade_id)
"""
API: Final = "trading.aether.io/v1alpha1"


@pytest.fixture
def at(tmp_path: Path) -> Iterator[paths.Paths]:
    one = clusters.unique_paths(tmp_path)
    yield one
    startup.down(one, progress.SilentReporter(), purge=True)


@pytest.fixture
def aether(at: paths.Paths, tmp_path: Path) -> Aether:
    """The command, with folders of this test."""
    return e2e_platform.command(at, tmp_path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Up:
    """What `aether up` started, and the machine's state before."""

    at: paths.Paths
    folder: Path
    e2e: E2EPlatform
    machine: Machine
    before: Traces = field(repr=False)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """One platform for several tests, in the order of this file: edits stay for the later ones."""
    folder = tmp_path_factory.mktemp("up")
    at = clusters.unique_paths(folder)
    with machines.isolated(folder / "machine") as machine:
        before = machine.snapshot(at.name)
        try:
            yield Up(at=at, folder=folder, e2e=e2e_platform.up(at, folder), machine=machine, before=before)
        finally:
            startup.down(at, progress.SilentReporter(), purge=True)


def kubectl_json(aether: Aether, *words: str) -> dict[str, Any]:
    answer: dict[str, Any] = e2e_platform.json_output(aether, "kubectl", *words, "-o", "json")
    return answer


def secrets_of(aether: Aether) -> dict[str, Any]:
    """The logins that the operator generated for the example."""
    mine = f"--selector=app.kubernetes.io/managed-by=aether-operator,trading.aether.io/platform={e2e_platform.PLATFORM}"
    items = kubectl_json(aether, "get", "secrets", f"--namespace={NAMESPACE}", mine)["items"]
    return {one["metadata"]["name"]: one["data"] for one in items}


def stored(e2e: E2EPlatform) -> list[int]:
    """The number of rows of each table in the platform's database."""
    counts = ", ".join(f"(SELECT count(*) FROM aether.{table})" for table in ("trades", "books", "tickers"))
    (found,) = e2e.rows(f"SELECT {counts}")
    return [int(one) for one in found]


def all_grew(now: Sequence[int], then: Sequence[int]) -> bool:
    return all(one > other for one, other in zip(now, then, strict=True))


def cells(headings: str, line: str) -> dict[str, str]:
    """A row of a table as a mapping; each cell begins in the column of its heading."""
    begins = [(found.start(), found[0]) for found in re.finditer(r"\S+", headings)]
    ends = [*(start for start, _ in begins[1:]), len(line)]
    return {name: line[start:end].strip() for (start, name), end in zip(begins, ends, strict=True)}


def verify(view: dict[str, Any]) -> None:
    """Check that a book as `aether book` shows it has the venue's checksum, computed from its levels."""
    assert view["usable"], view
    asks, bids = (
        [(int(price.replace(".", "")), int(quantity.replace(".", ""))) for price, quantity in view[side]]
        for side in ("asks", "bids")
    )
    assert len(asks) == len(bids) == books.CHECKSUM_LEVELS
    assert view["checksum"] == books.checksum(asks, bids)


def missing_ids(trades: Sequence[dict[str, Any]]) -> list[int]:
    """The ids between the lowest and the highest that no trade has."""
    ids = {one["trade_id"] for one in trades}
    return sorted(set(range(min(ids), max(ids))) - ids) if ids else []


def test_up_without_an_example_installs_the_operator_and_nothing_else(
    aether: Aether,
) -> None:
    done = aether("up", "--port", "0", "--no-example", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["platforms"] == []
    deployment = kubectl_json(aether, "get", "deployment", installer.RELEASE, f"--namespace={SYSTEM}")
    assert deployment["status"]["availableReplicas"] == deployment["spec"]["replicas"] == 2
    assert kubectl_json(aether, "get", installer.PLATFORMS, "--all-namespaces")["items"] == []


# The following tests share one platform. They come last, so that no other test of this file runs beside it.


def test_up_ends_with_a_ready_platform_whose_rows_arrive(shared: Up) -> None:
    e2e = shared.e2e
    assert e2e.up_output["chart"].startswith("aether-operator-")
    (platform,) = e2e.up_output["platforms"]
    assert (platform["namespace"], platform["name"], platform["ready"]) == (NAMESPACE, e2e_platform.PLATFORM, "True")
    assert kubectl_client.condition(e2e.platform(), "Ready") == "True"
    assert set(secrets_of(e2e.aether)) >= {f"{e2e_platform.PLATFORM}-{server}" for server in installer.SERVERS}
    before = stored(e2e)
    e2e.until(lambda: all_grew(stored(e2e), before), "trades, books and tickers arrive")


def test_up_ends_with_the_name_of_an_unknown_chart_value(shared: Up, tmp_path: Path) -> None:
    values = tmp_path / "values.yaml"
    values.write_text("replikas: 3\n")
    done = shared.e2e.aether("up", "--port", "0", "--no-example", "--values", str(values))
    assert done.returncode == problems.ProgramFailed.exit_code
    assert "'replikas' not allowed" in done.stderr


def test_clean_start_has_no_warning_in_events_or_logs(shared: Up) -> None:
    """Of ours: the scheduler and the kubelet may report what they wait for."""
    events = shared.e2e.kubectl.get("events.events.k8s.io", f"--namespace={NAMESPACE}")["items"]
    ours = [one for one in events if one.get("reportingController", "").startswith("trading.aether.io/")]
    assert Reason.READY in {one["reason"] for one in ours}
    assert [(one["reason"], one["note"]) for one in ours if one["type"] != "Normal"] == []
    for what, namespace in (
        (f"deployment/{installer.RELEASE}", SYSTEM),
        (f"{e2e_platform.PLATFORM}-ingest-0", NAMESPACE),
    ):
        text = shared.e2e.kubectl.text("logs", what, f"--namespace={namespace}", "--tail=-1")
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        assert lines, what
        assert [one for one in lines if one["level"] not in {"debug", "info"}] == [], what


def test_status_shows_the_market_data_flow_and_a_verified_book(shared: Up) -> None:
    e2e = shared.e2e
    page = e2e.aether("status")
    assert page.returncode == 0, page.stdout + page.stderr
    lines = page.stdout.splitlines()
    whose = f"Cluster {shared.at.name}  venue Simulated, feed Synthetic"
    assert page.stderr.splitlines() == [whose]
    assert e2e.aether("kubectl", "get", "tp", "-A").stderr.splitlines() == [whose]
    heading = next(nth for nth, line in enumerate(lines) if line.startswith(f"Market data {e2e_platform.PLATFORM} "))
    row = cells(*lines[heading + 1 : heading + 3])
    assert (row.pop("POD"), row.pop("BOOKS")) == (f"{e2e_platform.PLATFORM}-ingest-0", "3/3")
    assert float(row.pop("ROWS/S")) > 0
    assert int(row.pop("CONFLATED")) >= 0
    assert row.keys() == {"FEED", "AGE", *map(str.upper, OUTPUTS)}
    assert all(float(cell.removesuffix(" s")) < WELL for cell in row.values()), row

    reports = e2e_platform.json_output(e2e.aether, "status", "--json")["marketData"]
    (status,) = [one["status"] for one in reports]
    assert status["feed"]["connected"]
    assert sorted(pair for pair, book in status["books"].items() if book["usable"]) == sorted(PAIRS)
    assert {name: output["ok"] for name, output in status["outputs"].items()} == dict.fromkeys(OUTPUTS, True)
    for pair in PAIRS:
        view = e2e_platform.json_output(e2e.aether, "book", pair, "--once", "--json")
        assert (view["cluster"]["name"], view["venue"]["name"]) == (shared.at.name, "Simulated")
        verify(view)


async def test_edits_take_effect_without_a_gap_in_other_markets(shared: Up) -> None:
    e2e = shared.e2e
    pods, before = e2e.pods(), stored(e2e)

    def edits() -> None:
        _tell(f"{ONE_MORE} has a book", e2e.set_pairs(*PAIRS, ONE_MORE), e2e.until_ready())
        verify(e2e_platform.json_output(e2e.aether, "book", ONE_MORE, "--once", "--json"))
        _tell("books are kept longer", e2e.set_books_retention(4), e2e.until_ready())
        _tell("two replicas share", e2e.set_replicas(2), e2e.until_ready())
        _tell("one has all again", e2e.set_replicas(1), e2e.until_ready())
        e2e.until(lambda: e2e.pods().keys() == pods.keys(), "the second is deleted")
        e2e.until(lambda: all_grew(stored(e2e), before), "rows arrive")

    async with e2e.subscribed() as received:
        await asyncio.to_thread(edits)
    assert received.faults == []
    for pair in (*PAIRS, ONE_MORE):
        books = received.of("book", pair)
        begun = books if pair in PAIRS else list(itertools.dropwhile(lambda one: not one["usable"], books))
        assert begun, f"{pair}: no book was published"
        assert [one for one in begun if not one["usable"]] == [], f"{pair}: its book was taken back"
        assert missing_ids(received.of("trade", pair)) == [], f"{pair}: trades were left out"
    assert e2e.rows(GAPS) == []
    assert e2e.pods() == pods, "a pod was replaced, or restarted"


def _tell(what: str, effect: float, ready: float) -> None:
    print(f"{what} after {effect:.1f} s, the platform is Ready {ready:.1f} s later")


def test_real_venue_without_egress_is_reported_as_such(shared: Up) -> None:
    e2e = shared.e2e
    spec = {"venue": {"name": "Kraken", "feed": "Live"}, "pairs": ["BTC/USD"]}
    meta = {"namespace": NAMESPACE, "name": "live"}
    e2e.kubectl.apply({"apiVersion": API, "kind": "TradingPlatform", "metadata": meta, "spec": spec})
    only = (installer.PLATFORMS, f"--namespace={NAMESPACE}", "--field-selector=metadata.name=live")

    def condition(seen: kubectl_client.Objects) -> dict[str, Any]:
        (platform,) = seen.values()
        conditions = platform.get("status", {}).get("conditions", [])
        return next((one for one in conditions if one["type"] == ConditionType.VENUE_READY), {"reason": ""})

    seen = e2e.kubectl.until(
        lambda seen: bool(seen) and condition(seen)["reason"] == Reason.NO_EGRESS,
        *only,
        deadline=180,
        expected="egress is named",
    )
    assert condition(seen)["status"] == "False"
    assert "egress to the internet, port 443 (live-ingest-0: wss://ws.kraken.com/v2: " in condition(seen)["message"]
    page = e2e.aether("explain", "tp/live")
    assert page.returncode == problems.NotReady.exit_code
    assert "aether up --egress" in page.stdout
    e2e.kubectl.text("delete", installer.PLATFORMS, "live", f"--namespace={NAMESPACE}")


def test_second_up_repairs_and_a_restart_finds_the_platform(shared: Up) -> None:
    aether, logins = shared.e2e.aether, secrets_of(shared.e2e.aether)
    # On a running cluster: it repairs, and starts nothing.
    assert aether("kubectl", "delete", "deployment", installer.RELEASE, f"--namespace={SYSTEM}").returncode == 0
    assert not e2e_platform.json_output(aether, "up", "--port", "0", "--json")["started"]

    assert aether("down").returncode == 0
    assert shared.machine.snapshot(shared.at.name).changes_since(shared.before) == {}
    (platform,) = e2e_platform.json_output(aether, "up", "--port", "0", "--json")["platforms"]
    assert platform["ready"] == "True"
    assert secrets_of(aether) == logins


# The documented commands; later tests do not depend on their edits.


def typed(shared: Up, script: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in the clone, with this local cluster."""
    home = shared.folder / "home"
    usual = home / ".local/state/aether/clusters/aether"
    if not usual.exists():
        usual.parent.mkdir(parents=True)
        usual.symlink_to(shared.at.state)
        (home / "bin").mkdir()
        (home / "bin/helm").symlink_to(charts.helm())
    programs = (TOP / ".venv/bin", Path(shared.e2e.kubectl.program).parent, home / "bin")
    env = {
        "HOME": str(home), "LANG": "C.UTF-8", "COLUMNS": "80", "EDITOR": "true", "AETHER_CLUSTER": shared.at.name,
        "PATH": os.pathsep.join([*map(str, programs), os.environ["PATH"]]),
        "KUBECONFIG": str(shared.at.kubeconfig),
        "XDG_STATE_HOME": str(shared.folder / "state"), "XDG_DATA_HOME": str(shared.folder / "data"),
        "XDG_CACHE_HOME": str(shared.at.cache.parent), **more,
    }  # fmt: skip
    return subprocess.run(
        ["sh", "-euc", script], capture_output=True, text=True, check=False, timeout=600, env=env, cwd=TOP
    )


def works(shared: Up, lines: Sequence[str]) -> None:
    done = typed(shared, "\n".join(lines))
    assert done.returncode == 0, f"{lines}\n{done.stdout}{done.stderr}"


def until_it_speaks(line: str) -> str:
    """Run an endless command until it has shown the platform; an earlier end is an error."""
    return f"""{line} > "$HOME/watched" & watching=$!
while ! grep -q {e2e_platform.PLATFORM} "$HOME/watched"; do kill -0 $watching; done
kill $watching"""


def test_every_documented_command_works(shared: Up) -> None:
    seen = set[str]()
    with shared.e2e.forwarded(f"svc/{e2e_platform.PLATFORM}-postgres", 5432) as port:
        for block in pages.blocks("sh"):
            lines = [one for one in pages.lines_of(block) if one.way is Way.PLATFORM]
            texts = [one.text for one in lines if one.text.startswith("export ") or one.text not in seen]
            if all(text.startswith("export ") for text in texts):
                continue
            seen.update(texts)
            shared.e2e.until_ready()  # an edit of the previous block is in force
            script = "\n".join(until_it_speaks(one) if one.endswith(" --watch") else one for one in texts)
            done = typed(shared, script, PGPORT=str(port))
            assert done.returncode == 0, f"{block.page}:{block.line}\n{script}\n{done.stdout}{done.stderr}"
    assert len(seen) > 15
    more = sorted({one.text for one in pages.mentioned() if one.way is Way.PLATFORM} - seen)
    assert len(more) > 5
    shared.e2e.until_ready()
    works(shared, more)


def test_documented_removal_leaves_nothing(shared: Up) -> None:
    last = [line for line in [*pages.typed(), *pages.mentioned()] if line.way is Way.LAST]
    objects = [line.text for line in last if line.in_block and line.text.startswith("kubectl ")]
    operator = [line.text for line in last if line.text.startswith("helm ")]
    rest = [line.text for line in last if not line.in_block]  # objects that an uninstall keeps
    cluster = [line.text for line in last if line.in_block and line.text.startswith("aether ")]
    assert len([*objects, *operator, *rest, *cluster]) == len(last)

    works(shared, objects)
    mine = f"--selector=trading.aether.io/platform={e2e_platform.PLATFORM}"
    left = (f"{installer.PLATFORMS},persistentvolumeclaims,secrets", f"--namespace={NAMESPACE}")
    shared.e2e.until(lambda: not shared.e2e.kubectl.get(*left, mine)["items"], "nothing of the platform is left")
    works(shared, [*operator, *rest])
    kept = "customresourcedefinitions,validatingadmissionpolicies,validatingadmissionpolicybindings"
    assert "trading.aether.io" not in shared.e2e.kubectl.text("get", kept, "-o", "name")
    works(shared, cluster)
    assert not shared.at.state.exists()
