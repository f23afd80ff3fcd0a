"""From stamped bytes to facts: the one place that says when tokens came, for every protocol.

Bytes are stamped as they are read and parsed after the stream has ended, so that parsing delays nobody. Events
that came in one read share its stamp: only the last of them is exact, and the fold counts the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from harness.dialects import NO_USAGE, Dialect, Ends, Meaning, TokenUsage, UnreadableEvent
from harness.sse import SseEvent

__all__ = ["StreamFacts", "chunk_tokens", "read_stream", "read_whole"]


@dataclass(slots=True)
class StreamFacts:
    """What an answer turned out to be. `content_at[i]` is the arrival of content chunk i, `pieces[i]` its text.

    `ended`: an event has said that nothing more comes; `ends` is what the protocol takes for that. `wordless`: there was
    content without words. A finish reason belongs to one of the choices; `finished` are those that have one.
    """

    content_at: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    finish_reasons: list[str] = field(default_factory=list)
    finished: set[int] = field(default_factory=set)
    ended: bool = False
    ends: Ends = "finish"
    wordless: bool = False
    usage: TokenUsage | None = None
    model: str | None = None
    error: str | None = None
    unreadable: str | None = None
    num_merged: int = 0
    cut_inside_event: bool = False
    content_after_end: bool = False

    def gaps(self) -> list[float]:
        """Seconds between successive content chunks."""
        return [round(after - before, 6) for before, after in pairwise(self.content_at)]

    @property
    def complete(self) -> bool:
        """Whether the protocol says that nothing is missing."""
        return self.ended or self.ends == "close" or (self.ends == "finish" and bool(self.finish_reasons))

    @property
    def num_too_many_finishes(self) -> int:
        """Finish reasons beyond one for each choice."""
        return len(self.finish_reasons) - max(1, len(self.finished))

    def note(self, meaning: Meaning, at: float) -> None:
        """Fold in one event."""
        if meaning.content:
            self.content_after_end = self.content_after_end or self.ended or meaning.choice in self.finished
            self.content_at.append(at)
            self.pieces.append(meaning.content)
        if meaning.finish_reason:
            self.finish_reasons.append(meaning.finish_reason)
            self.finished.add(meaning.choice)
        if meaning.usage is not None:
            self.usage = (self.usage or NO_USAGE).then(meaning.usage)
        self.wordless = self.wordless or meaning.wordless
        self.model = self.model or meaning.model
        self.error = self.error or meaning.error
        self.ended = self.ended or meaning.end


def read_stream(reads: Iterable[tuple[float, bytes]], dialect: Dialect) -> StreamFacts:
    """Fold the body of a stream, given as `(arrival, bytes)` pairs in order."""
    facts, decoder, at = StreamFacts(ends=dialect.ends), dialect.framing.decoder(), 0.0
    for at, piece in reads:
        for event in decoder.feed(piece):
            _note_event(facts, event, at, dialect)
    for event in decoder.close():
        _note_event(facts, event, at, dialect)
    facts.cut_inside_event = decoder.pending
    return facts


def _note_event(facts: StreamFacts, event: SseEvent, at: float, dialect: Dialect) -> None:
    try:
        meaning = dialect.event(event)
    except UnreadableEvent as error:
        facts.unreadable = facts.unreadable or str(error)
        return
    # One stamp, one read: however many pieces HTTP made of it.
    facts.num_merged += bool(meaning.content and facts.content_at and facts.content_at[-1] == at)
    facts.note(meaning, at)


def read_whole(body: bytes, at: float, dialect: Dialect) -> StreamFacts:
    """Fold an answer that came as one body. It has content, but no token times."""
    facts = StreamFacts()
    try:
        facts.note(dialect.whole(body), at)
    except UnreadableEvent as error:
        facts.unreadable = str(error)
    facts.ended = facts.ended or bool(facts.finished)
    return facts


def chunk_tokens(facts: StreamFacts, count: Callable[[str], int]) -> list[int] | None:
    """The tokens in each content chunk; None when there is one in each, as the server's own count proves."""
    if facts.usage is not None and facts.usage.num_output_tokens == len(facts.pieces):
        return None
    counts = [max(1, count(piece)) for piece in facts.pieces]
    return None if all(num == 1 for num in counts) else counts
