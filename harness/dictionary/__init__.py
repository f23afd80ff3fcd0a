"""The same records by the definitions of other tools: why one of them says another number."""
