"""Writes the files that a cluster's components read: keys and certificates, configuration, the initial objects."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
from typing import TYPE_CHECKING

from aether_cli.local import certificates, configs, manifests

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from aether_cli.local import paths, settings


def write(folders: paths.Paths, chosen: settings.Settings, *, port: int, images: Mapping[str, str]) -> None:
    """Write certificates and configuration: new certificates at every start, by CAs that are kept.

    Args:
        folders: The cluster's paths.
        chosen: The cluster's settings.
        port: The API server's port on the machine, for the exported kubeconfig.
        images: Image name → reference.
    """
    for folder in (folders.state / "pki", folders.state / "configs", folders.logs, folders.var, folders.volumes):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = datetime.datetime.now(datetime.UTC)
    pki = folders.state / "pki"
    cas = {
        "ca": _kept_pair(pki, "ca", lambda: certificates.new_ca("aether", now=now)),
        "etcd-ca": _kept_pair(pki, "etcd-ca", lambda: certificates.new_ca("aether-etcd", now=now)),
    }
    _kept_pair(pki, "sa", certificates.signing_key)
    for name, identity in certificates.IDENTITIES.items():
        pair = certificates.issue(identity, cas["etcd-ca" if identity.etcd_ca else "ca"], now=now)
        _write_pair(pki, name, pair)
        if name == "admin":
            _write_private(
                folders.kubeconfig, configs.exported_kubeconfig(folders.name, port, cas["ca"].certificate, pair)
            )
    texts = {
        **{
            f"{name}.kubeconfig": configs.component_kubeconfig(pki, name)
            for name, identity in certificates.IDENTITIES.items()
            if not identity.etcd_ca
        },
        "audit-policy.json": configs.audit_policy(),
        "kwok.yaml": configs.kwok_stages(),
        "first-objects.json": json.dumps(
            {"apiVersion": "v1", "kind": "List", "items": manifests.initial_objects(chosen)}
        ),
        "kubelet.json": configs.kubelet(pki, folders.cgroup()),
        "kube-proxy.json": configs.kube_proxy(folders.state / "configs" / "kube-proxy.kubeconfig"),
        "containerd.toml": configs.containerd(images.get("pause", "")),
        "Corefile": configs.corefile(folders.state / "configs" / "coredns.kubeconfig", egress=chosen.egress),
    }
    for name, text in texts.items():
        _write_private(folders.state / "configs" / name, text)
    for log in folders.logs.glob("*.log"):
        if not log.name.startswith("audit"):  # the API server rotates its audit log itself
            log.replace(log.with_suffix(".log.1"))


def _write_private(path: Path, text: str | bytes) -> None:
    """Write a file atomically, readable by its owner only from the first byte on."""
    data = text.encode() if isinstance(text, str) else text
    temporary = path.with_name(f".{path.name}.half")
    with contextlib.suppress(FileNotFoundError):
        temporary.unlink()
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as handle:  # noqa: PTH123 - a mode
        handle.write(data)
        handle.flush()
        os.fsync(handle.fileno())  # else a power cut could leave an empty file under the final name
    temporary.replace(path)


def _write_pair(folder: Path, name: str, pair: certificates.Pair) -> None:
    _write_private(folder / f"{name}.key", pair.key)
    _write_private(folder / f"{name}.crt", pair.certificate)


def _kept_pair(folder: Path, name: str, make: Callable[[], certificates.Pair]) -> certificates.Pair:
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    if certificate.exists():  # it is written after the key
        return certificates.Pair(certificate=certificate.read_bytes(), key=key.read_bytes())
    pair = make()
    _write_pair(folder, name, pair)
    return pair
