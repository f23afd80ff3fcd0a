"""Plans that go on from answers: closed loops, sessions, capacity and limit search."""
