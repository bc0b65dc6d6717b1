"""Aether's operator: reconciles TradingPlatform objects with their children in Kubernetes and on their servers."""
