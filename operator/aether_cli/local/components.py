"""The components of a cluster: each one's command line, what it starts after, and its readiness probe. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from aether_cli.local import configs, networks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from aether_cli.local import paths, settings

SOCKET_PROXY: Final = "/lib/systemd/systemd-socket-proxyd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A readiness probe: HTTP 200 for a path; without a path, a connection is accepted."""

    address: str  # host:port, or the path of a Unix socket
    path: str = ""
    tls: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A program that the supervisor starts and restarts."""

    name: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    probe: Probe | None = None
    once: bool = False  # ready when it has ended with 0; not started again
    inherits: tuple[int, ...] = ()  # file descriptors
    environment: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Descriptors:
    """File descriptors that the supervisor inherits from outside its namespaces."""

    api_socket: int
    outer_network: int
    cluster_lock: int


def for_settings(  # one list, read top to bottom
    chosen: settings.Settings,
    folders: paths.Paths,
    programs: Mapping[str, Path],
    given: Descriptors,
    python: str,
) -> tuple[Component, ...]:
    """The components of a cluster with these settings, in starting order.

    Args:
        chosen: The cluster's settings.
        folders: Its paths.
        programs: Program name → path.
        given: The inherited file descriptors.
        python: The Python interpreter, for the volume pool.
    """
    pki = folders.state / "pki"
    config = folders.state / "configs"

    def kubeconfig(identity: str) -> str:
        return str(config / f"{identity}.kubeconfig")

    def shared_flags(identity: str) -> tuple[str, ...]:
        """The flags that the controller manager and the scheduler share."""
        return (
            *(f"--{who}kubeconfig={kubeconfig(identity)}" for who in ("", "authentication-", "authorization-")),
            f"--tls-cert-file={pki / f'{identity}.crt'}",
            f"--tls-private-key-file={pki / f'{identity}.key'}",
            "--bind-address=127.0.0.1",
            "--leader-elect=false",
            "--profiling=false",
        )

    listed = [
        Component(
            name="etcd",
            command=(
                str(programs["etcd"]),
                "--name=aether",
                "--data-dir=/var/lib/etcd",
                "--listen-client-urls=https://127.0.0.1:2379",
                "--advertise-client-urls=https://127.0.0.1:2379",
                "--listen-peer-urls=https://127.0.0.1:2380",
                "--initial-advertise-peer-urls=https://127.0.0.1:2380",
                "--initial-cluster=aether=https://127.0.0.1:2380",
                *(
                    flag
                    for side in ("", "peer-")
                    for flag in (
                        f"--{side}cert-file={pki / 'etcd.crt'}",
                        f"--{side}key-file={pki / 'etcd.key'}",
                        f"--{side}client-cert-auth=true",
                        f"--{side}trusted-ca-file={pki / 'etcd-ca.crt'}",
                    )
                ),
                "--log-level=warn",
                *(() if chosen.durable else ("--unsafe-no-fsync",)),
            ),
            probe=Probe(address="127.0.0.1:2379"),
            # etcd holds the lock, too: while it still writes, the cluster counts as running, even if process 1 died.
            inherits=(given.cluster_lock,),
        ),
        Component(
            name="kube-apiserver",
            command=(
                str(programs["kube-apiserver"]),
                f"--advertise-address={networks.NODE}",
                f"--secure-port={networks.API_PORT}",
                "--etcd-servers=https://127.0.0.1:2379",
                f"--etcd-cafile={pki / 'etcd-ca.crt'}",
                f"--etcd-certfile={pki / 'apiserver-etcd.crt'}",
                f"--etcd-keyfile={pki / 'apiserver-etcd.key'}",
                f"--client-ca-file={pki / 'ca.crt'}",
                f"--tls-cert-file={pki / 'apiserver.crt'}",
                f"--tls-private-key-file={pki / 'apiserver.key'}",
                f"--service-account-issuer=https://kubernetes.default.svc.{networks.DOMAIN}",
                f"--service-account-key-file={pki / 'sa.crt'}",
                f"--service-account-signing-key-file={pki / 'sa.key'}",
                f"--service-cluster-ip-range={networks.SERVICES}",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                f"--kubelet-certificate-authority={pki / 'ca.crt'}",
                f"--kubelet-client-certificate={pki / 'apiserver-kubelet.crt'}",
                f"--kubelet-client-key={pki / 'apiserver-kubelet.key'}",
                # Otherwise exec and logs resolve the node's name by DNS.
                "--kubelet-preferred-address-types=InternalIP",
                f"--audit-policy-file={config / 'audit-policy.json'}",
                f"--audit-log-path={folders.logs / 'audit.log'}",
                "--audit-log-maxsize=100",
                "--audit-log-maxbackup=3",
                "--allow-privileged=false",
                "--profiling=false",
            ),
            after=("etcd",),
            probe=Probe(address=f"127.0.0.1:{networks.API_PORT}", path="/readyz", tls=True),
        ),
        Component(
            name="api-port",
            # The listening socket was opened on the machine's loopback before the namespaces were created; this proxy
            # forwards its connections to the API server. The machine's network configuration stays as it is.
            command=(
                "/bin/sh",
                "-c",
                f"LISTEN_PID=$$ exec {SOCKET_PROXY} --connections-max=4096 127.0.0.1:{networks.API_PORT}",
            ),
            after=("kube-apiserver",),
            inherits=(given.api_socket,),
            environment=(("LISTEN_FDS", "1"),),
        ),
        Component(
            name="kube-controller-manager",
            command=(
                str(programs["kube-controller-manager"]),
                *shared_flags("controller-manager"),
                "--use-service-account-credentials=true",
                "--flex-volume-plugin-dir=/var/lib/kubelet/plugins/volume",  # the default is under /usr
                f"--service-account-private-key-file={pki / 'sa.key'}",
                f"--root-ca-file={pki / 'ca.crt'}",
                f"--cluster-signing-cert-file={pki / 'ca.crt'}",
                f"--cluster-signing-key-file={pki / 'ca.key'}",
                # With kwok no pod mounts a volume: claims bind to empty folders (volumes.empty_storage_class).
                *(("--enable-hostpath-provisioner=true",) if chosen.kwok else ()),
            ),
            after=("kube-apiserver",),
            probe=Probe(address="127.0.0.1:10257", path="/healthz", tls=True),
        ),
    ]
    listed.append(
        Component(
            name="first-objects",
            command=(
                str(programs["kubectl"]),
                f"--kubeconfig={kubeconfig('admin')}",
                "apply",
                "--server-side",
                "--force-conflicts",
                "--field-manager=aether-cli",
                f"--filename={config / 'first-objects.json'}",
            ),
            after=("kube-apiserver",),
            once=True,
        )
    )
    if chosen.has_node or chosen.kwok:
        listed.append(
            Component(
                name="kube-scheduler",
                command=(
                    str(programs["kube-scheduler"]),
                    *shared_flags("scheduler"),
                ),
                after=("kube-apiserver",),
                probe=Probe(address="127.0.0.1:10259", path="/healthz", tls=True),
            )
        )
    if chosen.kwok:
        listed.append(
            Component(
                name="kwok",
                command=(
                    str(programs["kwok"]),
                    f"--kubeconfig={kubeconfig('kwok')}",
                    f"--config={config / 'kwok.yaml'}",
                    "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
                    f"--node-ip={networks.NODE}",
                    "--cidr=10.244.0.0/24",
                    "--server-address=127.0.0.1:10247",
                    "--node-lease-duration-seconds=10",
                ),
                after=("kube-apiserver",),
                probe=Probe(address="127.0.0.1:10247", path="/healthz"),
            )
        )
    if chosen.has_node:
        listed += _node(chosen, programs, given, python, config)
    return tuple(listed)


def _node(
    chosen: settings.Settings, programs: Mapping[str, Path], given: Descriptors, python: str, config: Path
) -> list[Component]:
    listed = [
        Component(
            name="containerd",
            command=("containerd", f"--config={config / 'containerd.toml'}", "--log-level=warn"),
            probe=Probe(address=configs.CONTAINERD),
        ),
        Component(
            name="kubelet",
            command=(
                str(programs["kubelet"]),
                f"--config={config / 'kubelet.json'}",
                f"--kubeconfig={config / 'kubelet.kubeconfig'}",
                f"--hostname-override={networks.NODE_NAME}",
                f"--node-ip={networks.NODE}",
            ),
            after=("kube-apiserver", "containerd"),
            probe=Probe(address="127.0.0.1:10248", path="/healthz"),
        ),
        Component(
            name="kube-proxy",
            command=(str(programs["kube-proxy"]), f"--config={config / 'kube-proxy.json'}"),
            after=("kube-apiserver",),
            probe=Probe(address="127.0.0.1:10256", path="/livez"),
        ),
        Component(
            name="coredns",
            command=(str(programs["coredns"]), f"-conf={config / 'Corefile'}"),
            # Its ClusterRole is among the initial objects.
            after=("first-objects",),
            probe=Probe(address=f"{networks.NODE}:53"),
        ),
        Component(
            name="volumes",
            command=(
                python,
                "-m",
                "aether_cli.local.volume_pool",
                str(programs["kubectl"]),
                str(config / "volumes.kubeconfig"),
            ),
            after=("first-objects",),
        ),
    ]
    if chosen.egress:
        listed.append(
            Component(
                name="egress",
                # A user-mode network stack: it runs in the machine's network namespace and serves a TAP device in the
                # cluster's, so that pods have egress without an interface, a route or a rule on the machine. The
                # machine's loopback stays unreachable.
                command=(
                    "nsenter",
                    f"--net=/proc/self/fd/{given.outer_network}",
                    "slirp4netns",
                    "--configure",
                    "--mtu=1500",
                    "--disable-host-loopback",
                    "1",
                    networks.TAP,
                ),
                inherits=(given.outer_network,),
            )
        )
    return listed
