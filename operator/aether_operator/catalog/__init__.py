"""Which servers and services exist: ports, users, probes, who calls whom. Data only."""
