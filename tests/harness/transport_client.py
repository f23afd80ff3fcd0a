"""The client side of test_transport.py, in a process of its own. Reads a job of JSON a line, prints its records on one.

url num_requests between_s fresh retries read_s conduct    as Transport and `send` take them
at_once                                                    all requests at the same time
hog_after_s hog_s                                          burn the CPU in this process, without yielding
kill_after_s                                               kill the asking greenlet
whole                                                      ask for a whole answer
num_words                                                  how long the question is
num_descriptors                                            how many this process may have from now on
"""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import Any

import gevent
import msgspec

from harness.dialects import Asked
from harness.dialects.openai_chat import OPENAI_CHAT
from harness.exchange import Exchange
from harness.plan import Arrival, Conduct
from harness.records import RequestRecord
from harness.swarm.asking import complete_record, open_record, send
from harness.swarm.transport import Timeouts, Transport, parse_target


def now() -> float:
    return time.monotonic()


def ask(transport: Transport, number: int, job: dict[str, Any], records: dict[int, RequestRecord]) -> None:
    """One request as `LLMUser.ask` sends it."""
    stream = not job.get("whole", False)
    arrival = Arrival(number, now(), 5)
    record = open_record(
        str(number), arrival, arrival.at_s, scenario="t", user_class="T", dialect=OPENAI_CHAT, model="m", stream=stream
    )
    conduct = Conduct(**job["conduct"]) if "conduct" in job else None
    body = OPENAI_CHAT.body(Asked("m", (("user", "hi " * job.get("num_words", 1)),), stream=stream))
    exchange = Exchange()
    try:
        send(transport, OPENAI_CHAT, {}, body, exchange, conduct=conduct, num_retries=job.get("retries", 0))
    finally:
        complete_record(record, exchange, OPENAI_CHAT, lambda text: 1)
        records[number] = record


def hog(job: dict[str, Any]) -> None:
    gevent.sleep(job["hog_after_s"])
    until = now() + job["hog_s"]
    while now() < until:
        pass


def killed_in_pause(num_chunks: int) -> dict[str, Any]:
    """A greenlet that parses an answer of so many reads is killed while it lets others read. Its record, and whether it
    went on after that."""
    chunk = b'data: {"choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
    reads = [(float(number), chunk) for number in range(num_chunks)] + [(float(num_chunks), end)]
    headers = {"content-type": "text/event-stream"}
    record = RequestRecord(request_id="paused", intended_at=0.0)
    steps: list[str] = []

    def work() -> None:
        exchange = Exchange(0.0, reads=reads, headers=headers, status=200, ending="complete")
        complete_record(record, exchange, OPENAI_CHAT, lambda text: 1)
        steps.append("record")
        gevent.sleep(0)
        steps.append("went on")

    greenlet = gevent.spawn(work)
    gevent.sleep(0)
    assert not steps, "it does not pause"
    greenlet.kill()
    return {"steps": steps, **msgspec.to_builtins(record)}


def run(job: dict[str, Any]) -> list[dict[str, Any]]:
    if "kill_in_pause" in job:
        return [killed_in_pause(job["kill_in_pause"])]
    if "num_descriptors" in job:
        resource.setrlimit(resource.RLIMIT_NOFILE, (job["num_descriptors"],) * 2)
    timeouts = Timeouts(connect_s=5.0, read_s=job.get("read_s", 10.0))
    transport = Transport(parse_target(job["url"]), now, timeouts, fresh=job.get("fresh", False))
    records: dict[int, RequestRecord] = {}
    greenlets = []
    for number in range(job.get("num_requests", 1)):
        if number:
            gevent.sleep(job.get("between_s", 0.0))
        greenlets.append(gevent.spawn(ask, transport, number, job, records))
        if "hog_s" in job:
            gevent.spawn(hog, job)
        if "kill_after_s" in job:
            gevent.sleep(job["kill_after_s"])
            greenlets[-1].kill()
        if not job.get("at_once"):
            greenlets[-1].join()
    gevent.joinall(greenlets)
    transport.close()
    return [msgspec.to_builtins(records[number]) for number in sorted(records)]


def main() -> None:
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
