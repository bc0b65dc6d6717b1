"""The component `volumes`: creates and deletes PersistentVolumes, so that claims always find a free one."""

from __future__ import annotations

import secrets
import shutil
import sys
import time
from pathlib import Path
from typing import Final

from aether_cli import kubectl_client, problems
from aether_cli.local import configs, volumes

RELIST_AFTER: Final = 30.0
"""Seconds without an event after which the pool is checked again: unmounting a volume causes no event."""


def _mounted(name: str) -> bool:
    """Whether a pod uses the volume: the kubelet bind-mounts its folder under the pod's."""
    return f"/volumes/kubernetes.io~local-volume/{name} " in Path("/proc/self/mountinfo").read_text()


def _carry_out(action: volumes.Action, kubectl: kubectl_client.Kubectl) -> None:
    folder = Path(configs.VOLUMES) / action.name
    match action:
        case volumes.Create():
            folder.mkdir(mode=0o777)
            folder.chmod(0o777)  # despite the umask: pods without an fsGroup write to volumes, too
            kubectl.apply(volumes.volume(action.name))
        case volumes.Remove():
            if folder.exists():
                shutil.rmtree(folder)
            kubectl.text("delete", "persistentvolume", action.name, "--wait=false", "--ignore-not-found")
    print(type(action).__name__.lower(), action.name, flush=True)  # noqa: T201 - this is the component's log


def run(kubectl: kubectl_client.Kubectl) -> None:
    """Reconcile the pool for ever: list, plan, carry out, wait for an event."""
    known = {volume["metadata"]["name"] for volume in kubectl.get("persistentvolumes")["items"]}
    for folder in Path(configs.VOLUMES).iterdir():
        if folder.name not in known and not any(folder.iterdir()):
            folder.rmdir()  # an earlier run ended before it created the volume
    while True:
        for action in volumes.plan(
            kubectl.get("persistentvolumes")["items"],
            mounted=_mounted,
            new_name=lambda: f"local-{secrets.token_hex(4)}",
        ):
            _carry_out(action, kubectl)
            if isinstance(action, volumes.Remove):
                break  # deleting takes time: list again before the next deletion
        else:
            for _ in kubectl.watch(
                "persistentvolumes", "--watch-only", until=time.monotonic() + 3600, idle_timeout=RELIST_AFTER
            ):
                break


def main(arguments: list[str]) -> int:
    """`python -m aether_cli.local.volume_pool KUBECTL KUBECONFIG`."""
    try:
        run(kubectl_client.Kubectl(program=arguments[0], kubeconfig=Path(arguments[1])))
    except (problems.AetherError, OSError) as fault:
        print(f"error: {fault}", file=sys.stderr)  # noqa: T201 - the supervisor reads the cause here
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
