"""The start of a control plane until its API is ready, with warm caches; the peer is etcd and an API server alone."""

from __future__ import annotations

import contextlib
import os
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from aether_cli import progress
from aether_cli.local import certificates, startup
from aether_testing import wait
from aether_testing.bench import benchmarks
from aether_testing.cluster import clusters

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROUNDS = 7


def figures() -> Iterator[benchmarks.Figure]:
    ours, bare = list[float](), list[float]()
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            with clusters.running(
                clusters.CONTROL_PLANE, clusters.unique_paths(Path(folder)), progress.SilentReporter()
            ) as one:
                ours.append(time.monotonic() - began)
                programs = one.programs
        with tempfile.TemporaryDirectory() as folder:
            bare.append(_bare(Path(folder), programs))
    yield from benchmarks.latencies("control-plane-start", ours, "etcd and kube-apiserver alone, bare", bare)


def _bare(folder: Path, programs: Mapping[str, Path]) -> float:
    """Seconds until /readyz of etcd and an API server with minimal options, as a test environment starts them."""
    signing = certificates.signing_key()
    (folder / "sa.key").write_bytes(signing.key)
    (folder / "sa.pub").write_bytes(signing.certificate)
    flags = {
        "etcd": ["--data-dir=etcd", "--unsafe-no-fsync", "--log-level=error", *(
            f"--{kind}-urls=http://127.0.0.1:{port}"
            for kind, port in (
                ("listen-client", 23790), ("advertise-client", 23790), ("listen-peer", 23800),
                ("initial-advertise-peer", 23800),
            )
        ), "--initial-cluster=default=http://127.0.0.1:23800"],
        "kube-apiserver": [
            "--etcd-servers=http://127.0.0.1:23790", "--secure-port=26443", "--cert-dir=certs",
            "--bind-address=127.0.0.1", "--service-account-issuer=https://kubernetes.default.svc",
            "--service-account-key-file=sa.pub", "--service-account-signing-key-file=sa.key",
            "--service-cluster-ip-range=10.96.0.0/16", "--authorization-mode=RBAC", "--advertise-address=192.0.2.1",
        ],
    }  # fmt: skip
    unchecked = ssl._create_unverified_context()  # noqa: S323, SLF001 - it signs its own certificate
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        for name, words in flags.items():
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            process = subprocess.Popen([programs[name], *words], cwd=folder, stdout=log, stderr=log, env=os.environ)
            stack.callback(process.wait)
            stack.callback(process.kill)

        def ready() -> bool:
            try:
                urllib.request.urlopen("https://127.0.0.1:26443/readyz", context=unchecked, timeout=2).close()
            except OSError:  # an HTTP error is one, too
                return False
            return True

        wait.until(ready, "the API server is ready", seconds=startup.START_DEADLINE, interval=0.05)
        return time.monotonic() - began
