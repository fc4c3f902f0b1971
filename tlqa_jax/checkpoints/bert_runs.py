"""BERTs from disk: run directories of the BERT programs, and Hugging Face directories, through one door.

    model, tokenizer = load_bert_model("runs/bert")             # or a Hugging Face directory, or a name on the hub

    RUN/config.json          program, architecture, model sizes, training settings
    RUN/vocab.txt            the WordPiece vocabulary it was trained with
    RUN/checkpoints/STEP/    Orbax: params, optimizer state, step; params are those of the architecture's class
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from tlqa_jax.checkpoints.bert_names import ARCHITECTURES, MODEL_TYPE, empty_model
from tlqa_jax.checkpoints.directories import CONFIG
from tlqa_jax.checkpoints.tokenizer_files import WORDPIECE
from tlqa_jax.checkpoints.huggingface import from_pretrained, hub_family, is_hub_name, is_t5, load_tokenizer
from tlqa_jax.checkpoints.runs import Checkpoints, is_run, load_sizes, main_run, read_config
from tlqa_jax.checkpoints.tokenizer_files import check_tokenizer as check_vocabulary
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.functional import Params, as_function, as_module
from tlqa_jax.text.wordpiece import WordPieceTokenizer


def is_bert(name: Path | str) -> bool:
    """Whether it is a BERT's rather than a T5's: a run, a Hugging Face directory, or a name on the hub.

    Raises UserError if it can only be a name on the hub, and the hub does not give it or it is of neither family.
    """
    if not Path(name).exists():
        return is_hub_name(name) and hub_family(name) == MODEL_TYPE
    if is_run(name):
        return "architecture" in read_config(main_run(name))
    return (Path(name) / CONFIG).is_file() and not is_t5(name)


def save_wordpiece(run: Path, tokenizer: WordPieceTokenizer) -> None:
    """Put the vocabulary into the run, so that the directory is all one needs to use the model."""
    if jax.process_index() == 0 and not (run / WORDPIECE).exists():
        tokenizer.save(run / WORDPIECE)


def load_bert(run: Path | str) -> tuple[str, BertConfig, Params, WordPieceTokenizer]:
    """The architecture ("BertForMaskedLM", say), the sizes, the newest parameters (numpy) and the vocabulary of a run.

    Raises UserError if it is no run, a run of another kind of model, or its checkpoint does not fit its configuration.
    """
    run = main_run(run)
    architecture, model = empty_bert(run)
    with Checkpoints(run, read_only=True) as checkpoints:
        params = checkpoints.restore({"params": as_function(model)[1]})["params"]
    return architecture, model.config, params, run_tokenizer(run)


def load_bert_model(name: Path | str, *, dtype: Any = jnp.float32) -> tuple[nnx.Module, WordPieceTokenizer]:
    """The model and the vocabulary of a run, or of a Hugging Face directory or hub name, ready to be called.

    A model that was trained to look back only ("causal") does so again. `dtype` is that of the computation.

    Raises UserError as `load_bert` does, and if the vocabulary has more pieces than the model.
    """
    if not is_run(name):
        model = from_pretrained(name, dtype=dtype)
        if not isinstance(model.config, BertConfig):
            raise UserError(f"{name} is no BERT (it is a {type(model).__name__}), and a BERT is wanted here")
        tokenizer = load_tokenizer(name)
        check_vocabulary(tokenizer, model.config, name)
        return model, tokenizer
    _, config, params, tokenizer = load_bert(name)
    check_vocabulary(tokenizer, config, name)
    model = empty_bert(main_run(name), dtype=dtype)[1]
    return as_module(model, jax.tree.map(jnp.asarray, params)), tokenizer


def empty_bert(run: Path | str, *, dtype: Any = jnp.float32) -> tuple[str, nnx.Module]:
    """The architecture of a run and its model, with shapes in place of arrays."""
    record = read_config(run)
    architecture, training = record.get("architecture"), record.get("training", {})
    if architecture is None:
        program = record.get("program")
        raise UserError(f"{run} is no run of a BERT (its program is {program!r}), and a BERT is wanted here")
    where = Path(run) / CONFIG
    if architecture not in ARCHITECTURES:
        raise UserError(f"{where}: the architecture is {architecture!r}; known are {', '.join(ARCHITECTURES)}")
    config = load_bert_config(record.get("model", {}), where)
    # an imported model may have a pooler that its own class does not read
    pooler = {"pooler.dense.weight"} if record.get("pooler") else set()
    options = {"dtype": dtype, "attention": training.get("attention", "plain")}
    return architecture, empty_model(architecture, config, pooler, **options)


def load_bert_config(values: Any, where: Path | str) -> BertConfig:
    """A BertConfig from a JSON object; an unknown field, or a value of another kind, is an error that names it."""
    sizes = load_sizes(values, BertConfig, where, without=("id2label",))
    labels = values.get("id2label", BertConfig.id2label)
    if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
        raise UserError(f"{where}: id2label is {labels!r}, not a list of texts")
    return BertConfig(**sizes, id2label=labels)


def run_tokenizer(run: Path | str) -> WordPieceTokenizer:
    """The vocabulary of a run."""
    training = read_config(run).get("training", {})
    return WordPieceTokenizer(Path(run) / WORDPIECE, lowercase=training.get("lowercase", True))
