"""Locustfiles: one question each, no measuring code."""
