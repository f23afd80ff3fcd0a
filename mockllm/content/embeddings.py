"""Vectors of texts for /v1/embeddings and for semantic caches: paraphrases near, unrelated texts far, no model to run.

A text's vector is the sum of static token vectors that were distilled from the sentence model all-MiniLM-L6-v2
(`data/README.md`: how, and how good), plus a small term for the order of words. All sums are of integers, so a text has
the same vector on every machine. Upper and lower case and accents make no difference, as in the original.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mockllm.streams import Streams

__all__ = ["MAX_DIMENSIONS", "Embedder", "StaticEmbedder", "default_embedder", "resize"]

MAX_DIMENSIONS = 3072  # of text-embedding-3-large, the widest model of OpenAI

Vectors = NDArray[np.float32]

_TABLE = Path(__file__).parent / "data" / "minilm-128.npz"
_BLOCK = 8192  # tokens that are summed at once: bounds the memory a long text takes
_LONG_WORD = 100  # characters; longer words are not worth remembering
_ORDER = 0.2  # length of the term for word order against the term for words: "a to b" and "b to a" are told apart
_LOW = 1024  # an unknown code point is two digits to this base
_STREAMS = Streams(0)


class Embedder(Protocol):
    """Maps n texts to n unit vectors of one size, as rows."""

    def embed(self, texts: Sequence[str]) -> Vectors: ...


class StaticEmbedder:
    """Sums of the rows of a table of token vectors; `vocabulary` names the rows in WordPiece's notation."""

    def __init__(self, rows: NDArray[np.int8], vocabulary: Sequence[str]) -> None:
        self.size = rows.shape[1]
        length = float(np.median(np.linalg.norm(rows.astype(np.float32), axis=1)))
        self._order = _ORDER * self.size**0.5 / length
        self._rows = np.concatenate([rows, _spare_rows(self.size, length)])
        self._beginnings = {piece: row for row, piece in enumerate(vocabulary) if not piece.startswith("##")}
        self._continuations = {piece[2:]: row for row, piece in enumerate(vocabulary) if piece.startswith("##")}
        self._num_pieces = len(rows)
        self._reach = _reach(vocabulary)
        self._remembered = lru_cache(maxsize=2**16)(self._pieces)

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One unit vector a text, also for a text without any word."""
        vectors = np.empty((len(texts), self.size))
        for number, text in enumerate(texts):
            vectors[number] = self._sum(self.tokens(text))
            if not vectors[number].any():
                vectors[number] = _noise("text without words", text, self.size)
        return _unit(vectors)

    def tokens(self, text: str) -> list[int]:
        """The rows of a text's pieces in order; a character that the vocabulary lacks has two rows."""
        return [
            row
            for word in text.translate(_FOLDED).split()
            for row in (self._remembered(word) if len(word) <= _LONG_WORD else self._pieces(word))
        ]

    def _pieces(self, word: str) -> tuple[int, ...]:
        """Greedy longest match from the left, as WordPiece does, but the unknown costs a character, not the word."""
        rows: list[int] = []
        known, at = self._beginnings, 0
        while at < len(word):
            reach = self._reach.get(word[at : at + 2], 1)
            for end in range(min(len(word), at + reach), at, -1):
                row = known.get(word[at:end])
                if row is not None:
                    rows.append(row)
                    break
            else:
                end = at + 1
                high, low = divmod(ord(word[at]), _LOW)
                rows += [self._num_pieces + low, self._num_pieces + _LOW + high]
            known, at = self._continuations, end
        return tuple(rows)

    def _sum(self, tokens: list[int]) -> NDArray[np.float64]:
        """The sum of the rows, and of the products of neighbours, the right one turned: that binds a pair in its order.

        Products of vectors stand for pairs, a permutation for the place in a pair (Plate 1995, Kanerva 2009).
        """
        half = self.size // 2
        words = np.zeros(self.size, dtype=np.int64)
        pairs = np.zeros(self.size, dtype=np.int64)
        for start in range(0, len(tokens), _BLOCK):
            rows = self._rows[tokens[start : start + _BLOCK + 1]].astype(np.int16)
            words += rows[:_BLOCK].sum(axis=0, dtype=np.int64)
            turned = np.concatenate([rows[1:, half:], rows[1:, :half]], axis=1)
            pairs += (rows[:-1] * turned).sum(axis=0, dtype=np.int64)
        total: NDArray[np.float64] = words + self._order * pairs
        return total


@cache
def default_embedder() -> StaticEmbedder:
    """The embedder that comes with the package, 128 dimensions."""
    with np.load(_TABLE) as table:
        return StaticEmbedder(table["rows"], table["vocabulary"].tobytes().decode().split("\n"))


def resize(vectors: Vectors, dimensions: int) -> Vectors:
    """Unit vectors of the size a client asks for.

    Fewer dimensions are the first ones, as in models trained for it (Matryoshka): the table's axes are in the order of
    their importance. More dimensions keep every cosine; the first multiples of the native size begin with each other.
    """
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise ValueError(f"dimensions {dimensions} is not in 1..{MAX_DIMENSIONS}")
    native = vectors.shape[1]
    if dimensions <= native:
        return _unit(vectors[:, :dimensions].astype(np.float64))
    return _unit(vectors.astype(np.float64) @ _enlargement(native, dimensions))


@lru_cache(maxsize=8)
def _enlargement(native: int, dimensions: int) -> NDArray[np.float64]:
    """An isometry up to a factor: the identity beside turned copies of it, the last one cut to fit.

    k whole orthogonal blocks keep cosines as they are. A cut block of rows B stretches what it still sees: A'A = k·I + B'B,
    and B'B is a projection. Multiplying by the inverse root of A'A, known in closed form, mends that.
    """
    whole, rest = divmod(dimensions, native)
    stacked = np.concatenate([_turn(native, number) for number in range(whole + (rest > 0))])[:dimensions]
    cut = stacked[whole * native :]
    mended = np.eye(native) / whole**0.5 + ((whole + 1) ** -0.5 - whole**-0.5) * (cut.T @ cut)
    enlargement: NDArray[np.float64] = (stacked @ mended).T
    return enlargement


def _turn(size: int, number: int) -> NDArray[np.float64]:
    """An orthogonal matrix: the identity for 0, else the Hartley transform after random changes of sign."""
    if number == 0:
        return np.eye(size)
    angle = 2 * np.pi / size * (np.outer(np.arange(size), np.arange(size)) % size)
    bits = _random_bytes("turn", str(number), size) & 1
    signs = 1 - 2 * bits.astype(np.float64)
    turn: NDArray[np.float64] = (np.cos(angle) + np.sin(angle)) / size**0.5 * signs
    return turn


def _unit(vectors: NDArray[np.float64]) -> Vectors:
    """Rows scaled to length 1; a zero row, which has no direction, becomes the first axis."""
    vectors = vectors.copy()
    vectors[~vectors.any(axis=1), 0] = 1.0
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32)


def _random_bytes(purpose: str, key: str, number: int) -> NDArray[np.uint8]:
    """Raw bits: numpy keeps them through its releases, unlike its distributions."""
    words = _STREAMS.generator(purpose, key).bit_generator.random_raw(-(-number // 8))
    return np.asarray(words, dtype="<u8").view(np.uint8)[:number]


def _noise(purpose: str, key: str, size: int) -> NDArray[np.float64]:
    return _random_bytes(purpose, key, size).astype(np.float64) - 127.5


def _spare_rows(size: int, length: float) -> NDArray[np.int8]:
    """Random rows of about this length for the two digits of an unknown character.

    Every pair of digits is another character, and characters of one block share the high digit: they are alike.
    """
    number = _LOW + -(-0x110000 // _LOW)
    noise = _noise("unknown character", "", number * size).reshape(number, size)
    noise *= length / np.linalg.norm(noise, axis=1, keepdims=True)
    return np.rint(noise).astype(np.int8)


def _reach(vocabulary: Sequence[str]) -> dict[str, int]:
    """The longest piece by its first two characters, so that the search for the longest match begins near it."""
    reach: dict[str, int] = {}
    for piece in vocabulary:
        text = piece.removeprefix("##")
        reach[text[:2]] = max(reach.get(text[:2], 1), len(text))
    return reach


class _Folded(dict[int, str]):
    """For `str.translate`: what BERT's uncased normaliser and pre-tokeniser make of a character; blanks part words."""

    def __missing__(self, code: int) -> str:
        folded = "".join(_fold(char) for char in unicodedata.normalize("NFD", chr(code)))
        if len(self) < 2**16:  # a hostile text must not fill the memory
            self[code] = folded
        return folded


_FOLDED = _Folded()


def _fold(char: str) -> str:
    category = unicodedata.category(char)
    if char in "\t\n\r" or category.startswith("Z"):
        return " "
    if category in ("Cc", "Cf", "Mn"):
        return ""
    if category.startswith("P") or char in "$+<=>^`|~" or _is_cjk(ord(char)):
        return f" {char} "
    return char.lower()


_IDEOGRAPHS = (
    (0x4E00, 0x9FFF),
    (0x3400, 0x4DBF),
    (0x20000, 0x2A6DF),
    (0x2A700, 0x2CEAF),
    (0xF900, 0xFAFF),
    (0x2F800, 0x2FA1F),
)


def _is_cjk(code: int) -> bool:
    """Ideographs, each a word of its own; the ranges are BERT's."""
    return any(first <= code <= last for first, last in _IDEOGRAPHS)
