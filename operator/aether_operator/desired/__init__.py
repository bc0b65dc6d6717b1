"""What a platform becomes: spec and observation to children, one module per child kind. Values only."""
