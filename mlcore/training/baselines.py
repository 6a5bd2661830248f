"""Plain baselines that a network has to beat to be worth its weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def tfidf_logistic(
    texts: Sequence[str], targets: Sequence[int], dev_texts: Sequence[str], *, balanced: bool
) -> NDArray[np.int64]:
    """Guesses for `dev_texts` of TF-IDF over words and word pairs + logistic regression."""
    pipeline = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True, token_pattern=r"(?u)\b\w+\b|[^\w\s]"),
        LogisticRegression(C=10.0, max_iter=300, class_weight="balanced" if balanced else None),
    )
    pipeline.fit(texts, targets)
    return np.asarray(pipeline.predict(dev_texts))
