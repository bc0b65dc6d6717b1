"""What every test may use."""

from hypothesis import HealthCheck, settings

pytest_plugins = ["aether_testing.fixtures"]

# How long an example takes says how busy the machine is, and nothing about a property.
settings.register_profile("aether", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("aether")
