"""Each program computes in bfloat16, the default on TPUs and newer GPUs: float32 is kept, and the run can be used."""

import json
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from tlqa_jax.checkpoints.bert_runs import load_bert_model
from tlqa_jax.inference.fill_mask import fill_mask
from tlqa_jax.inference.predictors import ask, classify, generate
from tlqa_jax.training import (
    finetune_classifier as classification,
    finetune_qa as qa,
    finetune_spans as extractive_qa,
    finetune_tasks as text_to_text,
    pretrain_mlm as mlm,
    pretrain_spans as span_corruption,
)

from .comparing import final_state, rows

T5 = {"d_model": 12, "d_kv": 4, "d_ff": 20, "num_layers": 1, "num_heads": 3}
BERT = {
    "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 20,
    "max_position_embeddings": 32,
}  # fmt: skip
ASKED = ("Where was Mira born ?", "Mira was born in Oss .")


def used_fill_mask(run):
    [guesses] = fill_mask(*load_bert_model(run), "Mira plays the [MASK].", n=2)
    return guesses


PROGRAMS = {  # program -> (sizes, train, configuration, settings, what one does with the run)
    span_corruption: (
        T5, span_corruption.pretrain_spans, span_corruption.PretrainSpansSettings,
        dict(texts="tiny_world:pretraining_dev.txt", held_out=None, warmup=0, questions_share=0.5),
        partial(generate, ["Mira <extra_id_0> Oss."], max_new_tokens=3),
    ),
    mlm: (BERT, mlm.pretrain_mlm, mlm.PretrainMLMSettings, dict(texts="tiny_world:pretraining_dev.txt", warmup=0), used_fill_mask),
    qa: (T5, qa.finetune_qa, qa.FinetuneQASettings, dict(warmup=0, target_length=4), partial(ask, *ASKED)),
    text_to_text: (
        T5, text_to_text.finetune_tasks, text_to_text.FinetuneTasksSettings, dict(tasks=("context_qa",), target_length=4),
        partial(ask, *ASKED),
    ),
    extractive_qa: (
        BERT, extractive_qa.finetune_spans, extractive_qa.FinetuneSpansSettings, dict(max_question_length=9, stride=4),
        partial(ask, *ASKED),
    ),
    classification: (
        BERT, classification.finetune_classifier, classification.FinetuneClassifierSettings, {}, partial(classify, ["A dull soup."]),
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bfloat16")
    questions = [
        {"id": name, "question": f"Where was {name} born ?", "context": f"{name} was born in {town} .",
         "answers": [{"text": town, "answer_start": len(f"{name} was born in ")}]}
        for name, town in (("Mira", "Oss"), ("Emil", "Lun"), ("Una", "Ull"))
    ]  # fmt: skip
    texts = [{"text": f"a {word} soup", "label": word} for word in ("fine", "dull", "fine")]
    for name, lines in (("questions", questions), ("texts", texts)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def sources(program, folder):
    questions, texts = str(folder / "questions.jsonl"), str(folder / "texts.jsonl")
    return {
        span_corruption: dict(questions=questions),
        mlm: dict(held_out="tiny_world:pretraining_dev.txt"),
        qa: dict(context_questions=questions, held_out_context=questions),
        text_to_text: dict(train=(f"context_qa={questions}",), held_out=(f"context_qa={questions}",)),
        extractive_qa: dict(questions=questions, held_out=questions),
        classification: dict(texts=texts, held_out=texts),
    }[program]


FIRST, *OTHERS = PROGRAMS


@pytest.mark.parametrize(
    "program", [FIRST, *(pytest.param(other, marks=pytest.mark.slow) for other in OTHERS)],
    ids=lambda program: program.__name__.split(".")[-1],
)  # fmt: skip
def test_a_program_computes_in_bfloat16_and_keeps_float32(folder, program, monkeypatch):
    sizes, start, config, settings, use = PROGRAMS[program]
    model, as_function = folder / f"{program.__name__}.json", program.as_function
    model.write_text(json.dumps(sizes))
    computed_in = []

    def noted(module):
        computed_in.append(getattr(module, "encoder", module).dtype)
        return as_function(module)

    monkeypatch.setattr(program, "as_function", noted)
    run = start(config(
        out=str(folder / program.__name__), model=str(model), dtype="bfloat16", steps=2, batch_size=8, input_length=32,
        log_every=1, evaluate_every=2, **settings, **sources(program, folder),
    ), quiet=True)  # fmt: skip
    assert computed_in == [jnp.bfloat16]
    found = rows(run)
    assert [row["step"] for row in found if "loss" in row] == [1, 2]
    assert all(np.isfinite(value) for row in found for value in row.values())
    arrays = final_state(run)
    whole = {name for name, x in arrays.items() if np.issubdtype(x.dtype, np.integer)}
    assert whole and all(name.endswith(("step", "count")) for name in whole)
    assert {x.dtype for name, x in arrays.items() if name not in whole} == {np.dtype("float32")}
    assert use(run=run)
