"""What the GPUs did during a run: read by NVML or from an exporter, by a process of its own, on the run's time axis."""
