"""Many runs: which of them may be compared, which belongs to which night, and where the series changed."""
