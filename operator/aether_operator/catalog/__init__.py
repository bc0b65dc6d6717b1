"""Which servers and components exist: ports, users, probes, who calls whom, which topics each writes. Data only."""
