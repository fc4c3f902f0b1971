"""What must hold of BERT for any weights: attention, sizes, initialisation, heads, dropout, number formats."""

import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict

from tlqa_jax.core.dropout import dropout
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.bert_heads import (
    BertForMaskedLM,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    PretrainingLogits,
    SpanLogits,
)
from tlqa_jax.models.functional import as_function, as_module

CONFIG = BertConfig(
    vocab_size=41, hidden_size=6, num_hidden_layers=1, num_attention_heads=3, intermediate_size=11,
    max_position_embeddings=9, type_vocab_size=3,
    hidden_dropout_prob=0.3, attention_probs_dropout_prob=0.3, id2label=("no", "yes", "perhaps"),
)
TOKENS = jnp.array([[5, 6, 7, 8, 9], [12, 13, 14, 0, 0]])  # B=2, L=5
TYPES = jnp.array([[0, 0, 1, 1, 2], [0, 1, 1, 0, 0]])
MASK = TOKENS != 0
HEADS = (BertForPreTraining, BertForMaskedLM, BertForQuestionAnswering, BertForSequenceClassification)


def random_model(kind=Bert, config: BertConfig = CONFIG, seed: int = 0, **options):
    """apply, params: weights large enough that attention is far from even."""
    apply, empty = as_function(nnx.eval_shape(lambda: kind(config, rngs=nnx.Rngs(0), **options)))
    random = np.random.default_rng(seed)
    return apply, jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape) * 0.5, jnp.float32), empty)


@pytest.fixture(scope="module")
def encode():
    """tokens, token types, mask -> all outputs."""
    apply, params = random_model()
    run = jax.jit(lambda tokens, types, mask: apply(params, tokens, token_types=types, mask=mask))
    return lambda tokens=TOKENS, types=TYPES, mask=MASK: jax.tree.map(np.asarray, run(tokens, types, mask))


@pytest.fixture(scope="module")
def bert(encode):
    """tokens, token types, mask -> last."""
    return lambda *args, **options: encode(*args, **options).last


def test_every_token_changes_every_position_before_and_after_it(bert):
    before = bert()
    for position in range(5):
        after = bert(TOKENS.at[0, position].set(33))
        assert (after != before).any(axis=-1).tolist() == [[True] * 5, [False] * 5]


def test_padding_changes_nothing(bert):
    before, after = bert(), bert(jnp.where(MASK, TOKENS, 33))
    assert (before == after)[MASK].all() and (before != after).any()


def test_a_token_type_and_a_position_change_what_is_seen(bert):
    assert (bert(types=TYPES.at[0, 4].set(1)) != bert()).any(axis=-1)[0].all()
    turned = bert(TOKENS[:, ::-1], TYPES[:, ::-1], MASK[:, ::-1])[:, ::-1]
    assert np.abs(turned - bert()).max() > 1e-2


def test_without_types_and_mask_all_are_of_the_first_type_and_seen(bert):
    apply, params = random_model()
    bare = jax.jit(apply)(params, TOKENS).last
    np.testing.assert_allclose(bare, bert(types=0 * TYPES, mask=TOKENS < 99), atol=1e-5)


def test_an_unknown_attention_is_refused_by_name():
    unchecked = Bert.__init__.__wrapped__  # the annotations, which are checked in the tests, would refuse it first
    with pytest.raises(UserError, match="attention is 'flash'; known are plain, causal"):
        unchecked(object.__new__(Bert), CONFIG, rngs=nnx.Rngs(0), attention="flash")


def test_causal_attention_sees_no_later_token():
    apply, params = random_model(attention="causal")
    run = jax.jit(lambda tokens: apply(params, tokens, mask=MASK).last)
    before = run(TOKENS)
    for position in range(5):
        changed = (run(TOKENS.at[0, position].set(33)) != before).any(axis=-1)
        assert changed[0].tolist() == [False] * position + [True] * (5 - position)
    unmasked = jax.jit(apply)(params, TOKENS).last
    np.testing.assert_allclose(unmasked[0], before[0], atol=1e-5)
    np.testing.assert_allclose(unmasked[1, :3], before[1, :3], atol=1e-5)  # padding comes later, so it was not seen


def test_hidden_states_are_the_embeddings_and_every_layer_and_pooled_is_of_the_first_token(encode):
    params, encoded = random_model()[1], encode()
    assert [x.shape for x in encoded.hidden_states] == [(2, 5, 6)] * 2
    assert (encoded.hidden_states[-1] == encoded.last).all()
    words, positions, types = (params["embeddings"][name]["table"] for name in ("word", "position", "token_type"))
    x = np.asarray(words[TOKENS] + positions[:5][None] + types[TYPES], np.float64)
    x = (x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)
    norm, pooler = params["embeddings"]["norm"], params["pooler"]
    scale, bias, matrix, shift = map(np.asarray, (norm["scale"], norm["bias"], pooler["matrix"], pooler["bias"]))
    np.testing.assert_allclose(encoded.hidden_states[0], x * scale + bias, atol=1e-5)
    np.testing.assert_allclose(encoded.pooled, np.tanh(np.asarray(encoded.last)[:, 0] @ matrix + shift), atol=1e-5)


def test_rows_longer_than_the_positions_are_refused():
    apply, params = random_model()
    with pytest.raises(UserError, match="10 tokens.*max_position_embeddings = 9"):
        jax.eval_shape(apply, params, jnp.zeros((2, 10), jnp.int32))


# heads ---------------------------------------------------------------------------------------------------------------


def shapes(kind, **call):
    apply, params = random_model(kind)
    return jax.tree.map(lambda x: x.shape, jax.eval_shape(lambda p: apply(p, TOKENS, **call), params))


def test_what_the_heads_return():
    positions = jnp.array([[1, 3, 0], [2, 2, 0]])
    assert shapes(BertForPreTraining) == PretrainingLogits(masked_lm=(2, 5, 41), next_sentence=(2, 2))
    assert shapes(BertForPreTraining, positions=positions) == PretrainingLogits((2, 3, 41), (2, 2))
    assert shapes(BertForMaskedLM) == (2, 5, 41)
    assert shapes(BertForQuestionAnswering) == SpanLogits(start=(2, 5), end=(2, 5))
    assert shapes(BertForSequenceClassification) == (2, 3)


@pytest.mark.parametrize(("kind", "attention"), [(BertForMaskedLM, "causal"), (BertForPreTraining, "plain")])
def test_logits_at_positions_are_those_of_the_whole_row(kind, attention):
    apply, params = random_model(kind, replace(CONFIG, num_hidden_layers=2), attention=attention)
    positions = jnp.array([[4, 1, 1], [2, 0, 3]])

    @jax.jit
    def both(params):
        return apply(params, TOKENS, mask=MASK), apply(params, TOKENS, mask=MASK, positions=positions)

    whole, some = both(params)
    if kind is BertForPreTraining:
        np.testing.assert_allclose(some.next_sentence, whole.next_sentence, atol=1e-5)
        whole, some = whole.masked_lm, some.masked_lm
    np.testing.assert_allclose(some, np.asarray(whole)[np.arange(2)[:, None], positions], atol=1e-5)


def test_masked_lm_logits_read_the_word_embeddings():
    apply, params = random_model(BertForMaskedLM)
    run = jax.jit(apply)
    words = params["encoder"]["embeddings"]["word"]
    words["table"] = words["table"].at[40].set(0.0)  # a word that is not in the text
    np.testing.assert_allclose(run(params, TOKENS)[..., 40], params["masked_lm"]["bias"][40], atol=1e-6)


def test_a_head_keeps_the_encoder_it_is_given():
    encoder = as_module(nnx.eval_shape(lambda: Bert(CONFIG, rngs=nnx.Rngs(0))), random_model()[1])
    head = BertForQuestionAnswering(encoder=encoder, rngs=nnx.Rngs(1))
    assert head.encoder is encoder and head.config == CONFIG
    start, last = jax.jit(lambda: (head(TOKENS).start, encoder(TOKENS).last))()
    np.testing.assert_allclose(start, last @ head.span.matrix[:, 0], atol=1e-5)


def test_a_head_takes_labels_from_its_config_but_no_other_sizes():
    encoder = nnx.eval_shape(lambda: Bert(replace(CONFIG, id2label=("a", "b")), rngs=nnx.Rngs(0)))
    assert BertForSequenceClassification(CONFIG, encoder=encoder, rngs=nnx.Rngs(0)).classifier.matrix.shape == (6, 3)
    with pytest.raises(UserError, match="other sizes than the encoder"):
        BertForSequenceClassification(replace(CONFIG, intermediate_size=12), encoder=encoder, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="needs a config, or an encoder"):
        BertForMaskedLM(rngs=nnx.Rngs(0))


def test_a_head_that_reads_the_pooler_makes_one_where_there_is_none():
    empty = nnx.eval_shape(lambda: BertForMaskedLM(CONFIG, rngs=nnx.Rngs(0)).encoder)
    encoder = as_module(empty, {name: part for name, part in random_model()[1].items() if name != "pooler"})
    assert encoder.pooler is None
    head = BertForSequenceClassification(encoder=encoder, rngs=nnx.Rngs(1))
    assert encoder.pooler is None, "the encoder that was given is as it was"
    old, new = as_function(encoder)[1], as_function(head.encoder)[1]
    assert new.keys() - old.keys() == {"pooler"}
    assert (old["layer_0"]["attention"]["query"] == new["layer_0"]["attention"]["query"]).all()
    without, logits = jax.jit(lambda: (encoder(TOKENS).pooled, head(TOKENS)))()
    assert without is None and logits.shape == (2, 3)


def test_the_classifier_drops_from_what_is_pooled():
    config = replace(CONFIG, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout=0.5)
    apply, params = random_model(BertForSequenceClassification, config)
    encode, _ = random_model(config=config)
    key = jax.random.key(1)

    @jax.jit
    def run(params):
        return apply(params, TOKENS), apply(params, TOKENS, key=key), encode(params["encoder"], TOKENS).pooled

    without, with_key, pooled = run(params)
    dropped = dropout(pooled, 0.5, jax.random.split(key, 2)[1])
    classifier = params["classifier"]
    np.testing.assert_allclose(with_key, dropped @ classifier["matrix"] + classifier["bias"][None], atol=1e-5)
    assert np.abs(with_key - without).max() > 1e-2


# initialisation and sizes --------------------------------------------------------------------------------------------

DEVIATION = 0.8796  # of a normal distribution without what is beyond two deviations
SIZES = BertConfig(
    vocab_size=300, hidden_size=48, num_hidden_layers=1, num_attention_heads=3, intermediate_size=80,
    max_position_embeddings=64, type_vocab_size=2, initializer_range=0.05,
)
ONES, ZEROS = r".*norm\.scale", r".*(bias|_bias)"


@pytest.fixture(scope="module")
def initial() -> dict[str, np.ndarray]:
    params = jax.jit(lambda: as_function(BertForPreTraining(SIZES, rngs=nnx.Rngs(0)))[1])()
    return {".".join(path): np.asarray(leaf) for path, leaf in flatten_dict(params).items()}


def test_mean_and_deviation_of_every_initial_parameter(initial):
    for path, leaf in initial.items():
        assert leaf.dtype == np.float32
        if re.fullmatch(ONES, path) or re.fullmatch(ZEROS, path):
            assert leaf.ndim == 1 and (leaf == (1.0 if path.endswith("scale") else 0.0)).all(), path
            continue
        x = leaf.ravel() / 0.05
        assert leaf.ndim > 1 and np.abs(x).max() <= 2.0, path
        assert abs(x.mean()) * np.sqrt(x.size) / DEVIATION < 4.5, path
        # the kurtosis is 2.37, and with it the deviation of a sample's deviation is .585 / sqrt(n) of it
        assert abs(x.std() / DEVIATION - 1) * np.sqrt(x.size) / 0.585 < 4.5, path
    assert sum(leaf.ndim > 1 for leaf in initial.values()) == 3 + 6 + 3


def test_epsilon_and_deviation_are_the_papers_in_every_size():
    """Another epsilon would hardly show: Flax's own is 1e-6."""
    for size in ("tiny", "mini", "small", "base", "large"):
        config = getattr(BertConfig, size)()
        assert (config.layer_norm_eps, config.initializer_range) == (1e-12, 0.02)


def test_no_two_initial_parameters_share_their_numbers(initial):
    leaves = [leaf.ravel()[:90] for leaf in initial.values() if leaf.ndim > 1]
    assert np.abs(np.corrcoef(leaves) - np.eye(len(leaves))).max() < 0.55


def count(config: BertConfig, kind=Bert) -> int:
    """Number of parameters. None is allocated, and of many equal layers only two are made."""
    if config.num_hidden_layers > 2:
        one, two = (count(replace(config, num_hidden_layers=layers), kind) for layers in (1, 2))
        return one + (config.num_hidden_layers - 1) * (two - one)
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.eval_shape(lambda: kind(config, rngs=nnx.Rngs(0)))))


def test_numbers_of_parameters_are_the_published_ones():
    assert count(BertConfig.base()) == 109_482_240
    assert count(BertConfig.large()) == 335_141_888
    assert count(BertConfig.tiny()) == 4_385_920
    assert count(BertConfig.mini()) == 11_170_560
    assert count(BertConfig.small()) == 28_763_648


def test_heads_by_hand():
    body = count(CONFIG) - 6 * 7
    assert count(CONFIG, BertForQuestionAnswering) == body + 6 * 2 + 2
    assert count(CONFIG, BertForMaskedLM) == body + 6 * 7 + 2 * 6 + 41
    assert count(CONFIG, BertForPreTraining) == body + 6 * 7 + 6 * 7 + 2 * 6 + 41 + 6 * 2 + 2
    assert count(CONFIG, BertForSequenceClassification) == body + 6 * 7 + 6 * 3 + 3


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("hidden_size", 0), ("hidden_size", 100), ("num_hidden_layers", 0), ("hidden_dropout_prob", 1.0),
        ("attention_probs_dropout_prob", -0.1), ("classifier_dropout", 2.0), ("hidden_act", "swish"),
    ],
)
def test_impossible_sizes_are_refused_by_name(field, value):
    with pytest.raises(UserError, match=f"{field} is .*{value}"):
        BertConfig(**{field: value})


def test_labels():
    assert BertConfig(id2label=["a", "b", "c"]) == BertConfig(id2label=("a", "b", "c"))  # as JSON brings them
    assert CONFIG.num_labels == 3
    with pytest.raises(UserError, match="id2label is empty"):
        BertConfig(id2label=())


# dropout and number formats ------------------------------------------------------------------------------------------


def test_dropout_is_a_function_of_its_key_and_differs_between_equal_rows(bert):
    apply, params = random_model()
    tokens = jnp.stack([TOKENS[0], TOKENS[0]])
    run = jax.jit(lambda key: apply(params, tokens, key=key).last)
    first, again, other = (run(jax.random.key(seed)) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any(axis=-1).all()
    assert (first[0] != first[1]).any(axis=-1).all()


@pytest.mark.parametrize("kind", [Bert, *HEADS])
def test_no_dropout_key_is_used_twice(kind):
    apply, params = as_function(nnx.eval_shape(lambda: kind(CONFIG, rngs=nnx.Rngs(0))))
    with jax.debug_key_reuse(True):
        jax.jit(apply).lower(params, TOKENS, key=jax.random.key(0))


def test_float16_is_refused_with_the_reason():
    with pytest.raises(UserError, match="float16.*bfloat16"):
        BertForMaskedLM(CONFIG, rngs=nnx.Rngs(0), dtype=jnp.float16)


@pytest.mark.parametrize("kind", HEADS)
def test_bfloat16_computes_and_float32_keeps(kind):
    apply, params = random_model(kind, dtype=jnp.bfloat16)
    outputs = lambda params: jax.tree.leaves(apply(params, TOKENS, token_types=TYPES, mask=MASK, key=jax.random.key(0)))
    gradients = jax.eval_shape(jax.grad(lambda params: sum(x.sum() for x in outputs(params))), params)
    assert {x.dtype for x in jax.eval_shape(outputs, params)} == {jnp.dtype("float32")}  # logits, whatever they are of
    assert {leaf.dtype for leaf in jax.tree.leaves((params, gradients))} == {jnp.dtype("float32")}


@pytest.mark.parametrize("kind", HEADS)
def test_bfloat16_logits_are_not_rounded_to_bfloat16(kind):
    apply, params = random_model(kind, dtype=jnp.bfloat16)
    for logits in jax.tree.leaves(jax.jit(apply)(params, TOKENS, token_types=TYPES, mask=MASK)):
        assert (logits != logits.astype(jnp.bfloat16).astype(jnp.float32)).any()


def test_bfloat16_is_near_float32(bert):
    apply, params = random_model(dtype=jnp.bfloat16)
    last = jax.jit(apply)(params, TOKENS, token_types=TYPES, mask=MASK).last
    assert last.dtype == jnp.bfloat16
    half = np.asarray(last, np.float32)
    assert 1e-4 < np.linalg.norm(half - bert()) / np.linalg.norm(bert()) < 0.05
