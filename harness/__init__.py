"""Load side and measurement: plans, records, statistics, verdicts. Pure; Locust stays behind `harness.swarm`."""
