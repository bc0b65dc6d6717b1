"""Which servers and services exist: ports, users, probes, who calls whom, who writes what. Data only."""
