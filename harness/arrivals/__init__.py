"""When requests are sent: laws of gaps and rates over time. Knows nothing of what is sent."""
