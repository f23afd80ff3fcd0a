"""Before harm is done: which targets, how much money, when to stop, and no secret in any output."""
