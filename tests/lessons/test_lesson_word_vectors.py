"""The checks of lessons 14 and 15 name the misconceptions: attempts of `attempts_vectors`, and a part of what is said."""

import re

import numpy as np
import pytest

from tlqa_jax.lessons import NotYet, features_or_finetuning, word_vectors

from .attempts_vectors import EXERCISES

SAID = {
    ("mean_of_neighbours", "with the word"): "the word itself is among its neighbours",
    ("mean_of_neighbours", "divided by the window"): "Divide by their number",
    ("mean_of_neighbours", "negative slice"): "a negative index counts from the end",
    ("mean_of_neighbours", "by number"): "every neighbour that is the same word",
    ("mean_of_neighbours", "left"): "only the words on the left",
    ("mean_of_neighbours", "right"): "only the words on the right",
    ("mean_of_neighbours", "index"): "there are fewer than `window` words on the right",
    ("word_loss", "log of one minus"): "right, until a score is large",
    ("word_loss", "softmax"): "a softmax over the candidates",
    ("word_loss", "all positive"): "the negatives keep their sign|scores of the negatives keep",
    ("word_loss", "mean of negatives"): "the mean over the negatives",
    ("loss_gradients", "downhill"): "the way downhill",
    ("loss_gradients", "no target"): "nothing in it says which word is there",
    ("loss_gradients", "changed"): "the two gradients have changed places",
    ("loss_gradients", "squared error"): "the derivative of the squared error",
    ("nearest_words", "with all"): "its own nearest neighbour",
    ("nearest_words", "with minus"): "the words of `minus` are left out as well",
    ("nearest_words", "dot product"): "these are dot products",
    ("nearest_words", "added before"): "before they are divided by their lengths",
    ("features", "padding"): "the padding is in the mean",
    ("features", "zeros counted"): "still counted",
    ("features", "layers added"): "the layers are added",
    ("features", "too low"): "one layer too low",
    ("cache_name", "hash"): "another number in each process",
    ("cache_name", "joined"): "joined without a mark between them",
    ("cache_name", "joined by a space"): "can occur in a text",
    ("cache_name", "layers sorted"): "the layers in another order",
    ("cache_name", "set"): "the texts in another order",
    ("cache_name", "random"): "never found again",
    ("passes", "each epoch"): "the features of a text are kept",
    ("passes", "forward only"): "fine-tuning goes backward, too",
    ("passes", "one task"): "each task trains an encoder of its own",
}


@pytest.mark.parametrize(("exercise", "attempt"), SAID)
def test_lesson_vectors_names_the_misconception(exercise, attempt):
    check, _, wrong = EXERCISES[exercise]
    with pytest.raises(NotYet, match=SAID[exercise, attempt]), np.errstate(all="ignore"):
        check(wrong[attempt])


@pytest.mark.parametrize("exercise", EXERCISES)
def test_lesson_vectors_blank_is_noticed(exercise):
    module = word_vectors if hasattr(word_vectors, exercise) else features_or_finetuning
    with pytest.raises(NotYet, match=re.escape(f"{exercise}: the blank is still empty")):
        getattr(module, exercise)(lambda *case: None)
