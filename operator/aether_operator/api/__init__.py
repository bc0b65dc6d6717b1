"""The operator's custom resources: the table of kinds, their models, conditions and reasons. Values only."""
