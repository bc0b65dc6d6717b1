"""The operator's custom resources: pydantic models (the source of crds/), conditions and reasons. Values only."""
