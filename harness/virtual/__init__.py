"""`harness simulate`: a plan and a deployment in virtual time. The only package here that knows the mock, and it knows
only its public names.

The clock jumps from event to event, so hours pass in seconds, and the same arguments give the same records. A record says
what a client without any delay of its own would have seen: it sends every request at its intended time, under the id that
it would have over HTTP, so that both clocks meet the same luck, and waits for as long as it takes. Nothing is measured:
there are no connections, no bytes and no instrument.
"""

from harness.virtual.load import Load, asked_load
from harness.virtual.run import Simulation, run_in_virtual_time

__all__ = ["Load", "Simulation", "asked_load", "run_in_virtual_time"]
