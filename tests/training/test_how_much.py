"""The setting `train` in whole runs: what moves, what is kept and saved; kills, devices and gradual unfreezing."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import unflatten_dict

from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.checkpoints.save import copy_pretrained, save_pretrained, write_config
from tlqa_jax.errors import UserError
from tlqa_jax.inference.answer_spans import span_logits
from tlqa_jax.models.adapters import add_adapters, add_lora
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.bert_heads import BertForQuestionAnswering
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training.finetune_spans import number_of_rows, span_loss
from tlqa_jax.training.freezing import frozen_names, partition, unfreezing_stages
from tlqa_jax.training.initial_model import load_initial
from tlqa_jax.training.loop import TrainingRun
from tlqa_jax.training.optimizers import adamw

from .comparing import assert_leaves_close, assert_same_arrays, metrics, saved_state, train
from .programs import BERT_SIZES, PROGRAMS, T5_SIZES, random_model, short

# Runs of 6 steps, from models of two layers. They are saved after steps 2, 4 and 6; gradual unfreezing has two stages

STEPS = dict(steps=6, save_every=2, weight_decay=0.1, keep=9)
slow = lambda *pair: pytest.param(pair, marks=pytest.mark.slow)


@pytest.fixture(scope="module")
def starts(tmp_path_factory, files):
    """A T5 and a BERT of two layers, to start from."""
    folder = tmp_path_factory.mktemp("starts")
    bert = random_model(Bert, BertConfig(vocab_size=128, **BERT_SIZES | {"num_hidden_layers": 2}), pooler=False)
    save_pretrained(bert, folder / "bert", WordPieceTokenizer(files / "vocab.txt"))
    t5 = random_model(T5, T5Config(vocab_size=1152, **T5_SIZES | {"num_layers": 2}))
    save_pretrained(t5, folder / "t5", load(files / "t5").tokenizer)
    assert isinstance(load(folder / "t5").tokenizer, SentencePieceTokenizer)
    return folder


def settings_of(name, how, files, starts, out, **more):
    program, lora = PROGRAMS[name], how.startswith("lora") and name == "finetune_qa"
    given = STEPS | {"start_from": str(starts / program.family)} | more
    return short(program, files, out=str(out), train=how, **given, **dict(optimizer="adamw") if lora else {})


RUNS = [
    ("finetune_spans", "lora:2"), slow("finetune_classifier", "gradual"),
    slow("finetune_classifier", "adapters:3"), slow("finetune_qa", "lora:2"), slow("finetune_qa", "adapters:3"),
    slow("finetune_qa", "gradual"), slow("finetune_qa", "last:1"), slow("finetune_spans", "bias"), slow("finetune_classifier", "head"),
    slow("finetune_spans", "last:1"), slow("finetune_classifier", "lora:2"), slow("finetune_spans", "gradual"),
]  # fmt: skip


@pytest.fixture(scope="module", params=RUNS, ids=lambda pair: "-".join(pair))
def finished(request, files, starts, tmp_path_factory):
    name, how = request.param
    settings = settings_of(name, how, files, starts, tmp_path_factory.mktemp("run") / "run")
    return PROGRAMS[name], settings, PROGRAMS[name].run(settings, quiet=True)


def params_of(state):
    return {path.removeprefix("params/"): array for path, array in state.items() if path.startswith("params/")}


def test_what_is_frozen_stays_as_it_began_and_without_optimizer_state(finished, starts):
    program, settings, run = finished
    states = [saved_state(run, step) for step in (2, 4, 6)]
    last = params_of(states[-1])
    tree = unflatten_dict(last, sep="/")
    frozen = set(flatten(partition(tree, frozen_names(tree, settings.train))[1]))
    moving = last.keys() - frozen
    assert moving and (frozen or settings.train == "gradual")
    first = flatten(as_function(load(starts / program.family).model())[1])
    first = first if program.family == "t5" else {f"encoder/{path}": array for path, array in first.items()}
    assert len(first.keys() & frozen) == len(frozen)  # no new parameter is left as it was drawn
    assert all(np.array_equal(last[path], first[path]) for path in frozen)
    assert not any(np.array_equal(last[path], params_of(states[0])[path]) for path in moving)
    kept = [path for path in states[-1] if path.startswith("opt_state/")]
    assert not any(path.endswith(f"/{one}") for one in frozen for path in kept)
    if settings.train == "gradual":  # the second stage begins with step 4
        waiting, none = unfreezing_stages(tree)
        early = params_of(states[0])
        assert none == () and all(np.array_equal(early[path], first[path]) for path in waiting)
        assert not any(np.array_equal(early[path], first[path]) for path in (last.keys() - {*waiting}) & first.keys())
        assert not any(np.array_equal(last[path], early[path]) for path in waiting)


def test_a_run_that_stopped_equals_the_one_that_did_not(finished, tmp_path):
    """Gradual unfreezing goes on in its first stage and reaches the second."""
    program, settings, run = finished
    stopped = shutil.copytree(run, tmp_path / "stopped")
    record = json.loads((stopped / "run.json").read_text())
    (stopped / "run.json").write_text(json.dumps({name: x for name, x in record.items() if name != "finished"}))
    for step in ("4", "6"):
        shutil.rmtree(stopped / "checkpoints" / step)
    program.run(replace(settings, out=str(stopped)), quiet=True)
    assert_same_arrays(saved_state(stopped), saved_state(run))
    assert metrics(stopped) == metrics(run)
    for path in run.iterdir():
        if path.is_file() and path.name not in ("curves.png", "metrics.jsonl"):
            assert (stopped / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_directory_of_a_run_is_the_model_that_was_trained(finished, tmp_path):
    program, settings, run = finished
    small = settings.train.startswith(("lora", "adapters"))
    assert (run / "adapter_model.safetensors").exists() == small != (run / "model.safetensors").exists()
    opened, trained = load(run), params_of(saved_state(run))
    assert opened.architecture == program.architecture
    if small:
        assert (run / "adapter_model.safetensors").stat().st_size < 10_000  # the T5's embedding alone has 36,864
        config = json.loads((run / "adapter_config.json").read_text())
        assert config["base_model_name_or_path"] == settings.start_from
    found = flatten(as_function(opened.model())[1])
    changes = {
        path.split("_lora/")[0]: 8 * (trained[path].reshape(-1, 2) @ trained[path[:-1] + "b"].reshape(2, -1))
        for path in trained if path.endswith("_lora/a")
    }  # fmt: skip
    assert found.keys() == {path for path in trained if "_lora/" not in path}
    for path, array in found.items():
        if path in changes:
            np.testing.assert_allclose(array, trained[path] + changes[path].reshape(array.shape), atol=1e-6)
        else:
            assert np.array_equal(array, trained[path]), path
    if changes:
        merged = copy_pretrained(run, tmp_path / "merged", merge=True)
        assert_same_arrays(flatten(as_function(load(merged).model())[1]), found)


# Steps

BERT = BertConfig(
    vocab_size=30, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
    max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
ROWS = {
    "tokens": np.random.default_rng(0).integers(5, 30, (16, 9)).astype(np.int32),
    "token_types": np.zeros((16, 9), np.int32),
    "start": np.arange(16, dtype=np.int32) % 9, "end": (np.arange(16, dtype=np.int32) + 1) % 9,
}  # fmt: skip


@pytest.mark.slow
def test_eight_devices_equal_one():
    """With LoRA and adapters in both layers, of which those of the lower layer wait, as in gradual unfreezing."""
    model = random_model(BertForQuestionAnswering, BERT)
    add_lora(model, 2, nnx.Rngs(1))
    add_adapters(model, 3, nnx.Rngs(1))
    apply, params = as_function(model)
    loss = lambda params, rows, key: span_loss(partial(span_logits, apply, 0), params, rows, key).sum()
    freeze = tuple({*frozen_names(params, "lora:2")} & {*frozen_names(params, "adapters:3")})
    waiting = tuple({*unfreezing_stages(params)[0]} - {*freeze})
    given = dict(freeze=freeze, waiting=waiting, steps=2, optimizer=adamw(lambda _: 1e-4))
    one, eight = (train(loss, number_of_rows, params, ROWS, devices, **given) for devices in (1, 8))
    assert eight.losses == pytest.approx(one.losses, rel=1e-6)
    zero = ("key_bias", "span/bias", "1/feed_forward_norm/bias")  # see `test_equal_gradients`
    zero = [path for path in flatten(one.gradients) if path.endswith(zero)]
    assert_leaves_close(eight.gradients, one.gradients, 3e-5, zero=zero)
    before, moved = flatten(params), flatten(eight.params)
    assert waiting and {path for path in before if np.array_equal(before[path], moved[path])} == {*freeze, *waiting}


def test_the_stages_of_gradual_unfreezing(files, starts, tmp_path, capsys):
    run = object.__new__(TrainingRun)
    run.settings, run.quiet = settings_of("finetune_classifier", "gradual", files, starts, tmp_path / "run"), False
    params = as_function(random_model(BertForQuestionAnswering, BERT))[1]
    freeze, waiting = run.frozen(params, 7)
    assert freeze == () and "gradual unfreezing: 2 stages" in capsys.readouterr().out
    assert [len(waiting(step)) for step in range(1, 8)] == [21] * 4 + [0] * 3
    assert {path.rpartition("/")[0].split("/")[1] for path in waiting(1)} == {"embeddings", "layer_0"}


@pytest.mark.parametrize("name, changes, message", [
    ("finetune_spans", dict(train="half"), r"--train is 'half': it has to be all, head, last:N, gradual, bias, adapters"),
    ("finetune_spans", dict(train="last:0"), "--train is 'last:0': it has to be"),
    ("finetune_spans", dict(train="lora"), "--train is 'lora': it has to be"),
    ("finetune_spans", dict(train="last:3"), "--train last:3: this model has 2 layers"),
    ("finetune_spans", dict(train="head", freeze=("span",)), "--freeze span leaves nothing to train of --train head"),
    ("finetune_spans", dict(train="lora:2", start_from=None), "--train lora:2 adds to a pretrained model: give --start"),
    ("finetune_qa", dict(train="bias"), "--train bias: a T5 has no bias vectors"),
    ("finetune_qa", dict(train="head"), "--train head: this T5's output matrix is its embedding, so it has no head"),
    ("finetune_qa", dict(train="lora:2", optimizer="adafactor"), "add --optimizer adamw"),
])  # fmt: skip
def test_what_cannot_be_trained_is_refused_before_a_step_is_compiled(
    name, changes, message, files, starts, tmp_path, no_compilation
):
    with pytest.raises(UserError, match=message):
        settings = settings_of(name, "all", files, starts, tmp_path / "run")
        PROGRAMS[name].run(replace(settings, **changes), quiet=True)
    assert not (tmp_path / "run").exists()


def test_lora_and_adapters_are_no_base(files, starts, tmp_path):
    load_again = lambda start, how: load_initial(
        settings_of("finetune_spans", how, files, starts, tmp_path / "run", start_from=str(tmp_path / start)), False
    )
    for name, add in (("lora", add_lora), ("adapters", add_adapters)):
        (tmp_path / name).mkdir()
        model = random_model(BertForQuestionAnswering, BERT)
        add(model, 2, nnx.Rngs(0))
        write_config(tmp_path / name, model, {}, str(starts / "bert"))
    with pytest.raises(UserError, match=r"holds LoRA, and so cannot be a base: merge it first \(tlqa export .*--merge"):
        load_again("lora", "adapters:2")
    with pytest.raises(UserError, match="holds adapters: start from .*bert, their base"):
        load_again("adapters", "all")
    assert load_again("lora", "head").added.kind == "lora"  # from the merged model
