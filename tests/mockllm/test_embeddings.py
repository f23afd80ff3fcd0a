from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mockllm.content import embeddings
from mockllm.content.embeddings import MAX_DIMENSIONS, StaticEmbedder, default_embedder, resize

# Written by hand; the two sides share few words.
PARAPHRASES = [
    ("How do I reset my password?", "I forgot my login credentials and need to recover my account"),
    ("What is the weather like tomorrow?", "Will it rain in the next day or so?"),
    ("My parcel has not arrived yet", "Where is the package I ordered?"),
    ("Cancel my subscription", "I want to stop paying for this service every month"),
    ("The car would not start this morning", "My vehicle's engine failed to turn on"),
    ("How can I lose weight quickly?", "Fastest way to shed some pounds"),
    ("Recommend a good Italian restaurant", "Where should we eat pasta and pizza tonight?"),
    ("The stock market fell sharply", "Share prices dropped a lot on Wall Street"),
    ("A child is playing with a dog", "The little boy runs around with his puppy"),
    ("Write a function that sorts an array", "Code to put the elements of a list in order"),
    ("Who was the first president of the United States?", "Which politician led America when it became a nation?"),
    ("The doctor prescribed antibiotics", "A physician gave me medicine for the infection"),
    ("Our flight was delayed by several hours", "The plane took off much later than scheduled"),
    ("How tall is Mount Everest?", "Height of the highest mountain in the world"),
    ("I was charged twice for the same purchase", "There is a duplicate payment on my bank statement"),
    ("Translate this sentence into French", "How would you say that in the language of Paris?"),
    ("The film was boring and too long", "This movie dragged on and I almost fell asleep"),
    ("Ways to save energy at home", "Cutting the electricity bill of a house"),
    ("The team won the championship final", "They beat their rivals and took the trophy"),
    ("Explain how plants make food from sunlight", "What is photosynthesis?"),
    ("My laptop runs out of battery too fast", "The notebook computer loses its charge within an hour"),
    ("Is it safe to swim in this lake?", "Can people bathe in the water here without danger?"),
    ("The company laid off hundreds of workers", "Many employees of the firm lost their jobs"),
    ("How do I boil an egg?", "Cooking eggs in hot water"),
    ("The judge sentenced him to ten years", "He received a decade in prison from the court"),
    ("Best books for learning to program", "Recommended reading for beginner software developers"),
    ("I feel sad and lonely", "She is depressed and has no friends"),
    ("The server returns an error under heavy load", "Our backend fails when there is too much traffic"),
    ("When does the shop open?", "Business hours of the store"),
    ("Scientists discovered a new planet", "Astronomers found an unknown world orbiting a star"),
]

# What the `tokenizers` library 0.22.2 makes of these texts with the original model's tokenizer.json.
PIECES = [
    ("How do I reset my passcode?", "how do i reset my pass ##code ?"),
    (
        "Antidisestablishmentarianism isn't $4.50!",
        "anti ##dis ##est ##ab ##lish ##ment ##arian ##ism isn ' t $ 4 . 50 !",
    ),
    ("snake_case(x)=>y&&z", "snake _ case ( x ) = > y & & z"),
    ("Crème BRÛLÉE à la carte", "cr ##eme br ##ule ##e a la cart ##e"),
    ("tab\tnew\nline\x00\x07bell", "tab new line ##bell"),
    ("İstanbul’da “quoted”…", "istanbul ’ da “ quoted ” …"),
    ("한국어 텍스트", "ᄒ ##ᅡ ##ᆫ ##ᄀ ##ᅮ ##ᆨ ##ᄋ ##ᅥ ᄐ ##ᅦ ##ᆨ ##ᄉ ##ᅳ ##ᄐ ##ᅳ"),
    ("ελληνικά Σίσυφος", "ε ##λ ##λ ##η ##ν ##ι ##κ ##α σ ##ι ##σ ##υ ##φ ##ος"),
    ("3,000km²", "3 , 000 ##km ##²"),
    ("a" * 30, "aaa" + " ##aa" * 13 + " ##a"),
    (
        "[cls] me@example.com https://x.io/a_b?c=1#d",
        "[ cl ##s ] me @ example . com https : / / x . io / a _ b ? c = 1 # d",
    ),
    ("naïve\u200djoiner\u200bzero", "naive ##jo ##iner ##zer ##o"),
    ("हिन्दी", "ह ##ि ##न ##द ##ी"),
    ("e\u0301\u0316\u0323", "e"),
    ("什", "[UNK]"),
]

any_text = st.text(st.characters(exclude_categories=()))  # lone surrogates and unassigned characters too
some_texts = st.lists(any_text, min_size=1, max_size=4)


def cosine(one: str, other: str) -> float:
    a, b = default_embedder().embed([one, other]).astype(np.float64)
    return float(a @ b)


def pieces_of_table() -> list[str]:
    path = Path(embeddings.__file__).parent / "data" / "minilm-128.npz"
    with np.load(path) as table:
        return bytes(table["vocabulary"]).decode().split("\n")


def test_paraphrases_are_near_and_other_texts_far() -> None:
    embedder = default_embedder()
    left, right = (embedder.embed(side).astype(np.float64) for side in zip(*PARAPHRASES, strict=True))
    cosines = left @ right.T
    near, far = np.diag(cosines), cosines[~np.eye(len(cosines), dtype=bool)]
    assert near.mean() > 0.55
    assert abs(far.mean()) < 0.15
    assert near.min() > np.quantile(far, 0.97)
    assert (near[:, None] > far).mean() > 0.995
    assert (cosines.argmax(axis=1) == np.arange(len(cosines))).sum() >= len(cosines) - 2


def intents(shared_data: Path, number: int = 2000) -> tuple[list[str], NDArray[np.str_]]:
    with (shared_data / "banking77" / "train.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    chosen = np.random.default_rng(0).permutation(len(rows))[:number]
    return [rows[row]["text"] for row in chosen], np.array([rows[row]["category"] for row in chosen])


def nearest_neighbour_accuracy(vectors: NDArray[np.float64], labels: NDArray[np.str_]) -> float:
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    return float((labels[cosines.argmax(axis=1)] == labels).mean())


def hashed_words(texts: list[str], size: int = 4096) -> NDArray[np.float64]:
    """The plain alternative: signed hashes of words and of pairs of words, weighted by rarity."""
    counts = np.zeros((len(texts), size))
    for row, text in zip(counts, texts, strict=True):
        words = re.findall(r"\w+", text.lower())
        for feature in words + [" ".join(pair) for pair in pairwise(words)]:
            row[zlib.crc32(feature.encode()) % size] += 1
    weighted: NDArray[np.float64] = counts * np.log((1 + len(texts)) / (1 + (counts > 0).sum(axis=0)))
    weighted /= np.linalg.norm(weighted, axis=1, keepdims=True)
    return weighted


def test_bank_customers_with_one_intent_are_neighbours(shared_data: Path) -> None:
    texts, labels = intents(shared_data)
    vectors = default_embedder().embed(texts).astype(np.float64)
    accuracy = nearest_neighbour_accuracy(vectors, labels)
    assert accuracy > 0.76  # the model this was distilled from: 0.866
    assert accuracy > nearest_neighbour_accuracy(hashed_words(texts), labels) + 0.12
    cosines = vectors @ vectors.T
    same = labels[:, None] == labels
    np.fill_diagonal(same, False)
    assert cosines[same].mean() - cosines[labels[:, None] != labels].mean() > 0.25


@pytest.mark.parametrize(("text", "expected"), PIECES)
def test_texts_fall_into_the_pieces_of_the_original_tokenizer(text: str, expected: str) -> None:
    pieces = pieces_of_table()
    tokens = default_embedder().tokens(text)
    if expected == "[UNK]":
        assert len(tokens) == 2
        assert min(tokens) >= len(pieces)
    else:
        assert " ".join(pieces[token] for token in tokens) == expected


def hand_made() -> tuple[StaticEmbedder, Callable[[int], float]]:
    """Two pieces of the same length 5, and the factor of the pair term worked out for them: 0.2 times sqrt(4) / 5."""
    rows = np.array([[3, 0, 4, 0], [0, 5, 0, 0]], dtype=np.int8)
    return StaticEmbedder(rows, ["a", "##b"]), lambda pairs: 0.2 * 2 / 5 * pairs


def test_a_vector_is_the_sum_of_its_pieces_and_of_its_pairs() -> None:
    embedder, order = hand_made()
    # a = (3 0 4 0); a turned by half = (4 0 3 0); their product (12 0 12 0)
    expected = np.array([6 + order(12), 0, 8 + order(12), 0])
    assert embedder.embed(["a a"])[0] == pytest.approx(expected / np.linalg.norm(expected))
    assert embedder.embed(["ab"])[0] == pytest.approx(np.array([3, 5, 4, 0]) / 50**0.5)


def test_a_long_text_is_summed_in_blocks_that_lose_nothing() -> None:
    embedder, order = hand_made()
    num = 3 * 8192 + 17
    expected = np.array([3 * num + order(12 * (num - 1)), 0, 4 * num + order(12 * (num - 1)), 0])
    assert embedder.embed(["a " * num])[0] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-7)


def test_the_same_text_has_the_same_vector_alone_in_company_and_in_another_embedder() -> None:
    texts = [side for pair in PARAPHRASES for side in pair] + ["", "😀 ünï", "\ud800"]
    together = default_embedder().embed(texts)
    alone = np.concatenate([default_embedder.__wrapped__().embed([text]) for text in texts[-8:]])
    assert together.dtype == np.float32
    assert together[-8:].tobytes() == alone.tobytes()


def test_no_texts_have_no_vectors() -> None:
    assert default_embedder().embed([]).shape == (0, 128)
    assert resize(default_embedder().embed([]), 1536).shape == (0, 1536)


@given(some_texts)
def test_every_text_has_a_unit_vector(texts: list[str]) -> None:
    vectors = default_embedder().embed(texts)
    assert vectors.shape == (len(texts), 128)
    assert np.linalg.norm(vectors.astype(np.float64), axis=1) == pytest.approx(1, abs=1e-6)


def test_different_texts_have_different_vectors() -> None:
    texts = [
        "",
        " ",
        "\n",
        "\ud800",
        "\ud801",
        "😀",
        "😃",
        "😀😃",
        "😃😀",
        "漢字",
        "字漢",
        "𒀀",
        "xqzjw",
        "xqzwj",
        "!",
        "?",
    ]
    texts += ["the dog bit the man", "the man bit the dog", "Hello!", "Hello?", "room 12", "room 21", "ა ბ", "გ დ"]
    vectors = default_embedder().embed(texts).astype(np.float64)
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, 0)
    assert cosines.max() < 1 - 1e-4


def test_emoji_resemble_each_other_more_than_words() -> None:
    assert cosine("😀", "😃") > 0.3 > cosine("😀", "hello")


def test_case_and_accents_make_no_difference() -> None:
    assert cosine("CAFÉ au lait", "café AU LAIT") == pytest.approx(1)
    assert cosine("Cafe\u0301", "cafe") == pytest.approx(1)


@pytest.mark.parametrize(
    "text",
    [
        "word " * 20_000,
        "a" * 100_000,
        "zqx" * 33_333,
        "😀" * 100_000,
        "漢" * 100_000,
        "\0" * 100_000,
        "\ud800" * 100_000,
        "a" + "\u0301\u0316" * 50_000,
        " " * 100_000,
        "<|endoftext|>" * 7_000,
    ],
    ids=["words", "one word", "no word", "emoji", "ideographs", "nul", "surrogates", "accents", "blanks", "marks"],
)
def test_a_hundred_thousand_characters_of_anything_have_a_unit_vector(text: str) -> None:
    vector = default_embedder().embed([text])[0].astype(np.float64)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


SAMPLE = [side for pair in PARAPHRASES[:8] for side in pair] + ["", "😀"]


@given(st.integers(128, MAX_DIMENSIONS))
@settings(max_examples=30, deadline=None)
def test_more_dimensions_keep_every_cosine(dimensions: int) -> None:
    native = default_embedder().embed(SAMPLE)
    wide = resize(native, dimensions).astype(np.float64)
    assert wide.shape == (len(SAMPLE), dimensions)
    expected = native.astype(np.float64) @ native.astype(np.float64).T
    assert np.abs(wide @ wide.T - expected).max() < 1e-6


@given(st.integers(1, 128))
def test_fewer_dimensions_are_the_first_ones(dimensions: int) -> None:
    native = default_embedder().embed(SAMPLE)
    narrow = resize(native, dimensions).astype(np.float64)
    assert np.linalg.norm(narrow, axis=1) == pytest.approx(1, abs=1e-6)
    for short, full in zip(narrow, native.astype(np.float64), strict=True):
        assert short * np.linalg.norm(full[:dimensions]) == pytest.approx(full[:dimensions], abs=1e-6)


@pytest.mark.parametrize("dimensions", [128, 256, 512, 1024])
def test_usual_sizes_begin_the_size_above(dimensions: int) -> None:
    native = default_embedder().embed(SAMPLE)
    wide = resize(native, 1536)
    assert resize(wide, dimensions) == pytest.approx(resize(native, dimensions), abs=1e-6)


def test_an_enlarged_vector_is_spread_over_all_its_dimensions() -> None:
    wide = resize(default_embedder().embed(SAMPLE), 1536).astype(np.float64)
    assert (wide.reshape(len(SAMPLE), 12, 128) ** 2).sum(axis=2) == pytest.approx(1 / 12, rel=1e-5)
    assert len(np.unique(wide[0].round(7))) > 1400


@pytest.mark.parametrize("dimensions", [0, -1, MAX_DIMENSIONS + 1])
def test_other_sizes_are_refused_with_the_allowed_range(dimensions: int) -> None:
    with pytest.raises(ValueError, match=rf"dimensions {dimensions} is not in 1\.\.3072"):
        resize(default_embedder().embed(["a"]), dimensions)


def test_a_vector_that_is_cut_to_nothing_gets_a_direction() -> None:
    assert resize(np.array([[0, 0, 1, 0]], dtype=np.float32), 2).tolist() == [[1, 0]]


def test_no_row_of_the_table_is_zero_and_the_file_is_small() -> None:
    path = Path(embeddings.__file__).parent / "data" / "minilm-128.npz"
    assert path.stat().st_size < 2.5e6
    with np.load(path) as table:
        assert table["rows"].any(axis=1).all()
        assert len(table["rows"]) == len(set(pieces_of_table())) == 29_523
