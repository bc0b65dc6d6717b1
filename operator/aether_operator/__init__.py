"""Aether's operator: makes true what TradingPlatform objects say, and keeps it true."""
