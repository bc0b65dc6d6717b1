"""Aether's operator: reconciles its custom resources with their children in Kubernetes and on servers."""
