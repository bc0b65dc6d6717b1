"""The adapters of the simulated venue: its journal."""
