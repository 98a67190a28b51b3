"""Stands in front of the package of the same name: the client's statistics go nowhere."""
