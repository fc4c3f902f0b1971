"""T5s from Hugging Face's directories and back.

That the numbers mean the same in Transformers of two versions is tested in tests/parity, where it is installed; here
the judge is what it once computed, in tests/golden.
"""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlqa_jax.checkpoints.bert_runs import is_bert, load_bert_model
from tlqa_jax.checkpoints.exchange import export_run, import_run
from tlqa_jax.checkpoints.huggingface import from_pretrained, is_t5, save_pretrained
from tlqa_jax.checkpoints.runs import Checkpoints, load_t5, save_vocabulary, start_run
from tlqa_jax.checkpoints.safetensors_file import read_safetensors, write_safetensors
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.inference import predictors as asking
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config, T5Encoder
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.training import finetune_qa as qa, finetune_tasks as text_to_text
from tlqa_jax.training.pretrain_spans import PretrainSpansSettings, pretrain_spans

from .test_huggingface import assert_same, random_model, set_config

V10 = T5Config(vocab_size=13, d_model=6, d_kv=5, d_ff=11, num_layers=1, num_decoder_layers=2, num_heads=3)
V11 = replace(V10, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
GOLDEN = Path(__file__).parents[1] / "golden"
INPUTS, TARGETS = jnp.array([[5, 6, 3, 0], [2, 7, 3, 1]]), jnp.array([[0, 4, 9], [0, 12, 1]])


@pytest.fixture
def saved(tmp_path):
    """The directory of a T5 1.1, and a function that changes its arrays."""
    folder = save_pretrained(random_model(T5, V11), tmp_path / "model")

    def change(function):
        arrays = {name: np.array(array) for name, array in read_safetensors(folder / "model.safetensors").items()}
        write_safetensors(folder / "model.safetensors", function(arrays))

    return folder, change


# there and back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, config", [(T5, V10), (T5, V11), (T5Encoder, V10), (T5Encoder, V11)])
def test_what_is_saved_is_loaded(kind, config, tmp_path):
    model = random_model(kind, config)
    folder = save_pretrained(model, tmp_path / "m")
    again = from_pretrained(folder)
    assert type(again) is kind and again.config == config
    assert_same(again, model)
    assert ("lm_head.weight" in read_safetensors(folder / "model.safetensors")) == (kind is T5 and config is V11)


@pytest.mark.parametrize("name", ["t5_1_0", "t5_1_1"])
def test_what_transformers_computed(name, tmp_path):
    with np.load(GOLDEN / f"{name}.npz") as file:
        golden = {key: file[key] for key in file.files}
    weights = {key.removeprefix("weight/"): a for key, a in golden.items() if key.startswith("weight/")}
    write_safetensors(tmp_path / "model.safetensors", weights)
    config = json.loads(golden["config"].item()) | {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    inputs, targets = (jnp.asarray(golden[key], jnp.int32) for key in ("inputs", "targets_in"))
    masks = [jnp.asarray(golden[key] == 1) for key in ("input_mask", "target_mask")]
    apply, params = as_function(from_pretrained(tmp_path))
    result = jax.jit(apply)(params, inputs, targets, input_mask=masks[0], target_mask=masks[1])
    np.testing.assert_allclose(result, golden["logits"], atol=1e-5 * np.abs(golden["logits"]).max())
    encoder = from_pretrained(tmp_path, architecture="T5EncoderModel")
    assert type(encoder) is T5Encoder
    apply, params = as_function(encoder)
    np.testing.assert_allclose(jax.jit(apply)(params, inputs, input_mask=masks[0]), golden["encoded"], atol=2e-5)


def test_their_names_and_the_orientation_of_their_matrices(tmp_path):
    model = random_model(T5, V11)
    arrays = read_safetensors(save_pretrained(model, tmp_path / "m") / "model.safetensors")
    layer = model.decoder_1
    query = np.stack([layer.cross_attention.query[...][:, h].T for h in range(3)])  # [H, K, D]
    assert (arrays["decoder.block.1.layer.1.EncDecAttention.q.weight"].reshape(3, 5, 6) == query).all()
    out = np.moveaxis(np.asarray(layer.self_attention.out[...]), -1, 0)
    assert (arrays["decoder.block.1.layer.0.SelfAttention.o.weight"].reshape(6, 3, 5) == out).all()
    for theirs, ours in (("wi_0", "gate"), ("wi_1", "up"), ("wo", "down")):
        array = arrays[f"decoder.block.1.layer.2.DenseReluDense.{theirs}.weight"]
        assert (array == getattr(layer.feed_forward, ours)[...].T).all()
    bias = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    assert (arrays[f"decoder.{bias}"] == model.decoder_bias.table[...]).all()
    assert sum(name.endswith("relative_attention_bias.weight") for name in arrays) == 2
    assert (arrays["lm_head.weight"] == model.output[...].T).all()


# which are tied, which are scaled ------------------------------------------------------------------------------------


@pytest.mark.parametrize("output", ["none", "copy", "own"])
@pytest.mark.parametrize(
    ("tie", "scale", "scaled"),
    [
        (..., ..., True), (True, ..., True), (False, ..., False),  # as Transformers 4 writes them
        (True, True, True), (True, False, False), (False, True, True), (False, False, False),  # as 5 does
        (False, None, False),
    ],
)  # fmt: skip
def test_tied_by_the_file_and_scaled_by_the_config(saved, tie, scale, scaled, output):
    folder, change = saved
    set_config(folder, tie_word_embeddings=tie, scale_decoder_outputs=scale)
    if output != "own":
        change(lambda arrays: {name: array for name, array in arrays.items() if name != "lm_head.weight"})
    if output == "copy":
        change(lambda arrays: arrays | {"lm_head.weight": arrays["shared.weight"]})
    model = from_pretrained(folder)
    tied = output != "own"
    assert (model.output is None) == model.config.tie_word_embeddings == tied
    assert model.config.scales_outputs == scaled

    original = random_model(T5, V11)
    matrix = original.embedding.table[...].T if tied else original.output[...]
    hidden = original.decoder_norm(random_state(model))
    expected = np.asarray(hidden @ matrix) * (6**-0.5 if scaled else 1)
    np.testing.assert_allclose(model.logits(hidden), expected, rtol=1e-5, atol=1e-5)


def random_state(model):
    return jax.random.normal(jax.random.key(0), (2, 3, model.config.d_model))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("scaled", [True, False, None])
def test_what_is_saved_says_it_so_that_both_transformers_understand(tmp_path, tied, scaled):
    """Transformers 4 ties and scales where tie_word_embeddings is true, or else does neither; 5 heeds the other too."""
    config = replace(V10, tie_word_embeddings=tied, scale_decoder_outputs=scaled)
    model = random_model(T5, config)
    folder = save_pretrained(model, tmp_path / "m")
    values, arrays = json.loads((folder / "config.json").read_text()), read_safetensors(folder / "model.safetensors")
    assert values["tie_word_embeddings"] == values["scale_decoder_outputs"] == ("lm_head.weight" not in arrays)
    hidden = random_state(model)
    factor = 6**-0.5 if values["tie_word_embeddings"] else 1
    theirs = np.asarray(hidden * factor) @ arrays.get("lm_head.weight", arrays["shared.weight"]).T
    np.testing.assert_allclose(model.logits(hidden), theirs, rtol=1e-5, atol=1e-5)
    again = from_pretrained(folder)
    assert again.config.tie_word_embeddings == tied
    np.testing.assert_allclose(again.logits(hidden), model.logits(hidden), rtol=1e-5, atol=1e-5)


# older and other directories -----------------------------------------------------------------------------------------


def test_copies_of_the_embedding_and_a_table_that_no_layer_reads(saved):
    folder, change = saved
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    change(lambda arrays: arrays | {copy: arrays["shared.weight"] for copy in copies} | {unused: np.ones((32, 3))})
    assert_same(from_pretrained(folder), random_model(T5, V11))
    change(lambda arrays: arrays | {copies[1]: arrays["shared.weight"] + 1})
    with pytest.raises(UserError, match="decoder.embed_tokens.weight differs from shared.weight"):
        from_pretrained(folder)


def test_an_embedding_under_its_other_name(tmp_path):
    folder = save_pretrained(random_model(T5Encoder, V10), tmp_path / "m")
    arrays = dict(read_safetensors(folder / "model.safetensors"))
    arrays["encoder.embed_tokens.weight"] = arrays.pop("shared.weight")
    write_safetensors(folder / "model.safetensors", arrays)
    assert_same(from_pretrained(folder), random_model(T5Encoder, V10))
    whole = save_pretrained(random_model(T5, V10), tmp_path / "whole")
    arrays = dict(read_safetensors(whole / "model.safetensors"))
    arrays["decoder.embed_tokens.weight"] = arrays.pop("shared.weight")
    write_safetensors(whole / "model.safetensors", arrays)
    assert_same(from_pretrained(whole), random_model(T5, V10))
    encoder = from_pretrained(whole, architecture="T5EncoderModel")
    assert (encoder.embedding.table[...] == arrays["decoder.embed_tokens.weight"]).all()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"feed_forward_proj": "gated-gelu_new"}, "gated-gelu"),
        ({"feed_forward_proj": "gated-gelu", "is_gated_act": ..., "dense_act_fn": ...}, "gated-gelu"),
        ({"feed_forward_proj": "gelu", "is_gated_act": True, "dense_act_fn": "gelu_new"}, "gated-gelu"),
    ],
)
def test_other_names_of_the_feed_forward(saved, changes, kind):
    set_config(saved[0], **changes)
    assert from_pretrained(saved[0]).config.feed_forward_proj == kind


def test_the_first_configurations_named_no_feed_forward(tmp_path):
    folder = save_pretrained(random_model(T5, V10), tmp_path / "m")
    defaults = dict.fromkeys(("feed_forward_proj", "is_gated_act", "dense_act_fn", "scale_decoder_outputs"), ...)
    set_config(folder, **defaults, n_positions=512, task_specific_params={"summarization": {"num_beams": 4}})
    assert from_pretrained(folder).config == V10


def test_dtype_is_that_of_the_computation(saved):
    model = from_pretrained(saved[0], dtype=jnp.bfloat16)
    encoded, logits = jax.eval_shape(lambda: (model.encode(INPUTS), model(INPUTS, TARGETS)))
    assert (encoded.dtype, logits.dtype) == (jnp.bfloat16, jnp.float32)
    with pytest.raises(UserError, match="float16"):
        from_pretrained(saved[0], dtype=jnp.float16)


# what does not fit ---------------------------------------------------------------------------------------------------


def test_missing_unused_and_misshapen_keys_are_listed_together(saved):
    folder, change = saved

    def spoil(arrays):
        del arrays["decoder.block.1.layer.2.DenseReluDense.wi_0.weight"]
        arrays["lm_head.weight"] = np.ones((13, 5))
        return arrays | {"decoder.block.2.layer.0.layer_norm.weight": np.ones(6)}

    change(spoil)
    with pytest.raises(UserError) as error:
        from_pretrained(folder)
    message = str(error.value)
    assert "\n" not in message and "T5ForConditionalGeneration" in message
    assert "missing decoder.block.1.layer.2.DenseReluDense.wi_0.weight float32[11, 6]" in message
    assert "left over decoder.block.2.layer.0.layer_norm.weight float32[6]" in message
    assert "lm_head.weight is float32[13, 5], the model wants float32[13, 6]" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feed_forward_proj": "gated-silu", "is_gated_act": ..., "dense_act_fn": ...}, '"gated-silu" .*known are'),
        ({"feed_forward_proj": "gelu", "is_gated_act": ..., "dense_act_fn": ...}, 'feed_forward_proj is "gelu"'),
        ({"feed_forward_proj": "a-relu", "is_gated_act": ..., "dense_act_fn": ...}, 'feed_forward_proj is "a-relu"'),
        ({"feed_forward_proj": 3, "is_gated_act": ..., "dense_act_fn": ...}, 'feed_forward_proj is "3"'),
        ({"dense_act_fn": "gelu"}, "'dense_act_fn': 'gelu'.*the tanh one"),
        ({"feed_forward_proj": "relu", "is_gated_act": ..., "dense_act_fn": ...}, "missing .*DenseReluDense.wi.weight"),
        ({"architectures": ["T5ForTokenClassification"]}, "known are T5ForConditionalGeneration, T5EncoderModel"),
        ({"architectures": ["T5EncoderModel"], "num_layers": 2}, "missing encoder.block.1"),
        ({"num_decoder_layers": 3}, "missing decoder.block.2"),
        ({"num_decoder_layers": None}, "left over decoder.block.1"),
        ({"d_kv": 4}, "Attention.k.weight is float32.15, 6., the model wants float32.12, 6.; .* … and 16 more$"),
        ({"d_model": "6"}, 'd_model is "6", not of type int'),
        ({"d_ff": 0}, "config.json: d_ff is 0, which is too small"),
        ({"eos_token_id": [1, 2]}, r"eos_token_id is \[1, 2\], not of type int"),
        ({"scale_decoder_outputs": "yes"}, 'scale_decoder_outputs is "yes", not of type bool'),
        ({"model_type": "mt5"}, 'model_type is "mt5"; known are bert, t5'),
    ],
)
def test_what_is_refused(saved, changes, message):
    set_config(saved[0], **changes)
    with pytest.raises(UserError, match=message):
        from_pretrained(saved[0])


# runs ----------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vocabulary() -> SentencePieceTokenizer:
    return SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"), extra_ids=5)


@pytest.fixture
def run(vocabulary, tmp_path):
    """A run as the QA program leaves it, and a directory that calls it its main run, as the quickstart does."""
    config = replace(V11, vocab_size=vocabulary.vocab_size)
    record = {"program": "qa", "model": asdict(config), "extra_ids": 5}
    record["training"] = {"input_length": 40, "target_length": 7, "seed": 3}
    run = start_run(tmp_path / "all" / "main", record)
    save_vocabulary(run, vocabulary)
    with Checkpoints(run) as checkpoints:
        checkpoints.save(7, {"params": as_function(random_model(T5, config))[1], "step": np.int32(7)})
    (tmp_path / "all" / "config.json").write_text(json.dumps({"program": "quickstart", "main": "main"}))
    return run


def test_exported_and_imported_it_is_the_same(run, tmp_path):
    folder = export_run(run.parent, tmp_path / "hf")
    again = import_run(folder, tmp_path / "run")
    config, params, tokenizer = load_t5(run)
    for name in (folder, again):
        sizes, arrays, vocabulary = load_t5(name)
        assert sizes == config and vocabulary.vocab_size == tokenizer.vocab_size == config.vocab_size == 1005
        assert jax.tree.all(jax.tree.map(np.array_equal, arrays, params))
    training = json.loads((again / "config.json").read_text())["training"]
    assert training == {"imported": str(folder), "input_length": 40, "target_length": 7}
    assert (again / "checkpoints" / "0").is_dir()
    export_run(again, tmp_path / "again")
    for file in folder.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_asked_it_answers_like_the_run_it_was_made_of(run, tmp_path, monkeypatch):
    exported = export_run(run, tmp_path / "hf")
    question = ("Where was Mira born?", "Mira is from Oss. " * 40)
    answer = asking.ask(*question, exported)
    assert answer == asking.ask(*question, run) and answer.windows > 1
    assert asking.open_model(exported) is asking.open_model(str(exported))
    values = json.loads((exported / "config.json").read_text())
    del values["task_specific_params"]  # as one from the hub
    (exported / "config.json").write_text(json.dumps(values))
    answerer = asking.open_model(exported)
    assert (answerer.input_length, answerer.target_length) == (512, 32)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="google/flan-t5-small is not a run: .*; to download it from the hub"):
        asking.ask("Where?", run="google/flan-t5-small")


def test_which_directories_are_t5s(run, tmp_path):
    folder = export_run(run, tmp_path / "hf")
    names = [folder, run, run.parent, tmp_path / "t5"]
    assert [is_t5(name) for name in names] == [True, False, False, False]
    assert not any(is_bert(name) for name in names)


def test_a_run_remembers_how_many_sentinels_it_has(run, tmp_path):
    """<extra_id_0> is the last piece, 1004, wherever the run goes from here."""
    (tmp_path / "lines.txt").write_text("the clock in the tower strikes\n" * 40)
    texts, model = str(tmp_path / "lines.txt"), {"start_from": str(run), "steps": 1, "batch_size": 8, "warmup": 0}
    common = {"out": str(tmp_path / "spans"), "input_length": 24}
    spans = PretrainSpansSettings(texts=texts, held_out=None, save_every=1, **model | common)
    pretrain_spans(spans, quiet=True)
    pretrain_spans(replace(spans, resume=True), quiet=True)
    questions = [{"question": "Where is Mira?", "answer": "Oss"}] * 8
    (tmp_path / "asked.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in questions))
    common = {"input_length": 16, "target_length": 4} | model
    asked = str(tmp_path / "asked.jsonl")
    qa.finetune_qa(qa.FinetuneQASettings(out=str(tmp_path / "qa"), closed_book_questions=asked, **common), quiet=True)
    tasks = {"tasks": ("closed_book_qa",), "train": (f"closed_book_qa={asked}",), "held_out": ()} | common
    text_to_text.finetune_tasks(text_to_text.FinetuneTasksSettings(out=str(tmp_path / "tasks"), **tasks), quiet=True)
    for name in (run, tmp_path / "spans", tmp_path / "qa", tmp_path / "tasks"):
        config, _, tokenizer = load_t5(name)
        assert (tokenizer.vocab_size, tokenizer.encode("<extra_id_0>"), config.vocab_size) == (1005, [1004], 1005)
    written = asking.generate(["the <extra_id_0> in the <extra_id_1>"], tmp_path / "spans", max_new_tokens=3)[0][0]
    assert 0 < written.probability < 1


@pytest.mark.parametrize("wrong", ["5", 5.0, -1, None, True])
def test_a_number_of_sentinels_that_cannot_be(run, wrong):
    set_config(run, extra_ids=wrong)
    with pytest.raises(UserError, match="config.json: extra_ids is .*, not a whole number from 0 on"):
        load_t5(run)


def test_a_vocabulary_with_more_pieces_than_the_model_is_refused(run, tmp_path):
    folder = export_run(run, tmp_path / "hf")
    set_config(run, extra_ids=...)  # as the first runs were: a hundred
    set_config(folder, task_specific_params=...)
    (folder / "tokenizer_config.json").unlink()
    loads = (load_t5, asking.open_model, lambda name: import_run(name, tmp_path / "new"))
    for load, name in ((loads[0], run), (loads[1], run), *((load, folder) for load in loads)):
        with pytest.raises(UserError, match=f"^{name}: the vocabulary has 1100 pieces, the model only 1005$"):
            load(name)
    assert not (tmp_path / "new").exists()


def test_what_is_no_whole_t5_is_said(run, vocabulary, tmp_path):
    folder = export_run(run, tmp_path / "hf")
    encoder = from_pretrained(folder, architecture="T5EncoderModel")
    save_pretrained(encoder, tmp_path / "encoder", vocabulary)
    with pytest.raises(UserError, match="encoder is the encoder of a T5 alone, which writes nothing"):
        load_t5(tmp_path / "encoder")
    with pytest.raises(UserError, match="encoder is the encoder of a T5 alone, of which there are no runs"):
        import_run(tmp_path / "encoder", tmp_path / "run")
    with pytest.raises(UserError, match="hf is no BERT .it is a T5., and a BERT is wanted here"):
        load_bert_model(folder)
    for name, id in (("decoder_start_token_id", 0), ("eos_token_id", 1), ("pad_token_id", 0)):
        set_config(folder, **{name: 5})
        set_config(run, model=json.loads((run / "config.json").read_text())["model"] | {name: 5})
        for load in (load_t5, lambda folder: import_run(folder, tmp_path / "run")):
            with pytest.raises(UserError, match=f"hf: {name} is 5; here a T5's is {id}"):
                load(folder)
        with pytest.raises(UserError, match=f"main/config.json: {name} is 5; here a T5's is {id}"):
            load_t5(run)
        set_config(folder, **{name: id})
        set_config(run, model=json.loads((run / "config.json").read_text())["model"] | {name: id})
    assert not (tmp_path / "run").exists()
    (folder / "spiece.model").unlink()
    with pytest.raises(UserError, match="hf has no vocabulary of a T5: copy its spiece.model or tokenizer.json there"):
        load_t5(folder)
    with pytest.raises(UserError, match="nobody/t5 is not a run: there is no such directory"):
        load_t5("nobody/t5")
