"""A platform for end-to-end tests: started by `aether up`, read by the commands, edited, and subscribed to on NATS."""

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
from aether_testing import wait

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from aether_cli.local import paths

    Aether = Callable[..., subprocess.CompletedProcess[str]]

PLATFORM: Final = "paper"
UP_DEADLINE: Final = 900
DEADLINE: Final = 60.0
"""Seconds that an edit may take; generous, since tests assert behaviour and benchmarks measure speed."""
POLL_INTERVAL: Final = 0.1


def command(at: paths.Paths, folder: Path) -> Aether:
    """A function that runs `aether` for a cluster whose paths are `clusters.unique_paths(folder)`."""
    home = {"XDG_STATE_HOME": str(folder / "state"), "XDG_DATA_HOME": str(folder / "data")}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "aether_cli", words[0], "--name", at.name, *words[1:]],
            capture_output=True, text=True, check=False, timeout=UP_DEADLINE, env={**os.environ, **home},
        )  # fmt: skip

    return run


def json_output(aether: Aether, *words: str) -> Any:
    """Run a command that must succeed, and parse the JSON that it prints."""
    done = aether(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def up(at: paths.Paths, folder: Path) -> E2EPlatform:
    """Run `aether up`: it starts a cluster, installs the operator and applies the first example."""
    aether = command(at, folder)
    up_output = json_output(aether, "up", "--port", "0", "--json")
    (binary,) = [one for one in binaries.CONTROL_PLANE if one.name == "kubectl"]
    program = program_builder.find(binary, at.cache, os.environ)
    assert program is not None
    kubectl = kubectl_client.Kubectl(program=program, kubeconfig=at.kubeconfig, cache=at.state / "kubectl")
    return E2EPlatform(aether=aether, up_output=up_output, kubectl=kubectl)


@dataclass(slots=True, kw_only=True)
class Received:
    """What a NATS subscription received: pairs of subject and message."""

    messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Errors of the connection: messages may be missing."""

    def of(self, kind: str, pair: str) -> list[dict[str, Any]]:
        """The messages of a type about one pair, in order of arrival."""
        return [one for _, one in self.messages if (one["type"], one["symbol"]) == (kind, pair)]


@dataclass(frozen=True, slots=True, kw_only=True)
class E2EPlatform:
    """The running platform. `up_output` is the JSON that `aether up` printed."""

    aether: Aether
    up_output: dict[str, Any]
    kubectl: kubectl_client.Kubectl
    namespace: str = installer.PLATFORM_NAMESPACE

    # Reading.

    def platform(self, name: str = PLATFORM) -> dict[str, Any]:
        return self.kubectl.get(installer.PLATFORMS, name, f"--namespace={self.namespace}")

    def pods(self) -> dict[str, tuple[str, int]]:
        """The platform's pods: name → uid and the number of container restarts."""
        selector = f"--selector=trading.aether.io/platform={PLATFORM}"
        return {
            one["metadata"]["name"]: (
                one["metadata"]["uid"],
                sum(each["restartCount"] for each in one["status"].get("containerStatuses", [])),
            )
            for one in self.kubectl.get("pods", f"--namespace={self.namespace}", selector)["items"]
        }

    def rows(self, statement: str) -> list[list[str]]:
        """Run a statement in the platform's PostgreSQL pod and return the rows as text."""
        words = ("exec", f"--namespace={self.namespace}", f"{PLATFORM}-postgres-0", "--")
        output = self.kubectl.text(*words, "psql", "-d", "aether", "-AtX", "-v", "ON_ERROR_STOP=1", "-c", statement)
        return [line.split("|") for line in output.splitlines()]

    def served(self) -> dict[str, dict[str, bool]]:
        """Ready ingest pod → pair that it serves → whether the book is usable."""
        selector = f"--selector={market_data.selector(PLATFORM)}"
        pods = self.kubectl.get("pods", f"--namespace={self.namespace}", selector)["items"]
        statuses = [
            cluster_reader.pod_status(self.kubectl, pod)
            for pod in pods
            if kubectl_client.condition(pod, "Ready") == "True"
        ]
        return {
            one.pod: {pair: book["usable"] for pair, book in one.status["books"].items()}
            for one in statuses
            if one.status is not None
        }

    def book(self, pair: str) -> market_data.BookSnapshot | None:
        """A pair's book, read as `aether book` does; None where no pod serves it."""
        reader = cluster_reader.BookReader(
            kubectl=self.kubectl, namespace=self.namespace, platform=PLATFORM, symbol=pair, depth=10
        )
        with contextlib.suppress(problems.NotReady):
            return reader.read()
        return None

    # Editing. Each method returns the seconds from before the patch until the edit has taken effect.

    def until(self, holds: Callable[[], object], expected: str) -> float:
        """Wait until a condition holds; returns the seconds that took."""
        began = time.monotonic()
        wait.until(holds, expected, seconds=DEADLINE, interval=POLL_INTERVAL)
        return time.monotonic() - began

    def until_ready(self) -> float:
        """Wait until the platform is Ready, for the newest generation of its spec."""
        return self.until(lambda: installer.platform_status(self.platform()).ready == "True", "the platform is Ready")

    def set_pairs(self, *pairs: str) -> float:
        """Set the pairs; wait until each new one has a usable book."""
        new = sorted(set(pairs) - set(self.platform()["spec"]["pairs"]))

        def usable(pair: str) -> bool:
            shown = self.book(pair)
            return shown is not None and shown.usable

        return self._edit({"pairs": list(pairs)}, lambda: all(map(usable, new)), f"usable books of {', '.join(new)}")

    def set_books_retention(self, days: int) -> float:
        """Set the retention of books; wait until the database has it."""
        kept = "SELECT retention FROM partman.part_config WHERE parent_table = 'aether.books'"
        expected = f"books are kept for {days} days"
        return self._edit({"retention": {"booksDays": days}}, lambda: self.rows(kept) == [[f"{days} days"]], expected)

    def set_replicas(self, count: int) -> float:
        """Set ingest's replicas; wait until all are Ready and each has usable books of exactly its pairs."""
        pairs = self.platform()["spec"]["pairs"]
        first = {pair: sharding.order(pair, range(count))[0] for pair in pairs}
        desired = {
            f"{PLATFORM}-ingest-{number}": {pair: True for pair in pairs if first[pair] == number}
            for number in range(count)
        }
        spec = {"components": {"ingest": {"replicas": count}}}
        return self._edit(spec, lambda: self.served() == desired, f"the markets are shared so: {desired}")

    def _edit(self, spec: dict[str, Any], holds: Callable[[], object], expected: str) -> float:
        """Patch the platform's spec, and wait until a condition holds."""
        began = time.monotonic()
        words = ("patch", installer.PLATFORMS, PLATFORM, f"--namespace={self.namespace}", "--type=merge")
        self.kubectl.text(*words, f"--patch={json.dumps({'spec': spec})}")
        self.until(holds, expected)
        return time.monotonic() - began

    # Subscribing.

    @contextlib.asynccontextmanager
    async def subscribed(self) -> AsyncIterator[Received]:
        """Subscribe to all market data on NATS for the length of a block."""
        secret = self.kubectl.get("secret", f"{PLATFORM}-nats", f"--namespace={self.namespace}")["data"]
        login = {"user": b64decode(secret["username"]).decode(), "password": b64decode(secret["password"]).decode()}
        received = Received()

        async def receive(message: Any) -> None:
            received.messages.append((message.subject, json.loads(message.data)))

        async def note(fault: Exception) -> None:
            received.faults.append(repr(fault))

        with self.forwarded(f"pod/{PLATFORM}-nats-0", 4222) as port:
            client = Client()
            await client.connect(f"nats://127.0.0.1:{port}", allow_reconnect=False, error_cb=note, **login)
            try:
                await client.subscribe("md.>", cb=receive)
                await client.flush()
                yield received
                await client.flush()  # fails if the connection was lost
            finally:
                await client.close()

    @contextlib.contextmanager
    def forwarded(self, target: str, port: int) -> Iterator[int]:
        """Forward a loopback port to a port of a pod or Service, and return it."""
        words = self.kubectl.command("port-forward", f"--namespace={self.namespace}", target, f":{port}")
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as child:
            assert child.stdout is not None
            try:
                assert select.select([child.stdout], [], [], DEADLINE)[0], "port-forward printed nothing"
                output = re.match(r"Forwarding from 127\.0\.0\.1:(\d+) ", child.stdout.readline())
                assert output is not None
                yield int(output[1])
            finally:
                child.terminate()
