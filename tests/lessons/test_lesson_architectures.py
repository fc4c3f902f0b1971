"""The checks of assembled layers and models name the mistake: T5 in lesson 4, BERT in lesson 7."""

import pytest

from tlqa_jax.lessons import NotYet

from .attempts_architectures import EXERCISES

NAMED = {
    "encoder_layer": {
        "post-norm": "that is post-norm, as in BERT",
        "no residual of attention": "no residual around attention",
        "x is overwritten by its norm": "residuals are the normed vectors",
        "keys not normed": "only the queries are normed",
        "jax.nn, which scales": r"divided by sqrt\(K\)",
        "no bias": "relative bias is not handed on",
        "causal": "causal mask in your encoder",
        "in parallel": "feed-forward reads the layer's input",
    },
    "decoder_layer": {
        "no causal mask": "causal mask is missing",
        "causal over the input too": "causal mask over the encoder's states too",
        "keys from the decoder": "keys and values of your cross-attention come from the decoder. Only",
        "encoder's states normed again": "normed once more",
        "no residual of cross-attention": "no residual around cross-attention",
        "an encoder's layer": "cross-attention is missing",
        "cross-attention first": "comes before self-attention",
        "bias in cross-attention": "shapes do not fit",
        "queries from the encoder": "shapes do not fit",
        "cross-attention scaled": "scores of cross-attention are divided",
    },
    "whole_t5": {
        "no last norm of the encoder": "encode: the last norm is missing",
        "bias in the first layer": "only the first layer has the relative bias",
        "decoder's buckets": "encoder's are bidirectional",
        "encoder's buckets": "decoder's are not bidirectional",
        "not shifted": "targets are not shifted",
        "no last norm": "decode: the last norm is missing",
        "not scaled": r"factor 1/sqrt\(D\) before the tied table is missing",
        "always scaled": "T5 1.1 is scaled as well",
    },
    "embed": {
        "no norm": "norm is missing",
        "positions by ids": "by the ids of the tokens",
        "positions anew": "begin anew in the second text",
        "RoBERTa's positions": "as RoBERTa's do",
        "norm of the words": "only the words are normed",
        "type 0": "all tokens have type 0",
    },
    "encode": {
        "first layer three times": "parameters of the first",
        "T5's last norm": "one more norm at the end",
        "no mask": "mask is not handed on",
        "last alone": "two things",
        "no tanh": "tanh of the pooler is missing",
        "mean": "mean of all tokens",
        "of the embeddings": "reads the embeddings",
    },
}


@pytest.mark.parametrize(
    ("exercise", "attempt", "said"), [(exercise, *pair) for exercise, named in NAMED.items() for pair in named.items()]
)
def test_lesson_check_names_the_mistake(exercise, attempt, said):
    check, _, wrong = EXERCISES[exercise]
    with pytest.raises(NotYet, match=said):
        check(wrong[attempt])
