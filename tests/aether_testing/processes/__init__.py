"""Programs of Aether as processes: the operator, the command, ingest, the simulated venue."""
