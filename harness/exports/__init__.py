"""A run in the formats of others: Parquet and CSV, vLLM's JSON, llm-d's benchmark report, OpenTelemetry metrics."""
