"""A desk as a person has it: what `aether up` brought up, asked by its commands, edited, and listened to meanwhile."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import subprocess
import sys
import time
from base64 import b64decode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nats.aio.client import Client

from aether_cli import cluster_reader, installer, kubectl_client, market_data, problems
from aether_cli.local import binaries, program_builder
from aether_services.ingest.core import sharding

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from aether_cli.local import paths

    Aether = Callable[..., subprocess.CompletedProcess[str]]

PLATFORM: Final = "paper"
UP_DEADLINE: Final = 900
DEADLINE: Final = 60.0
"""Seconds that an edit may take: a test asserts behaviour, and a benchmark speed."""
POLL_INTERVAL: Final = 0.1


def command(at: paths.Paths, folder: Path) -> Aether:
    """The command, as `clusters.some_places(folder)` needs it."""
    home = {"XDG_STATE_HOME": str(folder / "state"), "XDG_DATA_HOME": str(folder / "data")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "aether_cli", words[0], "--name", at.name, *words[1:]],
            capture_output=True, text=True, check=False, timeout=UP_DEADLINE, env={**os.environ, **home},
        )  # fmt: skip

    return run


def json_output(aether: Aether, *words: str) -> Any:
    """What a command prints as JSON."""
    done = aether(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def up(at: paths.Paths, folder: Path) -> E2EPlatform:
    """Bring up what `aether up` brings up: a cluster, the operator and the first example."""
    aether = command(at, folder)
    up_output = json_output(aether, "up", "--port", "0", "--json")
    (ours,) = [binary for binary in binaries.CONTROL_PLANE if binary.name == "kubectl"]
    program = program_builder.find(ours, at.cache, os.environ)
    assert program is not None
    kubectl = kubectl_client.Kubectl(program=program, kubeconfig=at.kubeconfig, cache=at.state / "kubectl")
    return E2EPlatform(aether=aether, up_output=up_output, kubectl=kubectl)


@dataclass(slots=True, kw_only=True)
class Received:
    """What was said on NATS: subject and message."""

    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Why something may not have been heard."""

    def of(self, kind: str, pair: str) -> list[dict[str, Any]]:
        """The messages of a kind about one market, as they came."""
        return [one for _, one in self.messages if (one["type"], one["symbol"]) == (kind, pair)]


@dataclass(frozen=True, slots=True, kw_only=True)
class E2EPlatform:
    """One that runs. `told` is what `aether up` printed."""

    aether: Aether
    up_output: dict[str, Any]
    kubectl: kubectl_client.Kubectl
    namespace: str = installer.PLATFORM_NAMESPACE

    # What it is.

    def platform(self, name: str = PLATFORM) -> dict[str, Any]:
        """A platform as the API has it."""
        return self.kubectl.get(installer.PLATFORMS, name, f"--namespace={self.namespace}")

    def pods(self) -> dict[str, tuple[str, int]]:
        """The platform's pods: name → uid and how often a container was started anew."""
        mine = f"--selector=trading.aether.io/platform={PLATFORM}"
        return {
            one["metadata"]["name"]: (
                one["metadata"]["uid"],
                sum(each["restartCount"] for each in one["status"].get("containerStatuses", [])),
            )
            for one in self.kubectl.get("pods", f"--namespace={self.namespace}", mine)["items"]
        }

    def rows(self, statement: str) -> list[list[str]]:
        """What the platform's own PostgreSQL answers, asked in its pod."""
        words = ("exec", f"--namespace={self.namespace}", f"{PLATFORM}-postgres-0", "--")
        output = self.kubectl.text(*words, "psql", "-d", "aether", "-AtX", "-v", "ON_ERROR_STOP=1", "-c", statement)
        return [line.split("|") for line in output.splitlines()]

    def served(self) -> dict[str, dict[str, bool]]:
        """Pod of ingest that answers → the markets that it serves, and whether their books are usable."""
        which = f"--selector={market_data.selector(PLATFORM)}"
        pods = self.kubectl.get("pods", f"--namespace={self.namespace}", which)["items"]
        up_output = [
            cluster_reader.pod_status(self.kubectl, pod)
            for pod in pods
            if kubectl_client.condition(pod, "Ready") == "True"
        ]
        return {
            one.pod: {pair: book["usable"] for pair, book in one.status["books"].items()}
            for one in up_output
            if one.status is not None
        }

    def book(self, pair: str) -> market_data.BookSnapshot | None:
        """A market's book, as `aether book` finds it."""
        reader = cluster_reader.BookReader(
            kubectl=self.kubectl, namespace=self.namespace, platform=PLATFORM, symbol=pair, depth=10
        )
        with contextlib.suppress(problems.NotReady):
            return reader.read()
        return None

    # What is done to it. Each returns the seconds from before the patch until it is in force.

    def until(self, holds: Callable[[], object], expected: str) -> float:
        """Look until it is so."""
        began = time.monotonic()
        while not holds():
            assert time.monotonic() - began < DEADLINE, f"{expected}: not within {DEADLINE:g} s"
            time.sleep(POLL_INTERVAL)
        return time.monotonic() - began

    def until_ready(self) -> float:
        """Wait until an operator says that the newest spec is so."""
        return self.until(lambda: installer.platform_status(self.platform()).ready == "True", "the platform is Ready")

    def set_pairs(self, *pairs: str) -> float:
        """Have these markets; until each that is new has a usable book."""
        new = sorted(set(pairs) - set(self.platform()["spec"]["pairs"]))

        def usable(pair: str) -> bool:
            shown = self.book(pair)
            return shown is not None and shown.usable

        return self._edit({"pairs": list(pairs)}, lambda: all(map(usable, new)), f"usable books of {', '.join(new)}")

    def set_books_retention(self, days: int) -> float:
        """Keep books so long; until the database does."""
        kept = "SELECT retention FROM partman.part_config WHERE parent_table = 'aether.books'"
        expected = f"books are kept for {days} days"
        return self._edit({"retention": {"booksDays": days}}, lambda: self.rows(kept) == [[f"{days} days"]], expected)

    def set_replicas(self, count: int) -> float:
        """Have so many replicas of ingest; until all are Ready, with a usable book of each market that is theirs."""
        pairs = self.platform()["spec"]["pairs"]
        first = {pair: sharding.order(pair, range(count))[0] for pair in pairs}
        wanted = {
            f"{PLATFORM}-ingest-{number}": {pair: True for pair in pairs if first[pair] == number}
            for number in range(count)
        }
        spec = {"components": {"ingest": {"replicas": count}}}
        return self._edit(spec, lambda: self.served() == wanted, f"the markets are shared so: {wanted}")

    def _edit(self, spec: dict[str, Any], holds: Callable[[], object], expected: str) -> float:
        """Patch the platform, as a person does, and look until that is in force."""
        began = time.monotonic()
        words = ("patch", installer.PLATFORMS, PLATFORM, f"--namespace={self.namespace}", "--type=merge")
        self.kubectl.text(*words, f"--patch={json.dumps({'spec': spec})}")
        self.until(holds, expected)
        return time.monotonic() - began

    # Who listens.

    @contextlib.asynccontextmanager
    async def subscribed(self) -> AsyncIterator[Received]:
        """Hear all market data that are said on NATS within the block."""
        secret = self.kubectl.get("secret", f"{PLATFORM}-nats", f"--namespace={self.namespace}")["data"]
        login = {"user": b64decode(secret["username"]).decode(), "password": b64decode(secret["password"]).decode()}
        received = Received()

        async def hear(message: Any) -> None:
            received.messages.append((message.subject, json.loads(message.data)))

        async def note(fault: Exception) -> None:
            received.faults.append(repr(fault))

        with self.forwarded(f"pod/{PLATFORM}-nats-0", 4222) as port:
            client = Client()
            await client.connect(f"nats://127.0.0.1:{port}", allow_reconnect=False, error_cb=note, **login)
            try:
                await client.subscribe("md.>", cb=hear)
                await client.flush()
                yield received
                await client.flush()  # fails where the connection did not last
            finally:
                await client.close()

    @contextlib.contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[int]:
        """A port of the loopback that leads to one of a pod, through the API server."""
        words = self.kubectl.command("port-forward", f"--namespace={self.namespace}", target, f":{port}")
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
            assert child.stdout is not None
            try:
                assert select.select([child.stdout], [], [], DEADLINE)[0], "port-forward said nothing"
                output = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ", child.stdout.readline())
                assert output is not None
                yield int(output[1])
            finally:
                child.terminate()
