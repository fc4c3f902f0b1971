"""Transformers opens a run as it stands, between all that training leaves there. `pip install '.[parity]'` first."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    torch = pytest.importorskip("torch", reason="pip install '.[parity]'")
    transformers = pytest.importorskip("transformers", reason="pip install '.[parity]'")

from tlqa_jax.checkpoints.load import load
from tlqa_jax.inference.generation_config import GenerationConfig
from tlqa_jax.inference.predictors import open_model
from tlqa_jax.models.functional import as_function
from tlqa_jax.training.pretrain_clm import PretrainCLMSettings, pretrain_clm
from tlqa_jax.training.pretrain_mlm import PretrainMLMSettings, pretrain_mlm
from tlqa_jax.training.pretrain_spans import PretrainSpansSettings, pretrain_spans

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

T5 = dict(d_model=12, d_kv=5, d_ff=17, num_layers=2, num_heads=3)
BERT = dict(
    hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20, max_position_embeddings=40
)
TEXT = "Mira, a clockmaker from Oss, plays the flute. Where was she born?"
SHORT = dict(held_out=None, steps=2, batch_size=8, warmup=1, log_every=1, save_every=1, learning_rate=0.1)


def trained(tmp_path, program, settings, sizes: dict, **more):
    (tmp_path / "model.json").write_text(json.dumps(sizes))
    (tmp_path / "texts.txt").write_text(f"{TEXT}\n{TEXT}\n\n" * 20)
    common = dict(texts=str(tmp_path / "texts.txt"), model=str(tmp_path / "model.json"), **SHORT, **more)
    run = program(settings(out=str(tmp_path / "run"), **common), quiet=True)
    assert {"run.json", "checkpoints", "metrics.jsonl", "model.safetensors"} <= {path.name for path in run.iterdir()}
    return run


def opened(run, kind, ours):
    """Transformers' model and tokenizer of the run, which have what ours have."""
    model, info = kind.from_pretrained(run, output_loading_info=True)
    assert not any(info.values()), info
    assert model.config.architectures == [type(model).__name__] == [ours.architecture]
    assert model.config.task_specific_params["tlqa"] == ours.usage and "input_length" in ours.usage
    tokenizer = transformers.AutoTokenizer.from_pretrained(run)
    assert len(tokenizer) == ours.tokenizer.vocab_size
    return model.eval(), tokenizer


def assert_close(ours, theirs) -> None:
    theirs = theirs.detach().numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.parametrize("variant", [dict(), dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)])
def test_a_run_of_a_t5(variant, tmp_path):
    run = trained(tmp_path, pretrain_spans, PretrainSpansSettings, T5 | variant, input_length=24)
    ours = load(run)
    model, tokenizer = opened(run, transformers.AutoModelForSeq2SeqLM, ours)
    text = TEXT.replace("clockmaker", "<extra_id_0>")
    ids = [*ours.tokenizer.encode(text), ours.tokenizer.eos_id]
    assert tokenizer(text)["input_ids"] == ids and ours.tokenizer.sentinels[0] in ids
    targets = [0, *ours.tokenizer.encode("<extra_id_0> clockmaker")]
    apply, params = as_function(ours.model())
    logits = jax.jit(apply)(params, jnp.asarray([ids], jnp.int32), jnp.asarray([targets], jnp.int32))
    assert_close(logits, model(input_ids=torch.tensor([ids]), decoder_input_ids=torch.tensor([targets])).logits)
    assert model.generate(torch.tensor([ids]), max_new_tokens=3, do_sample=False).shape[1] > 1


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("BertForPreTraining", {}), ("BertForMaskedLM", {"next_sentence": False, "attention": "causal"}),
        ("BertLMHeadModel", {}),
    ],
)  # fmt: skip
def test_a_run_of_a_bert(kind, more, tmp_path):
    program = (pretrain_clm, PretrainCLMSettings) if kind == "BertLMHeadModel" else (pretrain_mlm, PretrainMLMSettings)
    run = trained(tmp_path, *program, BERT, input_length=24, **more)
    ours = load(run)
    model, tokenizer = opened(run, getattr(transformers, kind), ours)
    ids = [ours.tokenizer.cls_id, *ours.tokenizer.encode(TEXT), ours.tokenizer.sep_id]
    assert tokenizer(TEXT)["input_ids"] == ids
    apply, params = as_function(ours.model())
    outputs = jax.jit(apply)(params, jnp.asarray([ids], jnp.int32))
    theirs = model(input_ids=torch.tensor([ids]), return_dict=True)
    if kind == "BertLMHeadModel":
        prompt, config = ids[:4], GenerationConfig(max_new_tokens=6)
        text = model.generate(torch.tensor([prompt]), max_new_tokens=6, do_sample=False, eos_token_id=ids[-1])
        [[generated]] = open_model(run).generate([tokenizer.decode(prompt[1:])], config)
        assert [tokenizer.decode([id]) for id in text[0, 4:].tolist()] == list(generated.pieces)
    if kind != "BertForPreTraining":
        return assert_close(outputs, theirs.logits)
    assert_close(outputs.masked_lm, theirs.prediction_logits)
    assert_close(outputs.next_sentence, theirs.seq_relationship_logits)
