"""The words of a page and what they mean; the same as in ARCHITECTURE.md."""

from __future__ import annotations

__all__ = ["DEFINITIONS"]

DEFINITIONS = {
    "intended time": (
        "When the load plan says a request is to be sent. Latencies count from it unless they say otherwise."
    ),
    "TTFT": (
        "Time to first token: from the intended time to the arrival of the first chunk with content (text, "
        "reasoning or tool-call arguments). A chunk with only a role is not a token."
    ),
    "ITL": (
        "Inter-token latency: the gap between successive content chunks, divided by and weighted with the "
        "tokens of the later one."
    ),
    "chunk gap": "The raw gap between successive content chunks.",
    "TPOT": (
        "Time per output token: (last content − first content) / (output tokens − 1), per request; "
        "undefined for one token."
    ),
    "E2E": "From the intended time to the end of the answer.",
    "from send": "The same metric counted from the real send: without the delay that the load side added.",
    "connect": "From the send to an open connection, of requests that opened one.",
    "output tokens": "By the server's usage where it gives one, else counted locally.",
    "goodput": (
        "Requests a second that are ok and meet every bound of their class's objective. What failed, was throttled or held "
        "back stays in the denominator of its share; a client that left as planned does not."
    ),
    "without throttle time": "The same metric less the time that the client waited because the server asked it to.",
    "throttled": "Answered with 429, 529, or 503 with Retry-After: within the provider's contract.",
    "failed": "Ended with any other error; also an empty answer or one that breaks its protocol.",
    "cut": "A stream that the server broke.",
    "incomplete": "Still open when the run ended.",
    "refused": "Never sent: the harness held it back (its cap on requests in flight, or a budget).",
    "left": "The client went away before the end, as the plan said: no failure of the server.",
    "send lag": "From the intended time to the real send: lateness of the load side, not of the server.",
    "loop lag": "How late the load process's event loop woke up; sends are late by up to this much.",
    "read lag": (
        "How long bytes lay in the kernel before the load process read them; arrivals with the kernel's receive stamps are "
        "right all the same."
    ),
    "doubt": (
        "A sample whose times may be off: late send (by more than 10 ms), merged first token or late read (its arrival is only "
        "known to more than 1 ms), clock step."
    ),
    "VALID, DEGRADED, INVALID": (
        "State of the instrument: the numbers stand; they stand with the doubts listed; nothing may be concluded."
    ),
    "95 % interval": (
        "Between two of the samples, so chosen that the true percentile lies between them in 95 of 100 runs, whatever the "
        "distribution (order statistics). It takes the samples for independent."
    ),
    "failures as +∞": (
        "The percentile over all requests, where one that failed, was throttled or cut takes for ever. Requests that our own side held "
        "back or went away from are left out."
    ),
    "hit, stale, miss": "What the server's cache of whole answers said. A prompt cache, which saves only reading, is another thing.",
    "steady": "After the warm-up (MSER-5) and before the drain, if latency shows no trend there.",
    "PASS, FAIL, INCONCLUSIVE": (
        "An objective about a sample is met or missed only with confidence; in between the run was too short to tell."
    ),
    "n<368": "Too few samples: this percentile has no distribution-free 95 % interval below that many.",
}
