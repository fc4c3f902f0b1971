"""The checks of lesson 13: counting words as naive Bayes does, and the loss of a classifier."""

from collections import Counter
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax

from tlqa_jax.lessons.checks import NotYet, compare


def word_log_probabilities(word_log_probabilities: Callable[..., Float[np.ndarray, "V"]]) -> None:
    """`word_log_probabilities(texts, vocabulary [V])` -> log p(word | class) [V], from the texts of one class."""
    texts = [text.split() for text in ("the soup was cold", "the bed was hard the room was cold", "cold soup")]
    vocabulary = "a bed cold hard room soup the was warm".split()
    counts = Counter(word for text in texts for word in text)
    n = np.array([counts[word] for word in vocabulary])
    in_texts = np.array([sum(word in text for text in texts) for word in vocabulary])
    V, total = len(vocabulary), n.sum()
    right = np.log((n + 1) / (total + V))
    with np.errstate(divide="ignore"):  # whoever forgets the 1 gets an infinity and a word about it, no warning
        unsmoothed, of_counts = np.log(n / total), np.log(n)
        try:
            got = word_log_probabilities([list(text) for text in texts], list(vocabulary))
        except (ValueError, KeyError) as error:
            if isinstance(error, ValueError) and "math domain" not in str(error):
                raise
            raise NotYet(
                "word_log_probabilities: it fails for a word that does not occur in these texts. Each word of the "
                "vocabulary gets 1 before it is counted, so that none has the probability 0."
            ) from None
    if isinstance(got, dict):
        raise NotYet("word_log_probabilities: an array is wanted: a number for each word of `vocabulary`, in order.")
    compare(
        "word_log_probabilities",
        got if got is None or got is ... else np.asarray(got, np.float64),
        right,
        {
            "minus infinity: a word that this class has not met makes the whole text impossible, whatever else it "
            "says. Add 1 to each count.": unsmoothed,
            "each word got its 1, and the number you divide by does not know it: these do not add up to 1. Add V, the "
            "size of the vocabulary, below.": np.log((n + 1) / total),
            "you add 1 below where V is to be added: each of the V words got one.": np.log((n + 1) / (total + 1)),
            "you count in how many texts a word occurs. A word that stands twice in a text counts twice.":
                np.log((in_texts + 1) / (in_texts.sum() + V)),
            "you divide by the number of texts. What a word competes with is the other words: divide by the number of "
            "all words, smoothed.": np.log((n + 1) / len(texts)),
            "these are the probabilities; wanted are their logarithms, which a text may add up.": np.exp(right),
            "these are minus the logarithms. A more probable word has a larger log p.": -right,
            "these are logarithms of counts, not yet of shares: a class with more text would win.": np.log(n + 1),
            "these are logarithms of counts, and of no word that is missing: add 1, and divide.": of_counts,
            "you took the logarithm to base 2. The prior is in nats: np.log.": right / np.log(2),
            "you took the logarithm to base 10. The prior is in nats: np.log.": right / np.log(10),
            "you divide by V alone. Below stands the number of all words of the class, and V.": np.log((n + 1) / V),
            "you add a half to each count. Here it is 1.": np.log((n + 0.5) / (total + 0.5 * V)),
            "you divide by the number of texts. What a word competes with is the other words.": np.log(
                (n + 1) / (len(texts) + 2)),
        },
    )  # fmt: skip


def class_loss(class_loss: Callable[..., Float[np.ndarray, "B"]]) -> None:
    """`class_loss(pooled [B D], matrix [D C], bias [C], labels [B])` -> a loss for each text [B], in nats."""
    rng, rows = np.random.default_rng(0), np.arange(4)
    pooled = np.tanh(rng.standard_normal((4, 5))).astype(np.float32)
    matrix, bias = rng.standard_normal((5, 3)).astype(np.float32), np.array([1.0, -2.0, 0.5], np.float32)
    labels = np.array([2, 0, 1, 2])
    logits = pooled.astype(np.float64) @ matrix + bias
    log_p = log_softmax(logits, axis=-1)
    each = -log_p[rows, labels]
    got = class_loss(pooled, matrix, bias, labels)
    compare(
        "class_loss",
        got if got is None or got is ... else np.asarray(got),
        each,
        {
            "the bias is not added.": -log_softmax(logits - bias, axis=-1)[rows, labels],
            "the softmax must go over the classes (the last axis): which class has *this* text? Yours goes over the "
            "texts of the batch.": -log_softmax(logits, axis=0)[rows, labels],
            "the sign: log p is negative, a loss is -log p.": -each,
            "these are the probabilities themselves. The loss is -log of them: a class that was given 0.001 must cost "
            "far more than one that was given 0.1.": np.exp(-each),
            "1 - p is no loss of this kind: it is never larger than 1, however sure the model was of the wrong "
            "class. -log p.": 1 - np.exp(-each),
            "these are logits, not logarithms of probabilities: they need log_softmax first.": -logits[rows, labels],
            "each class has a sigmoid of its own here, and only the right one's counts: nothing keeps the others from "
            "growing. The classes compete: softmax.": np.log1p(np.exp(-logits[rows, labels])),
            "the loss is of the most probable class. Wanted is that of the right one, which stands in labels.":
                -log_p.max(axis=-1),
            "the bias is subtracted. It is added.": -log_softmax(logits - 2 * bias, axis=-1)[rows, labels],
            "`pooled` has gone through its tanh already. The head is a matrix and a bias.":
                -log_softmax(np.tanh(pooled.astype(np.float64)) @ matrix + bias, axis=-1)[rows, labels],
            "that is the sum over the batch. One loss for each text is wanted.": each.sum(),
            "that is the mean over the classes. The loss looks at the right class alone.": -log_p.mean(axis=-1),
            "that only says whether the model is wrong. It has no gradient, and does not tell how sure the model was.":
                (log_p.argmax(axis=-1) != labels).astype(float),
            "you picked columns for every row. One entry of each row is wanted: x[jnp.arange(len(labels)), labels].":
                -log_p[:, labels],
            "you took the logarithm to base 2. The package's loss is in nats.": each / np.log(2),
            "these are the losses of all classes. The loss looks at the right one's alone.": -log_p,
            "one number for the whole batch. Here one for each text is wanted (the mean is taken later, over all "
            "devices).": each.mean(),
            "that is the probability's logarithm of each class. The loss looks at the right one's alone.": log_p,
        },
        tolerance=1e-4,
    )  # fmt: skip
