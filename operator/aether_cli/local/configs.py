"""The configuration files of a local cluster's components, as text. No I/O.

Inside the cluster's mount namespace /run and /var are the cluster's; every other path is the machine's.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

from aether_cli.local import networks

if TYPE_CHECKING:
    from pathlib import Path

    from aether_cli.local import certificates

CONTAINERD: Final = "/run/containerd/containerd.sock"
CNI_CONFIG: Final = "/run/aether/cni"
CNI_PLUGINS: Final = "/usr/lib/cni"  # where Debian puts them
VOLUMES: Final = "/var/lib/aether/volumes"


def _text(value: Any) -> str:
    return json.dumps(value, indent=2) + "\n"  # JSON is YAML


def _kubeconfig(cluster: dict[str, str], user: dict[str, str], name: str = "aether") -> str:
    return _text(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
            "current-context": name,
        }
    )


def component_kubeconfig(pki: Path, identity: str) -> str:
    """The kubeconfig of a component inside the cluster's namespaces; it refers to the key's file.

    Args:
        pki: The folder of keys and certificates.
        identity: A key of `certificates.IDENTITIES`.
    """
    return _kubeconfig(
        {"server": f"https://127.0.0.1:{networks.API_PORT}", "certificate-authority": str(pki / "ca.crt")},
        {"client-certificate": str(pki / f"{identity}.crt"), "client-key": str(pki / f"{identity}.key")},
    )


def exported_kubeconfig(name: str, port: int, ca: bytes, admin: certificates.Pair) -> str:
    """The administrator's kubeconfig for clients on the machine: with keys inline, and names that merge with others'.

    Args:
        name: The cluster's name.
        port: The API server's port on the machine.
        ca: The cluster's CA certificate, PEM.
        admin: The administrator's certificate and key.
    """

    def inline(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return _kubeconfig(
        {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": inline(ca)},
        {"client-certificate-data": inline(admin.certificate), "client-key-data": inline(admin.key)},
        name if name == "aether" else f"aether-{name}",
    )


def kubelet(pki: Path, cgroup: str) -> str:
    """The kubelet's configuration. Pods can reach its port, so every request needs authentication and authorization."""
    return _text(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": networks.NODE,
            "tlsCertFile": str(pki / "kubelet.crt"),
            "tlsPrivateKeyFile": str(pki / "kubelet.key"),
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(pki / "ca.crt")},
            },
            "authorization": {"mode": "Webhook"},
            "readOnlyPort": 0,
            "healthzBindAddress": "127.0.0.1",
            "containerRuntimeEndpoint": f"unix://{CONTAINERD}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroup,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "failCgroupV1": False,
            "clusterDomain": networks.DOMAIN,
            "clusterDNS": [networks.DNS_SERVICE],
            "resolvConf": "",
            # A developer's disk is often nearly full: the disk's thresholds are lower than Kubernetes' defaults.
            "evictionHard": {"memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
            "imageGCHighThresholdPercent": 100,
            "imageMinimumGCAge": "24h",
            "maxPods": 110,
            "serializeImagePulls": False,
            "shutdownGracePeriod": "0s",
            "volumePluginDir": "/var/lib/kubelet/plugins/volume",  # the default is under /usr
            "containerLogMaxSize": "10Mi",
            "containerLogMaxFiles": 3,
        }
    )


def kube_proxy(kubeconfig: Path) -> str:
    """kube-proxy's configuration: iptables mode; the machine's connection tracking limits stay as they are."""
    return _text(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "clusterCIDR": networks.PODS,
            "hostnameOverride": networks.NODE_NAME,
            "healthzBindAddress": "127.0.0.1:10256",
            "metricsBindAddress": "127.0.0.1:10249",
            "conntrack": {"maxPerCore": 0, "min": 0},
            "iptables": {"minSyncPeriod": "0s"},
        }
    )


def audit_policy() -> str:
    """The audit policy: metadata of every request, once; no bodies, since those of Secrets would be logged."""
    quiet = [{"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*"]}]
    return _text(
        {
            "apiVersion": "audit.k8s.io/v1",
            "kind": "Policy",
            "omitStages": ["RequestReceived"],
            "rules": [*quiet, {"level": "Metadata"}],
        }
    )


def containerd(pause: str) -> str:
    """Containerd's configuration, with `pause` as the sandbox image."""
    return f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]

[grpc]
  address = "{CONTAINERD}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE runc cannot lower a score: "can't get final child's PID from pipe: EOF".
  restrict_oom_score_adj = true
  # An AppArmor profile that it loads would stay in the machine's kernel.
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{CNI_CONFIG}"
"""


def container_network() -> str:
    """The CNI configuration: a bridge for the pods. It does not enforce NetworkPolicy."""
    return _text(
        {
            "cniVersion": "0.4.0",
            "name": "aether",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "cni0",
                    "isGateway": True,
                    "ipMasq": True,
                    "hairpinMode": True,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": "/run/aether/addresses",
                        "ranges": [[{"subnet": networks.PODS.replace("/16", "/24")}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        }
    )


def corefile(kubeconfig: Path, *, egress: bool) -> str:
    """CoreDNS's configuration: the cluster's names, and with egress all others."""
    outside = f"forward . {networks.EGRESS_DNS}" if egress else "# no egress: other names do not resolve"
    return f"""\
.:53 {{
    bind {networks.NODE}
    errors
    ready 127.0.0.1:8181
    kubernetes {networks.DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig "{kubeconfig}" aether
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
    }}
    {outside}
    cache 5
}}
"""


def kwok_stages() -> str:
    """Kwok's stages: nodes and pods become Ready at once, pods of Jobs complete, deleted pods disappear."""

    def stage(name: str, kind: str, when: list[dict[str, Any]], then: dict[str, Any]) -> str:
        return json.dumps(
            {
                "apiVersion": "kwok.x-k8s.io/v1alpha1",
                "kind": "Stage",
                "metadata": {"name": name},
                "spec": {
                    "resourceRef": {"apiGroup": "v1", "kind": kind},
                    "selector": {"matchExpressions": when},
                    "next": then,
                },
            }
        )

    ready = '.status.conditions.[] | select( .type == "Ready" ) | .status'
    not_ready = {"key": ready, "operator": "NotIn", "values": ["True"]}
    alive = {"key": ".metadata.deletionTimestamp", "operator": "DoesNotExist"}
    one_shot = {"key": ".metadata.ownerReferences.[].kind", "operator": "In", "values": ["Job"]}
    lasting = {**one_shot, "operator": "NotIn"}

    def condition(kind: str) -> str:
        return f'- {{type: {kind}, status: "True", lastTransitionTime: {{{{ Now | Quote }}}}}}\n'

    def pod(phase: str, conditions: list[str], state: str, *, ready: bool) -> dict[str, Any]:
        return {
            "statusTemplate": (
                f"phase: {phase}\n"
                "startTime: {{ Now | Quote }}\n"
                "podIP: {{ PodIPWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace | Quote }}\n"
                "conditions:\n" + "".join(condition(kind) for kind in conditions) + "containerStatuses:\n"
                "{{ range .spec.containers }}"
                "- {name: {{ .name | Quote }}, image: {{ .image | Quote }}, imageID: '', restartCount: 0, "
                f"ready: {str(ready).lower()}, state: {state}}}\n"
                "{{ end }}"
            )
        }

    running = "{running: {startedAt: {{ Now | Quote }}}}"
    ended = (
        "{terminated: {exitCode: 0, reason: Completed, startedAt: {{ Now | Quote }}, finishedAt: {{ Now | Quote }}}}"
    )
    pending = {"key": ".status.phase", "operator": "In", "values": ["Pending"]}
    node = {
        "statusTemplate": (
            "conditions:\n" + condition("Ready") + "capacity: {cpu: 1k, memory: 1Ti, pods: 1M}\n"
            "allocatable: {cpu: 1k, memory: 1Ti, pods: 1M}\n"
        )
    }
    documents = [
        stage("node-ready", "Node", [not_ready], node),
        stage(
            "pod-ready",
            "Pod",
            [alive, pending, not_ready, lasting],
            pod("Running", ["Initialized", "ContainersReady", "Ready"], running, ready=True),
        ),
        stage("pod-complete", "Pod", [alive, pending, one_shot], pod("Succeeded", ["Initialized"], ended, ready=False)),
        stage("pod-gone", "Pod", [{**alive, "operator": "Exists"}], {"delete": True}),
    ]
    return "\n---\n".join(documents) + "\n"
