"""A one-node Kubernetes on this machine: etcd, the Kubernetes programs and containerd, in separate Linux namespaces."""
