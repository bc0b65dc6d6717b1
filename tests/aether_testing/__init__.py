"""The harness that tests and benchmarks share; README.md says which helper to take for what.

Packages, each imports only those after it: `bench`, `processes`, `cluster`, `servers`, `values`. Only `fixtures`, the
pytest plugin, knows pytest. `wait` polls for all of them; `generator` and `words` are commands of the Makefile.
"""
