"""Random models, made without compiling an initializer; a T5 whose texts are varied and of many lengths."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tlqa_jax.inference.greedy import greedy
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config

SIZES = dict(d_model=6, d_kv=5, d_ff=11, num_layers=1, num_decoder_layers=2, num_heads=3)


@pytest.fixture(scope="session")
def random_model():
    """`random_model(make, seed)`: the model that `make` makes, all weights of the same deviation."""

    def fill(make, seed: int = 0, deviation: float = 0.7) -> nnx.Module:
        graph, empty = nnx.split(nnx.eval_shape(make))
        random = np.random.default_rng(seed)
        draw = lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * deviation, jnp.float32)
        return nnx.merge(graph, jax.tree.map(draw, empty))

    return fill


@pytest.fixture(scope="session")
def random_t5(random_model):
    """`random_t5(seed, vocab_size)`: (apply, params)."""

    def make(seed: int, vocab_size: int):
        config = T5Config(vocab_size=vocab_size, **SIZES)
        return as_function(random_model(lambda: T5(config, rngs=nnx.Rngs(0)), seed))

    return make


@pytest.fixture(scope="session")
def random_questions():
    """`random_questions(rows, vocab_size)`: (inputs, mask) of 2 to 7 tokens."""

    def make(rows: int, vocab_size: int):
        random = np.random.default_rng(0)
        mask = np.arange(7) < random.integers(2, 8, (rows, 1))
        return jnp.asarray(random.integers(2, vocab_size, (rows, 7)) * mask), jnp.asarray(mask)

    return make


@pytest.fixture(scope="session")
def t5(random_t5):
    """A T5 whose answers to `questions` are varied: 34 different ones, of 7 different lengths."""
    return random_t5(15, 13)


@pytest.fixture(scope="session")
def questions(random_questions):
    return random_questions(40, 13)


@pytest.fixture(scope="session")
def greedy_texts(t5, questions):
    """What `greedy` generates for all questions, up to 9 tokens."""
    apply, params = t5
    return jax.jit(partial(greedy, apply, max_new_tokens=9))(params, *questions)
