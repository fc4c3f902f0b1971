"""CBOW's scores, and the loss and its gradient by negative sampling, against plain numpy; a bag of vectors by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tlqa_jax.errors import UserError
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.word_vectors import CBOW, BagOfVectors, WordVectorsConfig
from tlqa_jax.training.pretrain_vectors import negative_sampling_loss

CONFIG = WordVectorsConfig(vocab_size=11, hidden_size=3, id2label=("a", "b", "c", "d", "e"))
B, C, K = 7, 4, 5


@pytest.fixture(scope="module")
def tables():
    random = np.random.default_rng(0)
    return {name: {"table": random.normal(size=(11, 3)).astype(np.float32)} for name in ("vectors", "outputs")}


@pytest.fixture(scope="module")
def rows():
    random = np.random.default_rng(1)
    mask, weights = random.random((B, C)) < 0.6, (random.random((B, K)) < 0.7).astype(np.float32)
    mask[2], weights[2] = False, 0.0  # a word without neighbours
    return {
        "context": random.integers(0, 11, (B, C)).astype(np.int32), "mask": mask, "weights": weights,
        "candidates": random.integers(0, 11, (B, K)).astype(np.int32),
    }  # fmt: skip


def loss_and_gradients(tables, rows) -> tuple[float, dict[str, np.ndarray]]:
    """The sum over words, in float64: one word, one neighbour, one candidate at a time, with the formulas of the paper.

    loss = -sum over candidates of w log sigmoid(± u . m), with m the mean of the neighbours' vectors v, + for the word;
    d loss / d u = w (sigmoid(u . m) - is the word) m, and d loss / d v = the same factor times u / number of neighbours.
    """
    vectors, outputs = (tables[name]["table"].astype(np.float64) for name in ("vectors", "outputs"))
    gradients, total = {"vectors": np.zeros_like(vectors), "outputs": np.zeros_like(outputs)}, 0.0
    for context, mask, candidates, weights in zip(*(rows[name] for name in ("context", "mask", "candidates", "weights"))):
        neighbours = [word for word, counts in zip(context, mask) if counts]
        mean = sum((vectors[word] for word in neighbours), np.zeros(3)) / max(len(neighbours), 1)
        for place, (word, weight) in enumerate(zip(candidates, weights)):
            probability = 1 / (1 + np.exp(-outputs[word] @ mean))
            total -= weight * np.log(probability if place == 0 else 1 - probability)
            factor = weight * (probability - (place == 0))
            gradients["outputs"][word] += factor * mean
            for neighbour in neighbours:
                gradients["vectors"][neighbour] += factor * outputs[word] / len(neighbours)
    return total, gradients


def test_loss_and_gradient_are_those_of_plain_numpy(tables, rows):
    apply, params = as_function(CBOW(CONFIG, rngs=nnx.Rngs(0)))
    assert jax.tree.structure(params) == jax.tree.structure(tables)
    loss = lambda params: negative_sampling_loss(apply, params, jax.tree.map(jnp.asarray, rows))
    found, gradients = jax.jit(jax.value_and_grad(loss))(jax.tree.map(jnp.asarray, tables))
    total, expected = loss_and_gradients(tables, rows)
    assert found == pytest.approx(total, rel=1e-6)
    for name, gradient in expected.items():
        assert np.abs(gradient).max() > 0.1
        np.testing.assert_allclose(gradients[name]["table"], gradient, atol=1e-6)


def test_the_first_vectors_are_small_and_score_nothing():
    model = CBOW(WordVectorsConfig(vocab_size=50, hidden_size=20), rngs=nnx.Rngs(0))
    assert 0.01 < np.abs(model.vectors.table[...]).max() < 0.1 and not np.asarray(model.outputs.table[...]).any()
    context = jnp.arange(6, dtype=jnp.int32).reshape(2, 3)
    assert not model(context, context, mask=context > 0).any()


def test_float16_is_refused():
    with pytest.raises(UserError, match="bfloat16 or float32"):
        CBOW(CONFIG, rngs=nnx.Rngs(0), dtype=jnp.float16)


def test_a_bag_of_vectors_is_the_mean_and_a_matrix():
    model = BagOfVectors(CONFIG, rngs=nnx.Rngs(0))
    tokens = jnp.array([[2, 5, 7, 0], [4, 3, 0, 0]])
    table, classifier = np.asarray(model.vectors.table[...]), model.classifier
    means = np.stack([(table[2] + table[5] + table[7]) / 3, (table[4] + table[3]) / 2])
    expected = means @ np.asarray(classifier.matrix[...]) + np.asarray(classifier.bias[...])
    np.testing.assert_allclose(model(tokens, mask=tokens != 0), expected, atol=1e-6)
    swapped = model(tokens[:, jnp.array([2, 0, 1, 3])], mask=jnp.array([[1, 1, 1, 0], [0, 1, 1, 0]], bool))
    np.testing.assert_allclose(swapped, expected, atol=1e-6)  # it knows no order
