"""A mix for response caches: questions asked again word for word, in other words, and for the first time.

Question:     how many answers does the cache give, how much faster are they, and which of them are wrong?
Look at:      TTFT and E2E by class (repeated, reworded, new); hits and wrong hits in `stack.json` or at the gateway.
Useful when:  you choose between an exact and a semantic cache, set a threshold, or must say what a cache saves.

The classes are in the records, so a gateway that does not say what came from its cache is judged by its latencies.

    locust -f scenarios/cache_mix.py --headless --host http://127.0.0.1:8000 -r 10 -t 5m --repeats 0.5 --paraphrases 0.2
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from locust import events

from harness.errors import UsageError
from harness.plan import LoadPlan
from harness.swarm import LLMUser, PlanOptions
from harness.swarm.mixing import mixed


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    group = parser.add_argument_group("cache mix", "-r defaults to 5 per second, -t to 60s.")
    group.add_argument("--repeats", type=float, default=0.4, help="Share that is asked again word for word.")
    group.add_argument("--paraphrases", type=float, default=0.2, help="Share that is asked again in other words.")
    group.add_argument("--questions", type=int, default=200, help="How many questions are asked again.")
    group.add_argument("--zipf", type=float, default=1.0, help="Popularity of the k-th is 1 / k^zipf; 0: all alike.")
    group.add_argument("--corpus", default="", metavar="FILE", help="Real questions: CSV with columns text, intent.")
    group.add_argument("--askers", type=int, default=50, help="Users who ask.")


class CacheMixUser(LLMUser):
    """Three classes of questions about one population."""

    @classmethod
    def plan(cls, options: PlanOptions) -> LoadPlan:
        own = options.own
        shares = {"repeated": own.repeats, "reworded": own.paraphrases, "new": 1 - own.repeats - own.paraphrases}
        if not all(share >= -1e-9 for share in shares.values()):
            raise UsageError(
                f"--repeats {own.repeats:g} and --paraphrases {own.paraphrases:g} must be shares, and no more than 1 together"
            )
        population: dict[str, Any] = {"num": own.questions, "zipf": own.zipf}
        if own.corpus:
            population["corpus"] = str(Path(own.corpus).resolve())
        mixes = {"repeated": (1.0, 0.0), "reworded": (0.0, 1.0), "new": (0.0, 0.0)}
        classes = [
            {
                "name": name,
                "weight": share,
                "questions": population | {"repeats": mixes[name][0], "paraphrases": mixes[name][1]},
            }
            for name, share in shares.items()
            if share > 1e-9
        ]
        return mixed({"users": own.askers, "classes": classes}, "cache_mix", options)
