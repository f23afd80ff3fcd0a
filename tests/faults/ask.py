"""The client side of the fault tests, in a process of its own: importing Locust patches the standard library.

Reads one JSON job a line from stdin, runs the jobs side by side, and prints one JSON result a line:
the records as a run would write them, and the text that the answers said.
"""

from __future__ import annotations

import json
import sys
import time
from argparse import Namespace
from typing import Any

import gevent
import msgspec
from gevent.pool import Pool
from splintr import Tokenizer

from harness.dialects import Asked
from harness.dialects.table import dialect_of
from harness.exchange import Exchange
from harness.plan import Arrival
from harness.reading import read_stream, read_whole
from harness.records import RequestRecord
from harness.swarm.asking import complete_record, open_record
from harness.swarm.batching import Jobs
from harness.swarm.transport import Timeouts, Transport, parse_target

TOKENIZER = Tokenizer.from_pretrained("o200k_base")
PATIENCE_S = 10.0
ORIGIN = time.monotonic()


def now() -> float:
    return time.monotonic() - ORIGIN


def count(text: str) -> int:
    return len(TOKENIZER.encode(text))


class Asking:
    """The requests of one fault. `records` and `texts` are by number, complete however the requests ended."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.dialect = dialect_of(job["protocol"])
        self.records: dict[int, RequestRecord] = {}
        self.texts: dict[int, str] = {}
        self.transport = Transport(parse_target(job["url"]), now, Timeouts(connect_s=5.0, read_s=job["read_s"]))
        self.jobs = Jobs(
            self.transport, now, Namespace(batch_size=job["num_requests"], batch_wait=PATIENCE_S, batch_poll=0.05)
        )

    def ask(self, number: int) -> None:
        """One request as `LLMUser.ask` sends it."""
        job, dialect = self.job, self.dialect
        arrival = Arrival(number, now(), 5)
        record = open_record(
            f"{job['name']}-{number}",
            arrival,
            arrival.at_s,
            scenario="faults",
            user_class="Ask",
            dialect=dialect,
            model=job["model"],
            stream=job["stream"],
        )
        exchange = Exchange()
        headers = {"Content-Type": "application/json", "X-Client-Request-Id": record.request_id}
        body = dialect.body(Asked(job["model"], (("user", "hi"),), stream=job["stream"]))
        try:
            if dialect.job is not None:
                self.jobs.request(dialect, job["model"], body, exchange)
            else:
                self.transport.request("POST", dialect.path, headers, body, exchange)
        finally:
            complete_record(record, exchange, dialect, count)
            self.records[number] = record
            stream = job["stream"] and dialect.streams
            facts = read_stream(exchange.reads, dialect) if stream else read_whole(exchange.body(), 0.0, dialect)
            self.texts[number] = "".join(facts.pieces)

    def run(self) -> None:
        """One after the other over one transport; those that are to share a job of a batch API together."""
        numbers = range(self.job["num_requests"])
        for together in [numbers] if self.dialect.job is not None else [[number] for number in numbers]:
            if together[0]:
                gevent.sleep(self.job["between_s"])
            asking = [gevent.spawn(self.ask, number) for number in together]
            gevent.joinall(asking, timeout=self.job["end_after_s"])
            gevent.killall(asking)  # what the end of a run does to open requests
            for one in asking:
                if not one.successful():
                    raise RuntimeError(f"{self.job['name']}: {one.exception!r}")
        self.transport.close()


def run(job: dict[str, Any]) -> dict[str, Any]:
    """What became of a fault's requests."""
    asking = Asking(job)
    asking.run()
    numbers = sorted(asking.records)
    records = [msgspec.to_builtins(asking.records[number]) for number in numbers]
    return {"name": job["name"], "records": records, "texts": [asking.texts[number] for number in numbers]}


def main() -> None:
    jobs = [json.loads(line) for line in sys.stdin]
    # Jobs whose clock matters come second, so that the parsing of the others does not delay their stamps.
    for timed in (False, True):
        for result in Pool(32).imap(run, [job for job in jobs if job["timed"] is timed]):
            sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
