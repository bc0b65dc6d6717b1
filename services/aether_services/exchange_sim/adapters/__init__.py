"""The adapters of the simulated venue: its journal, its recordings."""
