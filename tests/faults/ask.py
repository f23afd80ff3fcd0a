"""The client side of the fault tests, in a process of its own: importing Locust patches the standard library.

Reads one JSON job a line from stdin, runs the jobs side by side, and prints one JSON result a line:
the records as a run would write them, and the text that the answers said.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import gevent
import msgspec
from gevent.pool import Pool
from splintr import Tokenizer

from harness.dialects import Asked
from harness.dialects.openai_chat import OPENAI_CHAT
from harness.plan import Arrival
from harness.reading import read_stream, read_whole
from harness.records import RequestRecord
from harness.swarm.asking import complete_record, open_record
from harness.swarm.transport import Exchange, Timeouts, Transport, parse_target

TOKENIZER = Tokenizer.from_pretrained("o200k_base")
ORIGIN = time.monotonic()


def now() -> float:
    return time.monotonic() - ORIGIN


def count(text: str) -> int:
    return len(TOKENIZER.encode(text))


def ask(
    transport: Transport, name: str, model: str, stream: bool, record_into: list[RequestRecord], texts: list[str]
) -> None:
    """One request as `LLMUser.ask` sends it; its record is complete however it ends."""
    arrival = Arrival(len(record_into), now(), 5)
    record = open_record(
        f"{name}-{arrival.index}",
        arrival,
        arrival.at_s,
        scenario="faults",
        user_class="Ask",
        dialect=OPENAI_CHAT,
        model=model,
        stream=stream,
    )
    exchange = Exchange()
    headers = {"Content-Type": "application/json", "X-Client-Request-Id": record.request_id}
    body = OPENAI_CHAT.body(Asked(model, (("user", "hi"),), stream=stream))
    try:
        transport.request("POST", OPENAI_CHAT.path, headers, body, exchange)
    finally:
        complete_record(record, exchange, OPENAI_CHAT, count)
        record_into.append(record)
        facts = read_stream(exchange.reads, OPENAI_CHAT) if stream else read_whole(exchange.body(), 0.0, OPENAI_CHAT)
        texts.append("".join(facts.pieces))


def run(job: dict[str, Any]) -> dict[str, Any]:
    """The requests of one job, one after the other over one transport."""
    transport = Transport(parse_target(job["url"]), now, Timeouts(connect_s=5.0, read_s=job["read_s"]))
    records: list[RequestRecord] = []
    texts: list[str] = []
    for number in range(job["num_requests"]):
        if number:
            gevent.sleep(job["between_s"])
        asking = gevent.spawn(ask, transport, job["name"], job["model"], job["stream"], records, texts)
        asking.join(timeout=job["end_after_s"])
        asking.kill()  # what the end of a run does to open requests
        if not asking.successful():
            raise RuntimeError(f"{job['name']}: {asking.exception!r}")
    transport.close()
    return {"name": job["name"], "records": msgspec.to_builtins(records), "texts": texts}


def main() -> None:
    jobs = [json.loads(line) for line in sys.stdin]
    # Jobs whose clock matters come second, so that the parsing of the others does not delay their stamps.
    for timed in (False, True):
        for result in Pool(32).imap(run, [job for job in jobs if job["timed"] is timed]):
            sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
