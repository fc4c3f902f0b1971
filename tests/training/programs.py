"""The training programs, each with a small run that has everything in it, and the files that these runs read."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from tlqa_jax.checkpoints.save import save_pretrained
from tlqa_jax.data.sources import local_path
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.functional import as_function, as_module
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.tasks.text_tasks import TextTask
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import SPECIALS, WordPieceTokenizer
from tlqa_jax.training import (
    finetune_classifier, finetune_qa, finetune_spans, pretrain_clm, pretrain_mlm, pretrain_spans,
)  # fmt: skip
from tlqa_jax.training.settings import TrainingSettings

T5_SIZES = dict(d_model=8, d_kv=4, d_ff=12, num_layers=1, num_heads=2)
BERT_SIZES = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=12)
BERT_SIZES |= dict(max_position_embeddings=40, initializer_range=0.2)
MAKERS, THINGS = ("oss", "ull", "ann", "bo"), ("clock", "lamp")
VERDICTS = {"fine": 2, "grand": 2, "dull": 0, "fair": 10}
WORDS = [*"who made the in town ? . was by ##s".split(), *MAKERS, *THINGS, *VERDICTS]
SHOUTS = TextTask("shouts", "shout it: {text}", "loud", metrics=("accuracy",))  # as one defines it in Python


def in_folder(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The settings with `folder` where their texts say FOLDER."""
    put = lambda text: text.replace("FOLDER", str(folder)) if isinstance(text, str) else text
    return {name: tuple(map(put, text)) if isinstance(text, tuple) else put(text) for name, text in settings.items()}


class Program(NamedTuple):
    """A program and its small run. In `small`, FOLDER/ stands for the directory of `write_files`."""

    module: Any
    run: Callable[..., Path]
    settings: type[TrainingSettings]
    family: str
    architecture: str
    small: dict[str, Any]
    rows: int  # in an epoch
    evaluation: set[str]  # what the last row of metrics.jsonl holds
    written: set[str]  # files of this program's own
    freeze: tuple[str, ...]  # what to freeze in a test
    usage: dict[str, Any]  # what config.json keeps of it; ...: something

    def make(self, folder: Path, **changes: Any) -> TrainingSettings:
        """The settings of the small run in `folder`, changed."""
        given = {**SMALL, **OF_FAMILY[self.family], **self.small, "out": "FOLDER/run", **changes}
        return self.settings(**in_folder(given, folder))


SMALL = dict(
    batch_size=16, accumulate=2, learning_rate=0.03, log_every=1, evaluate_every=6, save_every=6, dropout=0.1, seed=3
)
OF_FAMILY = {
    "t5": dict(model="FOLDER/t5.json", input_length=24),
    "bert": dict(model="FOLDER/bert.json", vocabulary="FOLDER/vocab.txt", input_length=24),
}
SCORES = {"em", "f1", "f1_low", "f1_high"}
SQUAD2 = {"no_answer_threshold", *(f"{part}_{name}" for part in ("HasAns", "NoAns") for name in ("exact", "f1"))}
QA = {"context_qa_loss", "shouts_loss", "shouts_accuracy", *(f"context_qa_{name}" for name in SCORES | SQUAD2)}
PROGRAMS = {
    "pretrain_spans": Program(
        pretrain_spans, pretrain_spans.pretrain_spans, pretrain_spans.PretrainSpansSettings, "t5",
        "T5ForConditionalGeneration",
        dict(texts="FOLDER/marked.jsonl", held_out="FOLDER/texts.txt", questions="FOLDER/questions.jsonl",
             questions_share=0.25, salient_share=0.25, steps=12, warmup=2.0),
        53, {"loss", "accuracy"}, set(), ("encoder*", "decoder_0/*_attention", "embedding"),
        dict(input_length=27, target_length=6, answers=True),
    ),
    "pretrain_mlm": Program(
        pretrain_mlm, pretrain_mlm.pretrain_mlm, pretrain_mlm.PretrainMLMSettings, "bert", "BertForPreTraining",
        dict(texts="FOLDER/texts.txt", held_out="FOLDER/texts.txt", steps=12, warmup=0.1),
        34, {"loss", "mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy"}, set(),
        ("encoder/layer_*", "encoder/embeddings", "masked_lm"),
        dict(input_length=24, answers=False),
    ),
    "pretrain_clm": Program(
        pretrain_clm, pretrain_clm.pretrain_clm, pretrain_clm.PretrainCLMSettings, "bert", "BertLMHeadModel",
        dict(texts="FOLDER/texts.txt", held_out="FOLDER/texts.txt", steps=12, warmup=0.1),
        52, {"loss", "perplexity", "accuracy"}, set(), ("encoder/embeddings", "masked_lm"),
        dict(input_length=24, answers=False),
    ),
    "finetune_qa": Program(
        finetune_qa, lambda settings, task=SHOUTS, **how: finetune_qa.finetune_qa(settings, [task], **how),
        finetune_qa.FinetuneQASettings, "t5", "T5ForConditionalGeneration",
        dict(start_from="FOLDER/t5", context_questions="FOLDER/questions.jsonl",
             held_out_context="FOLDER/questions.jsonl", tasks=("FOLDER/puns.json", "shouts"),
             train_on=("shouts=FOLDER/shouts.jsonl",), held_out=("shouts=FOLDER/shouts.jsonl",), pack=True,
             mixing="temperature=2", input_length=48, target_length=8, optimizer="adafactor", learning_rate=0.1,
             steps=12),
        37, {"loss", *QA}, {"predictions_context_qa.json", "predictions_shouts.json"},
        ("encoder_*", "embedding", "decoder_0/*up"),
        dict(input_length=48, target_length=8, tasks=..., no_answer_threshold=...),
    ),
    "finetune_spans": Program(
        finetune_spans, finetune_spans.finetune_spans, finetune_spans.FinetuneSpansSettings, "bert",
        "BertForQuestionAnswering",
        dict(start_from="FOLDER/bert", questions="FOLDER/questions.jsonl", held_out="FOLDER/questions.jsonl", stride=8,
             max_question_length=6, max_answer_length=3, n_best=4, epochs=4.8),
        40, {"loss", *SCORES, *SQUAD2}, {"predictions.json", "nbest_predictions.json"}, ("encoder",),
        dict(input_length=24, stride=8, max_question_length=6, max_answer_length=3, no_answer_threshold=...),
    ),
    "finetune_classifier": Program(
        finetune_classifier, finetune_classifier.finetune_classifier, finetune_classifier.FinetuneClassifierSettings,
        "bert", "BertForSequenceClassification",
        dict(start_from="FOLDER/bert", texts="FOLDER/labelled.jsonl", held_out="FOLDER/labelled.jsonl",
             text_field="review", label_field="stars", input_length=10, epochs=19.2, evaluate_every=24, save_every=24),
        40, {"loss", "accuracy"}, {"predictions.json"}, ("encoder/embeddings", "encoder/layer_0"),
        dict(input_length=10),
    ),
}  # fmt: skip


def questions(count: int = 24, unanswerable: bool = True) -> list[dict]:
    """ "who made the clock ?", of a context longer than a window. If wanted, every third has no answer."""
    rng, rows = np.random.default_rng(0), []
    for number in range(count):
        makers, things = rng.permutation(MAKERS)[:2].tolist(), rng.permutation(THINGS).tolist()
        told = [f"the {thing} in the town was made by {maker} ." for thing, maker in zip(things, makers)]
        silent = unanswerable and number % 3 == 0
        context = " ".join(told[: 1 if silent else 2])
        answers = [] if silent else [{"text": makers[1], "answer_start": context.index(makers[1])}]
        rows.append(
            {"id": f"q{number}", "question": f"who made the {things[1]} ?", "context": context, "answers": answers}
        )
    return rows


def labelled(count: int = 40) -> list[dict]:
    rng = np.random.default_rng(0)
    picked = [(rng.choice(THINGS), rng.choice(list(VERDICTS))) for _ in range(count)]
    rows = [{"review": f"the {one} was {verdict} .", "stars": VERDICTS[verdict]} for one, verdict in picked]
    rows[1]["review"] += " fair" * 9  # too long
    return rows


def marked(count: int = 40) -> list[dict]:
    """Texts in which the name at their end is marked."""
    told = "the {} in the town was not made by any of the others but by {}"
    texts = [told.format(THINGS[n % 2], MAKERS[n % 4]) for n in range(count)]
    return [{"text": text, "spans": [[text.rindex(" ") + 1, len(text)]]} for text in texts]


def write_files(folder: Path) -> Path:
    """Write all the files that the small runs read, and a T5 and a BERT to start from."""
    write_lines = lambda name, rows: (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_lines("questions.jsonl", questions())
    write_lines("answered.jsonl", questions(unanswerable=False))
    write_lines("labelled.jsonl", labelled())
    write_lines("marked.jsonl", marked())
    write_lines("puns.jsonl", [{"text": f"{n} or so", "pun": n % 2} for n in range(20)])
    words = ["ab", "ba", "abba"] * 4
    write_lines("shouts.jsonl", [{"id": f"s{n}", "text": word, "loud": word.upper()} for n, word in enumerate(words)])
    (folder / "puns.json").write_text(json.dumps({
        "name": "puns", "input": "is it a pun: {text}", "target": "pun", "labels": {"0": "no", "1": "yes"},
        "metrics": ["matthews"], "train": str(folder / "puns.jsonl"),
    }))  # fmt: skip
    rng = np.random.default_rng(1)
    sentence = lambda: f"The {rng.choice(THINGS)} in the town was made by {rng.choice(MAKERS)}."
    documents = ["\n".join(sentence() for _ in range(4)) for _ in range(30)]
    (folder / "texts.txt").write_text("\n\n".join(documents) + "\n")
    (folder / "t5.json").write_text(json.dumps(T5_SIZES))
    (folder / "bert.json").write_text(json.dumps(BERT_SIZES))
    (folder / "vocab.txt").write_text("\n".join([*SPECIALS, *WORDS]) + "\n")
    sentencepiece = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"))
    save_pretrained(random_model(T5, T5Config(vocab_size=1152, **T5_SIZES)), folder / "t5", sentencepiece)
    save_bert(folder / "bert", WordPieceTokenizer(folder / "vocab.txt"))
    return folder


def save_bert(directory: Path, tokenizer: WordPieceTokenizer, **options: Any) -> Path:
    config = BertConfig(vocab_size=128, **BERT_SIZES)
    return save_pretrained(random_model(Bert, config, **options), directory, tokenizer)


def random_model(kind: type[nnx.Module], config: Any, **options: Any) -> nnx.Module:
    """A model with random parameters, made without compiling anything."""
    model, random = nnx.eval_shape(lambda: kind(config, rngs=nnx.Rngs(0), **options)), np.random.default_rng(0)
    empty = as_function(model)[1]
    draw = lambda path, leaf: 0.2 * random.normal(size=leaf.shape) + ("scale" in str(path[-1]))
    drawn = jax.tree_util.tree_map_with_path(draw, empty)
    return as_module(model, jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), drawn))


class Stop(Exception):
    """Raised by a test to leave a program on its way."""


def stop(*found: Any, **more: Any):
    raise Stop(*found)


def short(program: Program, folder: Path, **changes: Any) -> TrainingSettings:
    """The settings of a run of two steps without evaluation."""
    held_out = {"held_out_context": None} if program.family == "t5" and "held_out_context" in program.small else {}
    held_out["held_out"] = () if isinstance(program.small["held_out"], tuple) else None
    settings = program.make(folder)
    return replace(settings, **held_out | {"steps": 2, "epochs": None, "warmup": 0.0, "accumulate": 1} | changes)
