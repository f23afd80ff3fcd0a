"""GPU readings: readers, sampler, folds."""
