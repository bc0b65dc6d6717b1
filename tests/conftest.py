"""What every test may use."""

pytest_plugins = ["aether_testing.fixtures"]
