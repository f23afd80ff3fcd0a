"""When requests are sent: laws of gaps, rates over time, sums of clients, traces."""
