"""Desired against observed: an ordered plan of acts. Values only."""
