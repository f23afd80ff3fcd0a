"""What steady.py sends, for both sides: the locustfile, and the tests, which may not import Locust."""

from __future__ import annotations

NUM, EVERY_S = 40, 0.05
