"""Fine-tuning on spans: learns, resumes, cuts its batches as it likes; the scores of its answers by hand."""

import json
import shutil
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tlqa_jax.checkpoints.huggingface import save_pretrained
from tlqa_jax.checkpoints.runs import read_threshold
from tlqa_jax.commands.training import of_family
from tlqa_jax.data.sources import open_questions
from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample
from tlqa_jax.inference.answer_spans import Candidate, SpanAnswer, SpanAnswerer, span_logits
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.bert_heads import BertForQuestionAnswering
from tlqa_jax.models.functional import as_function
from tlqa_jax.tasks.extractive_qa import make_windows
from tlqa_jax.text.wordpiece import SPECIALS, WordPieceTokenizer
from tlqa_jax.training import finetune_spans as extractive_qa
from tlqa_jax.training.evaluation import score_answers
from tlqa_jax.training.finetune_spans import FinetuneSpansSettings, finetune_spans, make_train_step, span_loss
from tlqa_jax.training.initial_bert import taken_over

from .comparing import (
    assert_it_goes_on_without,
    assert_leaves_close,
    assert_same_arrays,
    final_state,
    rows,
    train,
    with_biases,
)  # fmt: skip

SIZES = dict(
    hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=20, max_position_embeddings=40
)
WORDS = ["who", "made", "the", "clock", "lamp", "in", "town", "?", ".", "was", "by", "oss", "ull", "ann", "bo", "##s"]
PAD = 0


def questions(count: int, unanswerable: bool = False) -> list[dict]:
    """ "who made the clock ?", to be found in a context longer than a window; every third has no answer, if wanted."""
    rng, rows = np.random.default_rng(0), []
    for number in range(count):
        makers = rng.permutation(["oss", "ull", "ann", "bo"])[:2].tolist()
        things = rng.permutation(["clock", "lamp"]).tolist()
        told = [f"the {thing} in the town was made by {maker} ." for thing, maker in zip(things, makers)]
        silent = unanswerable and number % 3 == 0
        context = " ".join(told[: 1 if silent else 2])
        question = f"who made the {things[1]} ?"
        answers = [] if silent else [{"text": makers[1], "answer_start": context.index(makers[1])}]
        rows.append({"id": f"q{number}", "question": question, "context": context, "answers": answers})
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("spans")
    (folder / "vocab.txt").write_text("\n".join([*SPECIALS, *WORDS]) + "\n")
    (folder / "model.json").write_text(json.dumps(SIZES))
    for name, unanswerable in (("v1", False), ("v2", True)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions(24, unanswerable)))
    return folder


@pytest.fixture(scope="module")
def finetuning(folder):
    """A short run with everything in it: several windows, accumulation, dropout, a checkpoint on the way."""
    config = FinetuneSpansSettings(
        out=str(folder / "run"), questions=str(folder / "v2.jsonl"), held_out=str(folder / "v2.jsonl"),
        vocabulary=str(folder / "vocab.txt"), model=str(folder / "model.json"),
        input_length=24, stride=8, max_question_length=6, max_answer_length=3, n_best=4, epochs=4.0, batch_size=16,
        accumulate=2, learning_rate=0.02, log_every=1, evaluate_every=4, save_every=5,
    )  # fmt: skip
    finetune_spans(config, quiet=True)
    return config


def test_it_learns_and_leaves_a_whole_run_behind(folder, finetuning):
    run = folder / "run"
    losses = [row["loss"] for row in rows(run) if "loss" in row]
    assert len(losses) == 10  # 8 questions of 1 window, 16 of 2: 40 windows, 4 times, 16 at once
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.3
    last = rows(run)[-1]
    assert {
        "eval_loss", "eval_em", "eval_f1", "eval_f1_low", "eval_no_answer_threshold", "eval_NoAns_f1",
    } <= last.keys()  # fmt: skip
    assert {path.name for path in run.iterdir()} == {
        "config.json", "vocab.txt", "checkpoints", "metrics.jsonl", "curves.png", "predictions.json",
        "nbest_predictions.json", "no_answer.json",
    }  # fmt: skip
    read = lambda name: json.loads((run / f"{name}.json").read_text())
    predictions, n_best = read("predictions"), read("nbest_predictions")
    assert read_threshold(run) == last["eval_no_answer_threshold"]
    assert predictions.keys() == n_best.keys() == {f"q{number}" for number in range(24)}
    assert all(text in [candidate["text"] for candidate in n_best[id]] for id, text in predictions.items())
    assert all("" in [candidate["text"] for candidate in candidates] for candidates in n_best.values())
    tokenizer = WordPieceTokenizer(run / "vocab.txt")
    assert tokenizer.pieces("Who made") == ["who", "made"]


def test_a_run_that_stopped_and_resumed_equals_the_one_that_did_not(folder, finetuning):
    stopped = replace(finetuning, out=str(folder / "stopped"))
    shutil.copytree(folder / "run", folder / "stopped")
    shutil.rmtree(folder / "stopped" / "checkpoints" / "10")  # as if killed between the two checkpoints
    finetune_spans(replace(stopped, resume=True), quiet=True)
    assert_same_arrays(final_state(folder / "stopped"), final_state(folder / "run"))
    assert [{**row, "tokens_per_second": 0} for row in rows(folder / "run")] == [
        {**row, "tokens_per_second": 0} for row in rows(folder / "stopped")
    ]


def test_a_run_goes_on_without_what_it_started_from(folder, finetuning):
    start = shutil.copytree(folder / "run", folder / "start")
    config = replace(finetuning, out=str(folder / "orphan"), start_from=str(start), epochs=None, steps=2, save_every=1)
    assert_it_goes_on_without(start, finetune_spans, config)
    flags = ["--start-from", str(start), "--out", config.out]
    assert of_family("finetune-qa", ["--resume", *flags]) == "finetune-spans"  # a BERT's run, as it says itself


def test_what_cannot_work_is_refused_before_anything_is_compiled(folder, finetuning):
    for changes, message in (
        (dict(vocabulary=None), "give --start-from, a pretrained BERT, or --vocabulary"),
        (dict(stride=15), "--input-length 24 leaves 15 tokens of context"),
        (dict(stride=-1), "--stride is -1"),
        (dict(epochs=1e308), r"--epochs is 1e\+308: it has to be above 0 and at most 1000000"),
        (dict(warmup_share=2.0), "--warmup-share is 2.0"),
        (dict(input_length=48), "--input-length 48: this model reads at most 40 tokens"),
        (dict(questions=None), "give --questions"),
        (dict(out=finetuning.out), "is already in use"),
    ):
        with pytest.raises(UserError, match=message):
            finetune_spans(replace(finetuning, **{"out": str(folder / "refused"), **changes}), quiet=True)
    assert not (folder / "refused").exists()


CONFIG = BertConfig(vocab_size=24, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **SIZES)
APPLY, PARAMS = as_function(BertForQuestionAnswering(CONFIG, rngs=nnx.Rngs(0)))
PREDICT = partial(span_logits, APPLY, PAD)


@pytest.fixture(scope="module")
def examples(folder):
    return list(open_questions(folder / "v2.jsonl"))[:16]


@pytest.fixture(scope="module")
def tokenizer(folder):
    return WordPieceTokenizer(folder / "vocab.txt")


def test_loss_and_gradients_do_not_depend_on_how_the_batch_is_cut(tokenizer, examples):
    batch = make_windows(tokenizer, examples, input_length=24, stride=8, max_question_length=6).batch(np.arange(16))

    params = with_biases(PARAMS)
    step = partial(train, make_train_step, PREDICT, params, batch, optimizer=optax.sgd(0.1))
    whole = step()
    # by hand: the mean over the rows of the mean of two
    batch = jax.tree.map(jnp.asarray, batch)
    start, end = (jax.nn.log_softmax(x) for x in PREDICT(params, batch["tokens"], batch["token_types"]))
    each = [float(-(start[i, batch["start"][i]] + end[i, batch["end"][i]]) / 2) for i in range(16)]
    assert whole.losses == pytest.approx([np.mean(each)], rel=1e-5)
    assert np.asarray(span_loss(PREDICT, params, batch)) == pytest.approx(each, rel=1e-5)
    for devices, accumulation in ((8, 1), (2, 4)):
        cut = step(devices, accumulation)
        assert cut.losses == pytest.approx(whole.losses, rel=1e-6)
        layer = "encoder/layer_0"
        move_all_alike = [f"{layer}/attention/key_bias", f"{layer}/feed_forward_norm/bias", "span/bias"]
        assert_leaves_close(cut.gradients, whole.gradients, 3e-6, zero=move_all_alike)
        assert_leaves_close(cut.params, whole.params, 1e-6)


def test_evaluation_does_not_depend_on_batch_size_or_devices(tokenizer, examples, monkeypatch):
    lengths = dict(input_length=24, stride=8, max_question_length=6)
    found = []
    for devices, batch_size in ((8, 8), (8, 24), (1, 3)):
        monkeypatch.setattr(jax, "local_device_count", lambda devices=devices: devices)
        answerer = SpanAnswerer(APPLY, tokenizer, **lengths, batch_size=batch_size, no_answer_threshold=np.inf)
        found.append(answerer(PARAMS, examples))
    for answers in found[1:]:
        assert [answer.text for answer in answers] == [answer.text for answer in found[0]]
        scores = [answer.no_answer_score for answer in answers]
        np.testing.assert_allclose(scores, [answer.no_answer_score for answer in found[0]], rtol=1e-4, atol=1e-6)


def answer(text: str, no_answer_score: float) -> SpanAnswer:
    return SpanAnswer(text, 1.0, 0, (Candidate(text, 0, 1.0, 0.0),), no_answer_score, False)


def test_scores_of_answers_by_hand():
    asked = [QAExample("a", "?", ("x",), "x y"), QAExample("b", "?", (), "x y"), QAExample("c", "?", ("x y",), "x y")]
    given = [answer("x", -3.0), answer("y", 2.0), answer("x", 1.0)]
    scores, predictions = score_answers(asked, given)
    assert predictions == {"a": "x", "b": "", "c": "x"}
    assert scores["no_answer_threshold"] == 1.0
    assert (scores["em"], scores["f1"]) == (pytest.approx(200 / 3), pytest.approx(800 / 9))
    assert (scores["HasAns_exact"], scores["NoAns_f1"]) == (50.0, 100.0)
    scores, predictions = score_answers(asked[::2], given[::2])
    assert scores.keys() == {"em", "f1", "f1_low", "f1_high"} and predictions["c"] == "x"


def test_pretrained_parts_are_taken_over_and_another_task_s_head_is_not():
    fresh = {"encoder": {"word": 0, "norm": 0}, "span": {"matrix": 0}}
    assert taken_over(fresh, {"encoder": {"word": 1, "norm": 2, "pooler": 3}, "masked_lm": {"bias": 4}}) == {
        "encoder": {"word": 1, "norm": 2}, "span": {"matrix": 0}
    }  # fmt: skip
    encoder = as_function(Bert(CONFIG, rngs=nnx.Rngs(1)))[1]
    params = taken_over(PARAMS, {"encoder": encoder})
    assert params["encoder"]["layer_0"] is not PARAMS["encoder"]["layer_0"]
    assert np.array_equal(params["encoder"]["embeddings"]["word"]["table"], encoder["embeddings"]["word"]["table"])
    assert jax.tree.structure(params) == jax.tree.structure(PARAMS)


def test_a_run_starts_from_a_hugging_face_directory(folder, finetuning):
    tokenizer = WordPieceTokenizer(folder / "vocab.txt")
    encoder = Bert(CONFIG, rngs=nnx.Rngs(7), attention="causal")
    save_pretrained(encoder, folder / "hf", tokenizer)
    started = replace(
        finetuning, out=str(folder / "started"), start_from=str(folder / "hf"), vocabulary=None, held_out=None,
        epochs=None, steps=1, learning_rate=1e-9, dropout=0.0, weight_decay=0.0,
    )  # fmt: skip
    state = final_state(finetune_spans(started, quiet=True))
    table = encoder.embeddings.word.table[...]
    np.testing.assert_allclose(state["params/encoder/embeddings/word/table"], table, atol=1e-8)
    config = json.loads((folder / "started" / "config.json").read_text())
    assert config["training"]["attention"] == "causal" and read_threshold(folder / "started") == 0.0
    assert config["training"]["steps"] == 1 and config["training"]["epochs"] is None


def test_what_was_learned_of_no_answer_counts_where_no_held_out_question_lacks_one(folder, finetuning):
    """The questions of `held_out` all have answers, those of `questions` do not: there is nothing to tune on."""
    config = replace(finetuning, epochs=None, steps=1, held_out=str(folder / "v1.jsonl"), evaluate_every=1, n_best=2)
    run = finetune_spans(replace(config, out=str(folder / "untuned")), quiet=True)
    assert read_threshold(run) == 0.0 and "eval_no_answer_threshold" not in rows(run)[-1]
    n_best = json.loads((run / "nbest_predictions.json").read_text())
    assert all("" in [candidate["text"] for candidate in candidates] for candidates in n_best.values())
    run = finetune_spans(replace(config, out=str(folder / "always"), questions=str(folder / "v1.jsonl")), quiet=True)
    assert read_threshold(run) is None


def test_a_batch_is_no_longer_than_the_longest_window(folder, finetuning, monkeypatch):
    class Stop(Exception):
        pass

    def first_batch(size, batch_size, seed, build, *, start):
        raise Stop(build(np.arange(batch_size))["tokens"].shape)

    monkeypatch.setattr(extractive_qa, "training_batches", first_batch)
    with pytest.raises(Stop) as stopped:
        finetune_spans(replace(finetuning, out=str(folder / "short"), input_length=40), quiet=True)
    assert stopped.value.args[0] == (16, 32)
