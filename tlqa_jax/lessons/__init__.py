"""What the notebooks of `lessons/` import besides the library itself: `show`, `SMOKE`, and the checks of the exercises.

It is in the package, and not beside the lessons, because a notebook that is opened alone in Colab has only what pip
installed. A lesson imports its checks as `from tlqa_jax.lessons import attention as check`.

    checks     how a check answers: `compare`, `NotYet`
    figures    `show`, `SMOKE`, and boxes with arrows
    claims     numbers of a run with their intervals, and whether they agree with the text
    street     the people, the texts and the pretraining runs of lessons 5, 6, 8 to 13 and 15
    trades     the sentences of lesson 7

    jax_basics             the checks of lesson 0
    question_answering     of lesson 1
    subwords               of lesson 2
    attention              of lesson 3
    t5                     of lesson 4
    t5_layers              of its last exercises: T5's layers, its encoder and its decoder
    pretraining_with_pmap  of lesson 5
    answering_questions    of lesson 6
    bert                   of lesson 7
    bert_encoder           of its embeddings and its whole encoder
    masked_lm              of lesson 8
    masked_lm_figures      its figures
    masked_lm_trials       its pairs of texts, and the kinds of what is hidden
    pointing_at_answers    of lesson 9
    many_tasks             of lesson 10
    public_checkpoints     of lesson 11
    decoding               of lesson 12, and the table that decodes like a model
    classes_of_texts       of lesson 13
    word_vectors           of lesson 14
    features_or_finetuning of lesson 15
    how_much_to_freeze     of lesson 16
    self_supervision       of lesson 17
"""

from tlqa_jax.lessons.checks import NotYet, compare, filled, right
from tlqa_jax.lessons.figures import SMOKE, show

__all__ = ["SMOKE", "NotYet", "compare", "filled", "right", "show"]
