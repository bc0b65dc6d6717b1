"""The kinds as a person writes them: pydantic models (the source of crds/), names, labels and reasons. Values only."""
