"""The official SDKs' own test suites, run against the mock: `python -m conformance` writes docs/conformance.md."""
