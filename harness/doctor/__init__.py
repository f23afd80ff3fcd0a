"""`harness doctor`: how well this machine measures, found out with a mock whose timings are known exactly."""
