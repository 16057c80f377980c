"""Texts as vectors: the little linear algebra that the outline and the summary share."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from yake import KeywordExtractor

WORD = re.compile(r"[^\W\d_]{2,}(?:['’-][^\W\d_]+)*")
STOPWORDS = frozenset(KeywordExtractor(lan="en").stopword_set)

Matrix = NDArray[np.float64]


def terms(text: str) -> list[str]:
    """The words that say what a text is about, in lower case and without a plural's s."""
    return [_singular(word) for word in WORD.findall(text.lower()) if word not in STOPWORDS]


def tf_idf(texts: Sequence[str]) -> Matrix:
    """One row per text: how much each word says about it, as a vector of length 1 (or 0, without words)."""
    documents = [terms(text) for text in texts]
    columns = {term: index for index, term in enumerate(dict.fromkeys(t for doc in documents for t in doc))}
    counts = np.zeros((len(documents), len(columns)))
    for row, document in enumerate(documents):
        for term in document:
            counts[row, columns[term]] += 1
    idf = np.log((1 + len(documents)) / (1 + (counts > 0).sum(axis=0))) + 1
    weights = np.log1p(counts) * idf
    lengths = np.linalg.norm(weights, axis=1, keepdims=True)
    return np.asarray(np.divide(weights, lengths, out=np.zeros_like(weights), where=lengths > 0))


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")) else word
