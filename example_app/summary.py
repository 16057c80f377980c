"""Finds the sentences that carry a text: TextRank (Mihalcea and Tarau, 2004) on TF-IDF vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .reading import read
from .vectors import Matrix, terms, tf_idf

DAMPING = 0.85  # as in PageRank
ROUNDS = 40
ALIKE = 0.5  # cosine above which a sentence repeats another
GOOD_LENGTH = range(7, 46)  # words
MAX_SENTENCES = 600  # of a text in one go: the similarity of all pairs is held in memory
SAYS_SOMETHING = 4  # words that are no stop words
LEANING = ("now, ", "and ", "but ", "so ", "then ", "it ", "they ", "this ", "these ", "that ", "he ", "she ", "here ")


def quick_summary(text: str, *, most: int = 3) -> list[str]:
    """The few sentences that carry a text, in the order of the text."""
    return key_sentences(read(text).sentences[:MAX_SENTENCES], most=most)


def key_sentences(sentences: Sequence[str], *, most: int) -> list[str]:
    """The ``most`` sentences that carry a text, in the order of the text, none saying what another says."""
    sentences = sentences[:MAX_SENTENCES]
    if len(sentences) <= most:
        return list(sentences)
    vectors = tf_idf(sentences)
    scores = rank(vectors) * np.array([_standing(sentence) for sentence in sentences])
    picked: list[int] = []
    for index in np.argsort(-scores):
        if all(vectors[index] @ vectors[other] < ALIKE for other in picked):
            picked.append(int(index))
        if len(picked) == most:
            break
    return [sentences[index] for index in sorted(picked)]


def rank(vectors: Matrix) -> Matrix:
    """How central each text is among the others: they vote for those that they resemble."""
    count = len(vectors)
    alike = vectors @ vectors.T
    np.fill_diagonal(alike, 0)
    votes = alike.sum(axis=1, keepdims=True)
    chances = np.divide(alike, votes, out=np.full_like(alike, 1 / count), where=votes > 0)
    ranks = np.full(count, 1 / count)
    for _ in range(ROUNDS):
        ranks = (1 - DAMPING) / count + DAMPING * (ranks @ chances)
    return np.asarray(ranks)


def _standing(sentence: str) -> float:
    """How well a sentence stands alone: one that leans on the sentence before it does so badly."""
    standing = 1.0 if len(sentence.split()) in GOOD_LENGTH else 0.4
    if sentence.lower().startswith(LEANING):
        standing *= 0.6
    if len(terms(sentence)) < SAYS_SOMETHING:
        standing *= 0.5
    if sentence.endswith("?") or sentence.count('"') % 2:
        standing *= 0.5
    return standing
