"""Kubernetes: local clusters, a namespace for each test, the chart, the release before."""
