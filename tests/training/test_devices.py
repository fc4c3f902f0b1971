"""What the programs ask of the devices: the type to compute in, and room for one copy of the parameters."""

import gc
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from tlqa_jax.checkpoints.huggingface import save_pretrained
from tlqa_jax.core.devices import compute_dtype
from tlqa_jax.data.sources import local_path
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training import (
    finetune_classifier as classification,
    finetune_qa as qa,
    finetune_spans as extractive_qa,
    finetune_tasks as text_to_text,
    pretrain_mlm as mlm,
    pretrain_spans as span_corruption,
)


@pytest.mark.parametrize(
    "platform, capability, dtype",
    [
        ("cpu", None, jnp.float32),
        ("tpu", None, jnp.bfloat16),
        ("gpu", "7.5", jnp.float32),
        ("gpu", "8.0", jnp.bfloat16),
        ("gpu", "12.0", jnp.bfloat16),
        ("gpu", "gfx803", jnp.float32),
        ("gpu", "gfx90a", jnp.bfloat16),
        ("gpu", "gfx1100", jnp.bfloat16),
        ("gpu", "", jnp.float32),
    ],
)
def test_bfloat16_where_the_hardware_has_it(platform, capability, dtype, monkeypatch):
    device = SimpleNamespace(platform=platform, **({} if capability is None else {"compute_capability": capability}))
    monkeypatch.setattr(jax, "local_devices", lambda: [device])
    assert compute_dtype("auto") == dtype


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A T5 and a BERT to start from, as Hugging Face directories."""
    folder = tmp_path_factory.mktemp("devices")
    sentencepiece = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"))
    sizes = T5Config(vocab_size=1152, d_model=6, d_kv=2, d_ff=5, num_layers=1, num_heads=3)
    save_pretrained(T5(sizes, rngs=nnx.Rngs(0)), folder / "t5", sentencepiece)
    wordpiece = WordPieceTokenizer(local_path("tiny_world:wordpiece.txt"))
    sizes = BertConfig(
        vocab_size=wordpiece.vocab_size, hidden_size=6, num_hidden_layers=1, num_attention_heads=3, intermediate_size=5,
        max_position_embeddings=32,
    )  # fmt: skip
    save_pretrained(Bert(sizes, rngs=nnx.Rngs(0)), folder / "bert", wordpiece)
    return folder


PROGRAMS = [
    (span_corruption, "pretrain", span_corruption.PretrainSpansSettings, dict(texts="tiny_world:pretraining_dev.txt")),
    (qa, "finetune", qa.FinetuneQASettings, dict(closed_book_questions="tiny_world:closed_book_dev.json")),
    (text_to_text, "finetune", text_to_text.FinetuneTasksSettings, dict(tasks=("sentiment",))),
    (mlm, "pretrain", mlm.PretrainMLMSettings, dict(texts="tiny_world:pretraining_dev.txt", held_out=None)),
    (classification, "finetune", classification.FinetuneClassifierSettings, dict(texts="tiny_world:reviews_dev.jsonl")),
    (
        extractive_qa, "finetune", extractive_qa.FinetuneSpansSettings,
        dict(questions="tiny_world:context_dev.json", stride=4, max_question_length=9),
    ),
]  # fmt: skip


ALL = pytest.mark.parametrize(
    "program, name, config, settings", PROGRAMS, ids=[program.__name__.split(".")[-1] for program, *_ in PROGRAMS]
)


class Stop(Exception):
    pass


def begin(program, name, config, settings, folder, **how):
    """Run a program that is stopped on the way; returns what it was stopped with."""
    architecture = "t5" if program in (span_corruption, qa, text_to_text) else "bert"
    settings = settings | ({"warmup": 0} if "warmup" in config.__dataclass_fields__ else {})
    with pytest.raises(Stop) as stopped:
        getattr(program, name)(config(
            out=str(folder / program.__name__), start_from=str(folder / architecture), input_length=32, batch_size=8,
            steps=1, **settings,
        ), **how)  # fmt: skip
    return stopped.value.args


@ALL
def test_the_first_device_holds_no_second_copy_of_the_parameters(program, name, config, settings, folder, monkeypatch):
    def train_step(state, batch):
        gc.collect()  # on a CPU, jax lets go of the numpy arrays that it was given only then
        of_one_device = [x for x in jax.live_arrays() if len(x.devices()) == 1 and id(x) not in before]
        raise Stop(*(x.shape for x in of_one_device if x.size > 100))

    monkeypatch.setattr(program, "make_train_step", lambda *_: train_step)
    there = jax.live_arrays()  # held, so that no other array gets the id of one
    before = {id(x) for x in there}
    assert begin(program, name, config, settings, folder, quiet=True) == ()


@ALL
def test_of_several_processes_the_first_one_speaks(program, name, config, settings, folder, monkeypatch, capsys):
    def start_run(*_, **__):
        raise Stop

    monkeypatch.setattr(program, "start_run", start_run)
    said = []
    for index in (0, 1):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        begin(program, name, config, settings | {"overwrite": True}, folder)
        said.append(capsys.readouterr().out)
    assert said[0] and not said[1]
