"""Runs made of Hugging Face directories, and the other way: what `tlqa import` and `tlqa export` do."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tlqa_jax.checkpoints.bert_names import ARCHITECTURES
from tlqa_jax.checkpoints.bert_runs import load_bert_model, save_wordpiece
from tlqa_jax.checkpoints.huggingface import from_pretrained, load_tokenizer, read_task, save_pretrained
from tlqa_jax.checkpoints.runs import (
    Checkpoints,
    check_special_ids,
    is_run,
    load_t5,
    main_run,
    read_config,
    read_threshold,
    save_threshold,
    save_vocabulary,
    start_run,
)
from tlqa_jax.checkpoints.tokenizer_files import check_tokenizer as check_vocabulary
from tlqa_jax.errors import UserError
from tlqa_jax.models.functional import as_function, as_module
from tlqa_jax.models.t5 import T5, T5Encoder

# what an exported model needs of its training's settings, to be asked as the run was
KEPT = ("input_length", "target_length", "stride", "max_question_length", "max_answer_length")


def import_run(name: Path | str, run: Path | str, *, architecture: str | None = None, overwrite: bool = False) -> Path:
    """Make a run of a Hugging Face directory or hub name, with its parameters as the checkpoint of step 0. Returns it.

    Raises UserError where `from_pretrained` does (`architecture` is for it), without a vocabulary that fits, for a T5
    with other special ids, or for a run in use.
    """
    if is_run(name):
        raise UserError(f"{name} is a run already: only Hugging Face directories and hub names need importing")
    model, tokenizer = from_pretrained(name, architecture=architecture), load_tokenizer(name)
    if isinstance(model, T5Encoder):
        raise UserError(f"{name} is the encoder of a T5 alone, of which there are no runs: from_pretrained reads it")
    check_vocabulary(tokenizer, model.config, name)
    task = read_task(name)
    threshold = task.pop("no_answer_threshold", None)
    training: dict[str, Any] = {"imported": str(name), **task}
    record = {"program": "import", "model": dataclasses.asdict(model.config), "training": training}
    if isinstance(model, T5):
        check_special_ids(model.config, name)
        record["extra_ids"] = len(tokenizer.sentinels)
    else:
        encoder = getattr(model, "encoder", model)
        training |= {"lowercase": tokenizer.lowercase, "attention": "causal" if encoder.causal else "plain"}
        record["architecture"] = next(name for name, kind in ARCHITECTURES.items() if type(model) is kind)
        record["pooler"] = encoder.pooler is not None
    run = start_run(run, record, overwrite=overwrite)
    (save_vocabulary if isinstance(model, T5) else save_wordpiece)(run, tokenizer)
    if threshold is not None:
        save_threshold(run, threshold)
    with Checkpoints(run) as checkpoints:
        checkpoints.save(0, {"params": as_function(model)[1], "step": np.int32(0)})
    return run


def export_run(run: Path | str, directory: Path | str, *, overwrite: bool = False) -> Path:
    """Write the model and the vocabulary of a run as a Hugging Face directory, which Transformers loads. Returns it.

    With the lengths it was trained with, and its no-answer threshold if it has one, under `task_specific_params` in
    `config.json`: asked here, the directory answers as the run does. Of a quickstart its main run is written.

    Raises UserError where `save_pretrained` does.
    """
    record = read_config(main_run(run))
    if not is_run(run):
        raise UserError(f"{run} is no run: what is exported is one")
    run = main_run(run)
    if "architecture" in record:
        model, tokenizer = load_bert_model(run)
    else:
        config, params, tokenizer = load_t5(run)
        model = as_module(nnx.eval_shape(lambda: T5(config, rngs=nnx.Rngs(0))), jax.tree.map(jnp.asarray, params))
    training = record.get("training", {})
    task = {name: training[name] for name in KEPT if name in training}
    threshold = read_threshold(run)
    task |= {} if threshold is None else {"no_answer_threshold": threshold}
    return save_pretrained(model, directory, tokenizer, task=task, overwrite=overwrite)
