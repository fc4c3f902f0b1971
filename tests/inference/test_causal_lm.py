"""Texts that a causal BERT generates: beside a plain loop over the whole text, and all texts of a tiny vocabulary."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tlqa_jax.inference.beam_search import beam_search
from tlqa_jax.inference.greedy import greedy
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.bert_heads import BertLMHeadModel
from tlqa_jax.models.functional import as_function

EOS = 3
PROMPTS = jnp.array([[2, 5, 6, 4], [2, 0, 0, 0], [2, 6, 0, 0]])
LENGTHS = (4, 1, 2)


@pytest.fixture(scope="module")
def causal(random_model):
    config = BertConfig(
        vocab_size=7, hidden_size=6, num_hidden_layers=2, num_attention_heads=3, intermediate_size=11,
        max_position_embeddings=9,
    )  # fmt: skip
    apply, params = as_function(random_model(lambda: BertLMHeadModel(config, rngs=nnx.Rngs(0)), 54))
    # random biases of the last norm would choose the same token everywhere
    as_at_first = lambda path, x: x if x.ndim > 1 else jnp.full_like(x, "scale" in str(path[-1]))
    return apply, jax.tree_util.tree_map_with_path(as_at_first, params)


def log_probabilities(causal, text: list[int]) -> np.ndarray:
    """Of each token that may follow a text, which is computed by itself, behind it only masked padding."""
    row = jnp.asarray([text + [0] * (9 - len(text))])
    return np.asarray(next_tokens(causal[0], causal[1], row, jnp.arange(9)[None] < len(text))[0, len(text) - 1])


@partial(jax.jit, static_argnums=0)
def next_tokens(apply, params, row, mask):
    return jax.nn.log_softmax(apply(params, row, mask=mask))


def test_greedy_decoding_is_that_of_each_text_alone(causal):
    apply, params = causal
    found = jax.jit(partial(greedy, apply, max_new_tokens=5, eos_id=EOS))(params, PROMPTS, PROMPTS != 0)
    lengths = []
    for row, length in enumerate(LENGTHS):
        text, logs = PROMPTS[row, :length].tolist(), []
        while len(text) < length + 5 and (not logs or text[-1] != EOS):
            after = log_probabilities(causal, text)
            text.append(int(after.argmax()))
            logs.append(after.max())
        new = text[length:]
        assert found.tokens[row].tolist() == new + [0] * (5 - len(new))
        np.testing.assert_allclose(found.log_probabilities[row, : len(logs)], logs, rtol=1e-4, atol=1e-5)
        lengths.append(len(new))
    assert lengths == [3, 1, 5]


def test_a_beam_search_over_all_texts_finds_the_best(causal):
    apply, params = causal
    search = partial(beam_search, apply, num_beams=49, max_new_tokens=2, length_penalty=0.0, eos_id=EOS)
    found = jax.jit(search)(params, PROMPTS, PROMPTS != 0)
    for row, length in enumerate(LENGTHS):
        prompt = PROMPTS[row, :length].tolist()
        first = log_probabilities(causal, prompt)
        scores = {(EOS, 0): first[EOS]}
        for token in set(range(7)) - {EOS}:
            second = log_probabilities(causal, [*prompt, token])
            scores |= {(token, last): first[token] + second[last] for last in range(7)}
        assert len(scores) == 43 and scores.keys() <= set(product(range(7), repeat=2))
        best = sorted(scores, key=scores.get, reverse=True)[:5]
        assert list(map(tuple, found.tokens[row, :5].tolist())) == best
        np.testing.assert_allclose(found.scores[row, :5], [scores[text] for text in best], rtol=1e-4)
