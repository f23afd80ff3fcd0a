"""Dialects as pure functions: request bytes to calls, replies to bytes. No HTTP framework, no clock."""
