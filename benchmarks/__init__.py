"""Measurements of speed, run by `make bench`. Ratios and tables, no assertions: machines differ."""
