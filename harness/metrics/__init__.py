"""The metrics of a part of a run: by class, tenant, model, cache outcome and phase, in the steady part, with failures as +∞."""
