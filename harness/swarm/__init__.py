"""The load side inside Locust; the only package here that imports locust or gevent.

Importing locust patches the standard library, so that nothing else of the harness may import this package.
A locustfile does: `from harness.swarm import LLMUser`, and thereby gets records, verdict and exit code.
"""

from locust import events

from harness.swarm.options import PlanOptions
from harness.swarm.plugin import register
from harness.swarm.users import LLMUser

__all__ = ["LLMUser", "PlanOptions"]

register(events)
