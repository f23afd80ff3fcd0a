"""Hits and wrong hits of the semantic cache on banking77, for every embedder: docs/semantic-cache.md is made of them.

`python -m tests.accuracy.semantic_cache > docs/semantic-cache.md` writes the document anew. It needs the measured data and
the extra `[semantic]`, and takes three minutes.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from mockllm.content.embedders import EMBEDDERS, EmbedderName
from mockllm.semantic_sweep import Outcome, Question, in_order, read_questions, sweep
from tests.conftest import REPOSITORY

__all__ = ["DOCUMENT", "document", "published", "questions"]

DOCUMENT = REPOSITORY / "docs" / "semantic-cache.md"

_HEAD = """\
# Semantic cache: how often it hits, and how often wrongly

Written by `python -m tests.accuracy.semantic_cache`; a test computes the figures again in another way
(`tests/accuracy/test_semantic_cache.py`).

**Data**: banking77 (Casanueva et al., *Efficient Intent Detection with Dual Sentence Encoders*, 2020; PolyAI,
`task-specific-datasets` @57ec275, CC-BY-4.0), the file `train.csv`: {num:,} questions of bank customers, {intents} intents. Only
figures are published here, the questions are not part of this project.

**How**: every question comes once, in a random order. It is embedded and looks for the nearest of the questions before it
that had to be answered by the model. From the threshold on (cosine) that question's answer is given: a hit. Otherwise it is a
miss, and the question is stored. The cache has no limit of time or number. A hit is *wrong* when the two questions have
different intents. `mockllm semantic-sweep train.csv` prints the first table, with `--embedder minilm` the second, and either
for a file of your own.
"""

_READING = """\
## How to read it

- The wrong hits are a lower bound. Two questions of one intent may want different answers, and what no label says nobody
  counts here.
- The hit rate is that of a stream in which no question comes twice in the same words; real traffic repeats itself, and the
  exact cache is cheaper for that. It also grows with the stream: the more is stored, the nearer is the nearest.
- A high threshold makes the remaining hits fewer rather than safe: from .80 to .99 the hits of `static` fall 22-fold, the share
  of wrong ones among them 11-fold. `minilm` makes no mistake in 150 hits at .99, which is compatible with one in fifty. Similarities
  of right and wrong hits overlap, so no single threshold parts them; vCache (arXiv 2502.03771) learns one for each entry.
- Compare embedders at the same share of wrong answers, not at the same threshold: with 1 % of all answers wrong, `minilm`
  answers 37 % of the questions and `static` 21 %.
- 77 intents of one bank lie close together. Published rates (threshold .8, hits 62 to 69 %, over 97 % of them right: GPT Semantic Cache,
  arXiv 2411.05276) are of other questions.
- Numbers, negations and roles are nearly invisible to both embedders (`mockllm/content/data/README.md` has cosines). Where
  an answer depends on them, a semantic cache is the wrong tool.
"""

_TITLES = {
    "static": "`static`: sums of token vectors distilled from all-MiniLM-L6-v2, 128 dimensions (the default)",
    "minilm": "`minilm`: the sentence model all-MiniLM-L6-v2 itself, 384 dimensions (the extra `[semantic]`)",
}


def questions(data: Path) -> list[Question]:
    """In the order in which they come."""
    return in_order(read_questions(data / "banking77" / "train.csv"))


def document(data: Path) -> str:
    """The whole document."""
    asked = questions(data)
    parts = [_HEAD.format(num=len(asked), intents=len({question.intent for question in asked}))]
    for name, embedder in EMBEDDERS.items():
        parts += [f"## {_TITLES[name]}\n", _table(sweep(asked, embedder()))]
    return "\n".join([*parts, _READING])


def published(text: str, embedder: EmbedderName) -> list[tuple[float, int, int]]:
    """Threshold, hits and wrong hits of each row of an embedder's table."""
    section = text.partition(f"## `{embedder}`")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([\d.]+) \| ([\d,]+) \|[^|]+\| ([\d,]+) \|", section, flags=re.MULTILINE)
    return [(float(row[0]), int(row[1].replace(",", "")), int(row[2].replace(",", ""))) for row in rows]


def _table(outcomes: list[Outcome]) -> str:
    lines = ["| threshold | hits | hit rate | wrong hits | wrong, of all | wrong, of hits |", "|---:" * 6 + "|"]
    for each in outcomes:
        of_hits = "" if each.wrong_hit_rate is None else f"{each.wrong_hit_rate:.1%}"
        lines.append(
            f"| {each.threshold:.2f} | {each.num_hits:,} | {each.hit_rate:.1%} "
            f"| {each.num_wrong:,} | {each.wrong_rate:.1%} | {of_hits} |"
        )
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.stdout.write(document(REPOSITORY.parent / "shared" / "data"))
