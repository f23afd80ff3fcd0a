"""Judging one run against what was asked of it: measures by name, objectives, latency budgets, alerts."""
