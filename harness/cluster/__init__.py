"""Several load processes as pure rules: clocks, heartbeats, who is there, collecting what they wrote."""
