"""Which servers, components and schemas exist: ports, users, probes, tables, who calls whom, topics. Data only."""
