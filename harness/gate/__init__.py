"""Judging runs against a baseline: pairs, permutation, correction for many metrics, and a verdict that can say `cannot tell`."""
