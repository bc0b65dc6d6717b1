"""The services of a trading platform, one package each, and the code that they share."""
