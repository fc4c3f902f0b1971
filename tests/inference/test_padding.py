"""Padding is what stands behind the last token; token types are 0 where a model has no others."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tlqa_jax.checkpoints.save import save_pretrained
from tlqa_jax.examples import QAExample
from tlqa_jax.inference.answer_spans import span_logits
from tlqa_jax.inference.classifier import class_logits
from tlqa_jax.inference.generation_config import GenerationConfig
from tlqa_jax.inference.predictors import open_model
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.bert_heads import (
    BertForMaskedLM,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertLMHeadModel,
)  # fmt: skip
from tlqa_jax.models.functional import as_function
from tlqa_jax.tasks.extractive_qa import make_windows
from tlqa_jax.tasks.masked_lm_rows import MaskedLMRows
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training.pretrain_mlm import pretraining_logits

CONFIG = BertConfig(
    vocab_size=11, hidden_size=6, num_hidden_layers=2, num_attention_heads=3, intermediate_size=7,
    max_position_embeddings=12,
)  # fmt: skip
PAD = 3  # not every vocabulary begins with it
ROWS = jnp.array([[2, 7, PAD, 9, 4, PAD, PAD], [2, PAD, PAD, 8, 6, 5, 4]])  # two of text in each row, two behind one
TYPES = jnp.array([[0, 0, 0, 1, 1, 0, 0], [0, 0, 1, 1, 1, 1, 1]])


def masked_lm(apply, pad_id, params, tokens, types):
    rows = {"tokens": tokens, "token_types": types, "positions": jnp.array([[3, 1]])[: len(tokens)]}
    return pretraining_logits(apply, pad_id, params, rows).masked_lm


@pytest.mark.parametrize(
    ("kind", "outputs"),
    [
        pytest.param(BertForQuestionAnswering, lambda *inputs: span_logits(*inputs)[0], marks=pytest.mark.slow),
        pytest.param(BertForSequenceClassification, lambda *inputs: class_logits(*inputs[:-1]), marks=pytest.mark.slow),
        (BertForMaskedLM, masked_lm),
        pytest.param(BertForPreTraining, masked_lm, marks=pytest.mark.slow),
    ],
)
def test_a_padding_token_that_was_typed_is_read(kind, outputs):
    """The right values need no mask: those of the row alone, without padding behind it."""
    encoder = Bert(CONFIG, pooler=kind in (BertForSequenceClassification, BertForPreTraining), rngs=nnx.Rngs(0))
    apply, params = as_function(kind(encoder=encoder, rngs=nnx.Rngs(1)))
    unmasked = lambda params, tokens, mask, **rest: apply(params, tokens, **rest)
    for row, length in ((0, 5), (1, 7)):
        tokens, types = ROWS[row : row + 1], TYPES[row : row + 1]
        found = jax.jit(partial(outputs, apply, PAD))(params, tokens, types)
        alone = jax.jit(partial(outputs, unmasked, PAD))(params, tokens[:, :length], types[:, :length])
        found = found[:, :length] if kind is BertForQuestionAnswering else found
        np.testing.assert_allclose(found, alone, atol=1e-5)


@pytest.mark.parametrize("prompt", ["the [PAD] of", "the [PAD]"])
def test_a_padding_token_in_a_prompt_is_read(prompt, tmp_path):
    """The first new token is the most probable one behind the whole prompt, computed without a mask."""
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nhouse\nof\ntarn\nmill\nmira\n")
    tokenizer = WordPieceTokenizer(tmp_path / "vocab.txt")
    model = BertLMHeadModel(BertConfig(**{**vars(CONFIG), "initializer_range": 1.0}), rngs=nnx.Rngs(0))
    predictor = open_model(save_pretrained(model, tmp_path / "clm", tokenizer), to="generate")
    [[generated]] = predictor.generate([prompt], GenerationConfig(max_new_tokens=2))
    _, streamed, _ = next(predictor.stream(prompt, GenerationConfig(max_new_tokens=2)))
    apply, params = as_function(model)
    logits = jax.jit(apply)(params, jnp.array([[tokenizer.cls_id, *tokenizer.encode(prompt)]]))[0, -1]
    assert generated.pieces[0] == streamed == tokenizer.piece(int(logits.argmax()))


def test_one_token_type():
    """The types of a model that has only one are 0, and finite."""
    encoder = Bert(BertConfig(**{**vars(CONFIG), "type_vocab_size": 1}), rngs=nnx.Rngs(0))
    typed, untyped = encoder(ROWS, token_types=TYPES).last, encoder(ROWS).last
    assert (typed == untyped).all() and jnp.isfinite(typed).all()


@pytest.mark.parametrize("token_types", [True, False])
def test_a_vocabulary_without_token_types(token_types, tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\nhouse\nof\ntarn\n")
    tokenizer = WordPieceTokenizer(tmp_path / "vocab.txt", token_types=token_types)
    example = QAExample("1", "the house", (), "house of tarn")
    windows = make_windows(tokenizer, [example], input_length=12, stride=1, max_question_length=4)
    assert windows.batch(np.array([0]))["token_types"].tolist() == [[0] * 4 + [int(token_types)] * 4 + [0] * 4]
    (tmp_path / "texts.txt").write_text("the house of tarn. the house of tarn. the house.\n\n" * 3)
    rows = MaskedLMRows(str(tmp_path / "texts.txt"), tokenizer, input_length=9, seed=0, batch_size=2)
    assert rows.build(np.array([0, 1]), slice(0, 2), 0)["token_types"].any() == token_types
