"""Which task a question is, by the words in it: the classifier for requests that no workload has labelled.

    translation     translate, translation
    summarization   summarize, summarise, summary, tl;dr
    code            python, javascript, typescript, sql, regex, code, function, bug, compile, stack trace, a ``` fence
    math            calculate, solve, equation, integral, derivative, probability, prove
    extraction      extract, json, csv

Whole words, in either case; the first line that fits wins, "translate this code" is a translation. Anything else is
`chat`. Real routers embed the question or ask a small model; this one is as good as its words, and costs no model.
"""

from __future__ import annotations

import re

__all__ = ["TASKS", "task_by_words"]

_WORDS = {
    "translation": r"translate|translation",
    "summarization": r"summari[sz]e|summary|tl;dr",
    "code": r"python|javascript|typescript|sql|regex|code|function|bug|compile|stack trace",
    "math": r"calculate|solve|equation|integral|derivative|probability|prove",
    "extraction": r"extract|json|csv",
}
_PATTERNS = {task: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for task, words in _WORDS.items()}

TASKS = (*_WORDS, "chat")


def task_by_words(text: str) -> str:
    """The task of a question: one of `TASKS`."""
    for task, pattern in _PATTERNS.items():
        if pattern.search(text) or (task == "code" and "```" in text):
            return task
    return "chat"
