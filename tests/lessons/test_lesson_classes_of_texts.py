"""The checks of lesson 13 against right solutions and against wrong ones that run."""

import math
import re
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlqa_jax.lessons import NotYet, classes_of_texts as check


def counting(more=1, below=lambda count, V, texts: count + V, log=np.log, count=Counter.update):
    """Naive Bayes' log p(word | class) with one thing done differently."""

    def word_log_probabilities(texts, vocabulary):
        counts = Counter()
        for text in texts:
            count(counts, text)
        return log([(counts[w] + more) / below(counts.total(), len(vocabulary), texts) for w in vocabulary])

    return word_log_probabilities


WORDS = {
    "minus infinity": counting(more=0, below=lambda count, V, texts: count),
    "does not know it": counting(below=lambda count, V, texts: count),
    "1 below where V": counting(below=lambda count, V, texts: count + 1),
    "in how many texts": counting(count=lambda counts, text: counts.update(set(text))),
    "number of texts": counting(below=lambda count, V, texts: len(texts)),
    "these are the probabilities": counting(log=lambda p: p),
    "these are minus": counting(log=lambda p: -np.log(p)),
    "with more text would win": counting(below=lambda count, V, texts: 1),
    "of no word that is missing": counting(more=0, below=lambda count, V, texts: 1),
    "base 2": counting(log=np.log2),
    "it fails for a word": counting(more=0, log=lambda p: [math.log(x) for x in p]),
}


def test_lesson_word_log_probabilities_right(capsys):
    check.word_log_probabilities(counting())
    check.word_log_probabilities(counting(log=lambda p: [math.log(x) for x in p]))
    assert capsys.readouterr().out == "Right: word_log_probabilities\n" * 2


@pytest.mark.parametrize("misconception", WORDS)
def test_lesson_word_log_probabilities_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.word_log_probabilities(WORDS[misconception])


def losing(loss=lambda p: -jnp.log(p), p=jax.nn.softmax, axis=-1, biased=1.0, pick=lambda labels, p: labels):
    def class_loss(pooled, matrix, bias, labels):
        its = p(pooled @ matrix + biased * bias, axis=axis)
        return loss(its[jnp.arange(len(labels)), pick(labels, its)])

    return class_loss


LOSSES = {
    "bias is not added": losing(biased=0.0),
    "texts of the batch": losing(axis=0),
    "the sign": losing(loss=jnp.log),
    "probabilities themselves": losing(loss=lambda p: p),
    "1 - p is no loss": losing(loss=lambda p: 1 - p),
    "these are logits": losing(loss=lambda x: -x, p=lambda x, axis: x),
    "sigmoid of its own": losing(p=lambda x, axis: jax.nn.sigmoid(x)),
    "the most probable class": losing(pick=lambda labels, p: p.argmax(axis=-1)),
    "one number for the whole batch": lambda *case: losing()(*case).mean(),
    "right one's alone": lambda pooled, matrix, bias, _: jax.nn.log_softmax(pooled @ matrix + bias),
}


def test_lesson_class_loss_right(capsys):
    check.class_loss(losing())
    check.class_loss(losing(loss=lambda x: -x, p=jax.nn.log_softmax))
    assert capsys.readouterr().out == "Right: class_loss\n" * 2


@pytest.mark.parametrize("misconception", LOSSES)
def test_lesson_class_loss_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.class_loss(LOSSES[misconception])


@pytest.mark.parametrize("name", ["word_log_probabilities", "class_loss"])
def test_lesson_classes_blank_is_noticed(name):
    for blank in (None, ...):
        with pytest.raises(NotYet, match=re.escape(f"{name}: the blank is still empty")):
            getattr(check, name)(lambda *case: blank)
