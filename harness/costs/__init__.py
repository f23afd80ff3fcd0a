"""What a run cost: the bill by request, token, user, feature and day, what was saved, and what a month would cost."""
