"""Words that are one token each: in cl100k, o200k and Llama 3, with the blank before them and where they open a sentence
without one (tests/harness/test_prompts.py and test_questions.py ask the tokenizers). So tokens can be counted without one.
"""

from __future__ import annotations

__all__ = ["ADJECTIVES", "JOINTS", "NOUNS", "VERBS", "WHENS", "words"]


def words(text: str) -> list[str]:
    """A list of words, short to write and to read."""
    return text.split()


VERBS = words(
    "review compare explain describe summarize find check write read plan report answer change update release"
)
ADJECTIVES = words(
    "late new old large small long short high low strong open simple complex recent modern common special local global public private"
)
NOUNS = words(
    "customer order invoice account payment delivery contract meeting schedule budget market price team office project client "
    "supplier product service support ticket email message policy process system server database table index log test version "
    "request response user group security audit law court judge health patient doctor hospital medicine study research paper "
    "sample chart graph model profit loss growth bank loan credit insurance tax travel flight hotel city country river mountain "
    "road bridge station train bus car engine machine factory tool material steel wood glass water energy power light weather "
    "rain snow wind garden farm food bread rice fruit kitchen restaurant school teacher student lesson book chapter story "
    "history music film museum photo game sport player coach match league family mother father child friend house room window "
    "door wall floor roof"
)
WHENS = ["before", "after", "during", "without"]
JOINTS = ["with", "for", "about", "against"]
