"""Masks filled: against the logits by hand, in any batch; and the command."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tlqa_jax import cli
from tlqa_jax.checkpoints.save import save_pretrained
from tlqa_jax.errors import UserError
from tlqa_jax.inference.fill_mask import fill_mask
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.bert_heads import BertForMaskedLM, BertForPreTraining, BertForQuestionAnswering
from tlqa_jax.models.functional import as_function
from tlqa_jax.text.wordpiece import SPECIALS, WordPieceTokenizer

# two more rows than there are pieces, and larger than all others, so that they would win
CONFIG = BertConfig(
    vocab_size=13, hidden_size=6, num_hidden_layers=1, num_attention_heads=3, intermediate_size=11,
    max_position_embeddings=40,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("fill") / "vocab.txt"
    path.write_text("\n".join([*SPECIALS, "the", "cat", "##s", "sat", ".", "a"]) + "\n")
    return WordPieceTokenizer(path)


@pytest.fixture(scope="module")
def model(random_model):
    model = random_model(lambda: BertForPreTraining(CONFIG, rngs=nnx.Rngs(0)))
    model.masked_lm.bias[...] = jnp.zeros(13).at[11:].set(50.0)
    return model


def test_guesses_are_the_softmax_over_the_vocabulary(model, tokenizer):
    text = "[MASK] cat [MASK] ."
    filled = fill_mask(model, tokenizer, text, n=3)
    apply, params = as_function(model)
    logits = jax.jit(apply)(params, jnp.array([[2, 4, 6, 4, 9, 3]])).masked_lm[0, :, :11]
    for guesses, place in zip(filled, (1, 3), strict=True):
        probabilities = np.asarray(jax.nn.softmax(logits[place]))
        best = probabilities.argsort()[::-1][:3].tolist()
        assert [guess.piece for guess in guesses] == [tokenizer.piece(id) for id in best]
        np.testing.assert_allclose([guess.probability for guess in guesses], probabilities[best], rtol=1e-5)
    everything = fill_mask(model, tokenizer, "[MASK]", n=11)[0]
    assert sum(guess.probability for guess in everything) == pytest.approx(1, abs=1e-6)


def test_a_text_is_filled_alike_in_any_batch(model, tokenizer):
    texts = ["the [MASK]", "[MASK] [MASK] [MASK] .", "a cat [MASK] the " + "cats " * 15, "[MASK]"]
    together = fill_mask(model, tokenizer, texts, n=3, batch_size=3)
    assert [len(masks) for masks in together] == [1, 3, 1, 1]
    for text, masks in zip(texts, together):
        for guesses, alone in zip(masks, fill_mask(model, tokenizer, text, n=3), strict=True):
            assert [guess.piece for guess in guesses] == [guess.piece for guess in alone]
            assert [guess.probability for guess in guesses] == pytest.approx([guess.probability for guess in alone])
    assert fill_mask(model, tokenizer, []) == []


def test_another_number_of_masks_compiles_nothing_new(model, tokenizer):
    compiled = []
    fill_mask(model, tokenizer, "[MASK] " * 5)
    listen = lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        filled = [fill_mask(model, tokenizer, "[MASK] " * masks) for masks in (6, 7, 8)]
        assert [len(masks) for masks in filled] == [6, 7, 8] and compiled == []
        fill_mask(model, tokenizer, "[MASK] " * 9)
        assert compiled
    finally:
        jax.monitoring.clear_event_listeners()


def test_what_cannot_be_filled(random_model, model, tokenizer):
    for wrong, message in (
        (dict(texts="the mask"), '"the mask" has no .MASK. to fill'),
        (dict(texts=["[MASK]", "the"]), '"the" has no .MASK. to fill'),
        (dict(texts="[MASK]" + " cat" * 40), r'"\[MASK\] cat .*\.\.\." has 43 tokens, this model reads at most 40'),
        (dict(model=random_model(lambda: Bert(CONFIG, rngs=nnx.Rngs(0)))), "a Bert has no masked-LM head"),
        (dict(n=0), "n is 0: it has to be from 1 to 11"),
        (dict(n=12), "n is 12"),
    ):
        with pytest.raises(UserError, match=message):
            fill_mask(**{"model": model, "tokenizer": tokenizer, "texts": "[MASK]", **wrong})


def test_the_command(random_model, tokenizer, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "quiet_libraries", lambda: None)
    for name, kind in (("bert", BertForMaskedLM), ("qa", BertForQuestionAnswering)):
        save_pretrained(random_model(lambda: kind(CONFIG, rngs=nnx.Rngs(0))), tmp_path / name, tokenizer)

    def tlqa(*line):
        with pytest.raises(SystemExit) as end:
            cli.main(["fill-mask", *line])
        return end.value.code, *capsys.readouterr()

    status, out, err = tlqa(str(tmp_path / "bert"), "The [MASK].", "[MASK] [MASK]", "-n", "2")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[::2][:2] == ["The [MASK].", "[MASK] [MASK]"] and lines[1].startswith("  [MASK]  ")
    assert [line[:11] for line in lines[3:]] == ["  [MASK] 1 ", "  [MASK] 2 "]
    assert all(len(line.replace("[MASK]", "").split()) in (4, 5) for line in (lines[1], *lines[3:]))
    assert tlqa(str(tmp_path / "bert"), "The cat.")[::2] == (2, 'tlqa: "The cat." has no [MASK] to fill\n')
    status, _, err = tlqa(str(tmp_path / "qa"), "[MASK]")
    assert status == 2 and err.count("\n") == 1
    assert err.startswith("tlqa: a BertForQuestionAnswering has no masked-LM head")
