"""Asking a run: loaded and compiled once, loaded again when it has changed, refused where it cannot answer."""

import functools
import json
import math
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from tlqa_jax.checkpoints.bert_runs import save_wordpiece
from tlqa_jax.checkpoints.exchange import export_run, import_run
from tlqa_jax.checkpoints.runs import Checkpoints, save_threshold, save_vocabulary, start_run
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample
from tlqa_jax.inference import predictors as asking
from tlqa_jax.inference.generation_config import Method
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.bert_heads import BertForMaskedLM, BertForQuestionAnswering, BertForSequenceClassification
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.tasks.context_windows import question_rows
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import SPECIALS, WordPieceTokenizer

SIZES = dict(d_model=12, d_kv=4, d_ff=20, num_layers=1, num_heads=3)


def write_run(path: Path, *, program: str = "qa", change=lambda x: x, **training) -> Path:
    """A run as the training programs leave it, with random weights passed through `change`."""
    tokenizer = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"))
    config = T5Config(vocab_size=1152, **SIZES)
    record = {
        "program": program,
        "model": asdict(config),
        "training": {"input_length": 32, "target_length": 5} | training,
    }
    start_run(path, record)
    save_vocabulary(path, tokenizer)
    save(path, 1, change)
    return path


@functools.cache
def random_params():
    return as_function(T5(T5Config(vocab_size=1152, **SIZES), rngs=nnx.Rngs(0)))[1]


def save(path: Path, step: int, change) -> None:
    with Checkpoints(path) as checkpoints:
        checkpoints.save(step, {"params": jax.tree.map(change, random_params()), "step": np.int32(step)})


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return write_run(tmp_path_factory.mktemp("asking") / "run")


@pytest.fixture
def compilations():
    """The list of compilations since the test began."""
    seen = []

    def listen(event: str, duration: float, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            seen.append(duration)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield seen
    jax.monitoring.clear_event_listeners()


def test_a_second_question_neither_loads_nor_compiles(run, compilations, monkeypatch):
    asking._open_t5.cache_clear()
    first = asking.ask("Where was Mira born?", "Mira is from Oss.", run)
    assert compilations
    compilations.clear()
    monkeypatch.setattr(asking, "load_t5", lambda *_: pytest.fail("loaded again"))
    assert asking.ask("Where was Mira born?", "Mira is from Oss.", run=str(run)) == first
    other = asking.ask("What does Tom play?", run=run)  # other words, closed book: the same shapes
    assert compilations == []
    assert other.probability != first.probability


def test_a_run_trained_on_is_loaded_again(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    before = asking.open_run(copy)
    assert asking.open_run(copy) is before
    save(copy, 2, lambda x: 0 * x)  # all logits 0: every token has the probability 1/1152
    after = asking.open_run(copy)
    assert after is not before
    answer = asking.ask("Where was Mira born?", run=copy)
    assert answer.probability == pytest.approx(1152.0**-5) and answer.text == ""
    examples = [QAExample(str(i), "Where was Mira born?", ("Oss",) * (i % 2)) for i in range(5)]
    assert after.loss(examples, batch_size=3) == pytest.approx(math.log(1152), abs=1e-5)


def test_many_answers_are_those_of_one_by_one(run):
    questions = ["Where was Mira born?", "Who is Tom?", "What does Ann play, and where?"]
    contexts = ["Mira is from Oss.", None, "Ann plays the flute."]
    examples = [QAExample(str(i), q, ("gold",), c) for i, (q, c) in enumerate(zip(questions, contexts))]
    many = asking.open_run(run)(examples)
    for given, question, context in zip(many, questions, contexts):
        alone = asking.ask(question, context, run)
        assert (given.text, given.context_cut) == (alone.text, alone.context_cut)
        assert given.probability == pytest.approx(alone.probability, rel=1e-4)
    closed = asking.open_run(run)(examples, use_context=False)
    assert closed[0].probability == pytest.approx(asking.ask(questions[0], run=run).probability, rel=1e-4)
    assert closed[0].probability != many[0].probability


def test_a_long_context_is_read_through_windows_and_none_of_it_is_cut(run, compilations):
    long, short = (asking.ask("Where?", "Mira is from Oss. " * n, run) for n in (40, 1))
    assert long.windows > 20 and short.windows == 1
    assert not long.context_cut and not short.context_cut
    compilations.clear()
    asking.ask("Where?", "Mira is from Oss. " * 30, run)
    assert compilations == []


def test_a_fact_behind_the_end_of_the_input_counts(run):
    """The answer to a long context is that of one of its windows asked alone: of the one with most confidence."""
    opened = asking.open_run(run)
    context = "Mira is from Oss. Tom plays the flute in Wick and the drum at home. Ann, a clockmaker, is 40 years old."
    answer = opened([QAExample("q", "Where?", (), context)])[0]
    assert 2 <= answer.windows <= 8
    rows = question_rows(
        opened.tokenizer, [QAExample("q", "Where?", (), context)], input_length=32, stride=32 // 3
    )
    written = opened._writer(Method(), None)(opened.params, rows.inputs, rows.lengths)
    probabilities = [texts[0].probability for texts in written if texts[0].text]
    assert len(rows.inputs) == answer.windows and answer.probability == pytest.approx(max(probabilities), rel=1e-5)


def test_ways_of_writing(run):
    ask = partial(asking.ask, "Where was Mira born?", "Mira is from Oss.", run)
    greedily, best, drawn = ask(), ask(beams=3, length_penalty=0.0), ask(temperature=5.0, seed=1)
    assert best.probability >= greedily.probability * 0.999
    assert drawn == ask(temperature=5.0, seed=1) != ask(temperature=5.0, seed=2)
    for answer in (greedily, best, drawn):
        assert len(answer.pieces) == len(answer.token_probabilities) <= 5
        assert math.prod(answer.token_probabilities) == pytest.approx(answer.probability, rel=1e-4)
    threshold = greedily.no_answer_score
    assert ask(threshold=threshold + 0.1) == greedily
    assert ask(threshold=threshold - 0.1) == greedily._replace(text="")
    with pytest.raises(UserError, match="--threshold is nan: it has to be a number"):
        ask(threshold=math.nan)
    with pytest.raises(UserError, match="beams is 0"):
        ask(beams=0)


def test_another_seed_compiles_nothing_and_keeps_nothing(run, compilations):
    ask = partial(asking.ask, "Where was Mira born?", "Mira is from Oss.", run, temperature=5.0)
    answers = [ask(seed=11)]
    written = asking.generate(["Mira plays."], run, temperature=5.0, seed=11)
    steps = list(asking.open_t5(run).stream("Mira plays.", Method(temperature=5.0, seed=11)))
    assert "".join(grown for grown, _, _ in steps).strip() == written[0][0].text
    kept = len(asking.open_run(run).compiled)
    compilations.clear()
    answers += [ask(seed=seed) for seed in (12, 13)]
    other = asking.generate(["Mira plays."], run, temperature=5.0, seed=12)
    others = list(asking.open_t5(run).stream("Mira plays.", Method(temperature=5.0, seed=12)))
    assert compilations == [] and len(asking.open_run(run).compiled) == kept
    assert len(set(answers)) == 3 and other != written and others != steps
    assert "".join(grown for grown, _, _ in others).strip() == other[0][0].text


def test_answers_and_texts_are_written_by_one_writer(run, compilations):
    asking._open_t5.cache_clear()
    asking.ask("Where was Mira born?", "Mira is from Oss.", run)
    compilations.clear()
    asking.generate(["Mira plays."], run)
    assert compilations == []


def test_beams_are_not_streamed(run):
    with pytest.raises(UserError, match="beams is 2: a text that is shown while it is written has one beam"):
        list(asking.open_t5(run).stream("Mira plays.", Method(beams=2)))


def test_a_run_keeps_its_threshold(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    answer = asking.ask("Where was Mira born?", "Mira is from Oss.", copy)
    save_threshold(copy, answer.no_answer_score - 0.1)
    assert asking.ask("Where was Mira born?", "Mira is from Oss.", copy) == answer._replace(text="")
    assert asking.ask("Where was Mira born?", "Mira is from Oss.", copy, threshold=math.inf) == answer


def test_generating(run, berts):
    texts = ["Mira plays <extra_id_0>.", "Tom <extra_id_0> in Oss, and Ann <extra_id_1>."]
    first, second = asking.generate(texts, run, max_length=7)
    assert len(first) == len(second) == 1 and first != second
    assert asking.generate([], run) == []
    many = asking.generate(texts, run, max_length=7, n=3, beams=4)
    assert [len(written) for written in many] == [3, 3]
    steps = list(asking.open_t5(run).stream(texts[1], max_length=7))
    assert "".join(grown for grown, _, _ in steps).strip() == second[0].text
    assert tuple(piece for _, piece, _ in steps) == second[0].pieces
    assert [p for *_, p in steps] == pytest.approx(second[0].token_probabilities, rel=1e-4)
    with pytest.raises(UserError, match="a text of .* tokens is too long for .*, which reads 32"):
        asking.generate(["Mira " * 80], run)
    for length in (0, -1):
        for write in (asking.generate, lambda texts, run, **options: asking.open_t5(run).stream(texts[0], **options)):
            with pytest.raises(UserError, match=f"max_length is {length}: it has to be at least 1"):
                write(texts, run, max_length=length)
    with pytest.raises(UserError, match="'Mira' is a text, and a list of texts is wanted here"):
        asking.generate("Mira", run)
    with pytest.raises(UserError, match="holds a BERT, and a T5 is wanted"):
        asking.generate(texts, berts["spans"])
    with pytest.raises(UserError, match="points at answers and writes none"):
        asking.ask(QUESTION, CONTEXT, berts["spans"], beams=2)


def test_a_quickstart_is_asked_through_its_main_run(run, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"main": "finetuned"}))
    (tmp_path / "finetuned").symlink_to(run)
    assert asking.ask("Where was Mira born?", run=tmp_path) == asking.ask("Where was Mira born?", run=run)


def test_a_run_that_was_only_pretrained_is_refused(tmp_path):
    with pytest.raises(UserError, match="not taught to answer: `tlqa finetune-qa --start-from"):
        asking.ask("Where?", run=write_run(tmp_path / "spans", program="span_corruption", questions_share=0.0))
    mixed = write_run(tmp_path / "mixed", program="span_corruption", questions_share=0.5)
    assert asking.open_run(mixed).path == mixed


@pytest.mark.parametrize(
    "question, name, message",
    [
        (" ", None, "the question is empty"),
        ("Where?", "nowhere", "nowhere is not a run: there is no such directory"),
        ("Where? " * 80, None, "takes .* tokens"),
    ],
)
def test_what_cannot_be_asked(question, name, message, run, tmp_path):
    with pytest.raises(UserError, match=message):
        asking.ask(question, run=tmp_path / name if name else run)


def test_the_package_offers_its_names_lazily():
    import tlqa_jax

    assert tlqa_jax.ask is asking.ask
    assert tlqa_jax.T5 is T5 and tlqa_jax.UserError is UserError
    assert set(tlqa_jax.__all__) <= set(dir(tlqa_jax))
    renamed = {"pretrain_mlm": "pretrain"} | dict.fromkeys(
        ("finetune_tasks", "finetune_spans", "finetune_classifier"), "finetune"
    )
    for name in tlqa_jax.__all__:
        assert getattr(tlqa_jax, name).__name__ == renamed.get(name, name)
    programs = {tlqa_jax.finetune: "qa", tlqa_jax.finetune_spans: "extractive_qa"}
    programs[tlqa_jax.finetune_classifier] = "classification"
    assert all(program.__module__ == f"tlqa_jax.training.{home}" for program, home in programs.items())
    with pytest.raises(AttributeError, match="no attribute 'Elmo'"):
        _ = tlqa_jax.Elmo
    code = "import sys, tlqa_jax\nheavy = lambda: len(sys.modules.keys() & {'jax', 'flax', 'numpy'})\n"
    code += "assert not heavy(), 1; tlqa_jax.UserError; assert not heavy(), 2; tlqa_jax.T5; assert heavy() == 3, 3"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_choice_that_is_not_known_is_refused(tmp_path):
    """In a process of its own: here annotations are checked before the package can say anything."""
    folder = export_run(write_bert(tmp_path / "run", BertForMaskedLM), tmp_path / "hf")
    code = """
import sys
from flax import nnx
from tlqa_jax import BertConfig, Bert, Method, T5, T5Config, T5Encoder, UserError, from_pretrained
rngs = nnx.Rngs(0)
for call in (
    lambda: T5(T5Config.tiny(), rngs=rngs, attention="causal"),
    lambda: T5Encoder(T5Config.tiny(), rngs=rngs, attention="flash"),
    lambda: Bert(BertConfig.tiny(), rngs=rngs, attention="flash"),
    lambda: from_pretrained(sys.argv[1], attention="flash"),
    lambda: Method(beams=2, early_stopping="nevr"),
):
    try:
        call()
        print("taken")
    except UserError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True)
    assert done.stdout.splitlines() == [
        "attention is 'causal'; known are plain, fused",
        "attention is 'flash'; known are plain, fused",
        *["attention is 'flash'; known are plain, fused, causal"] * 2,
        "early-stopping is nevr: it has to be False, True or 'never'",
    ], done.stderr


def test_gold_answers_do_not_reach_the_model(run):
    example = QAExample("1", "Where was Mira born?", ("Oss",), "Mira is from Oss.")
    opened = asking.open_run(run)
    assert opened([example]) == opened([replace(example, answers=("Wick",) * 9)])


# --- a BERT


WORDS = ["who", "made", "the", "clock", "lamp", "?", ".", "was", "by", "oss", "ull", "ann", "bo"]
BERT = BertConfig(
    vocab_size=24, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=20,
    max_position_embeddings=40, id2label=("clock", "lamp"),
)  # fmt: skip
LENGTHS = {"input_length": 40, "stride": 13, "max_question_length": 6, "max_answer_length": 30}
QUESTION, CONTEXT = "who made the lamp ?", "the clock was made by ull . " * 6 + "the lamp was made by oss ."


def write_bert(path: Path, kind: type, change=lambda x: x, **training) -> Path:
    """A run as the BERT programs leave it, with random weights passed through `change`."""
    vocabulary = path.with_suffix(".txt")
    vocabulary.write_text("\n".join([*SPECIALS, *WORDS]) + "\n")
    record = {"program": "a BERT's", "architecture": kind.__name__, "model": asdict(BERT), "training": training}
    start_run(path, record)
    save_wordpiece(path, WordPieceTokenizer(vocabulary))
    model = kind(BERT, rngs=nnx.Rngs(1))
    with Checkpoints(path) as checkpoints:
        checkpoints.save(1, {"params": jax.tree.map(change, as_function(model)[1])})
    return path


@pytest.fixture(scope="module")
def berts(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("berts")
    return {
        "spans": write_bert(folder / "spans", BertForQuestionAnswering, **LENGTHS),
        "classes": write_bert(folder / "classes", BertForSequenceClassification, input_length=8),
        "mlm": write_bert(folder / "mlm", BertForMaskedLM),
    }


def test_a_bert_points_at_its_answer_in_a_long_context(berts):
    answer = asking.ask(QUESTION, CONTEXT, berts["spans"])
    assert answer.text and answer.text == CONTEXT[answer.start : answer.start + len(answer.text)]
    assert not answer.context_cut and not answer.question_cut
    assert asking.ask(QUESTION * 2, CONTEXT, berts["spans"]).question_cut
    examples = [QAExample(str(i), QUESTION, ("oss",) * i, CONTEXT[27 * i :]) for i in range(3)]
    opened = asking.open_run(berts["spans"])
    one_by_one = [asking.ask(QUESTION, example.context, berts["spans"]).text for example in examples]
    assert [given.text for given in opened(examples)] == one_by_one
    other_gold = [replace(example, answers=("ull",)) for example in examples]
    assert opened(examples) == opened(other_gold)


def test_a_hugging_face_directory_answers_like_the_run_it_was_made_of(berts, tmp_path):
    exported = export_run(berts["spans"], tmp_path / "hf")
    assert asking.ask(QUESTION, CONTEXT, exported) == asking.ask(QUESTION, CONTEXT, berts["spans"])
    exported = export_run(berts["classes"], tmp_path / "classes")
    assert asking.classify(["the lamp"], exported)[0] == asking.classify(["the lamp"], berts["classes"])[0]


def test_the_no_answer_threshold_of_a_run_is_kept_to(tmp_path):
    zero = write_bert(tmp_path / "run", BertForQuestionAnswering, lambda x: 0 * x, **LENGTHS)
    assert asking.ask(QUESTION, CONTEXT, zero).text == "the"  # all spans score 0, so does no answer; the first one wins
    save_threshold(zero, -0.5)
    assert asking.ask(QUESTION, CONTEXT, zero).text == ""
    exported = export_run(zero, tmp_path / "hf")
    again = import_run(exported, tmp_path / "again")
    assert asking.ask(QUESTION, CONTEXT, exported) == asking.ask(QUESTION, CONTEXT, zero)
    assert asking.ask(QUESTION, CONTEXT, again) == asking.ask(QUESTION, CONTEXT, zero)
    save_threshold(zero, 0.5)
    assert asking.ask(QUESTION, CONTEXT, zero).text == "the"
    examples = [QAExample(str(i), QUESTION, ("oss",) * (i % 2), CONTEXT) for i in range(3)]
    loss = asking.open_run(zero).loss(examples, batch_size=3)
    assert loss == pytest.approx(math.log(40), abs=1e-5)  # 40 places, all alike
    assert math.isnan(asking.open_run(zero).loss([replace(examples[1], answers=("wick",))]))


def test_texts_are_classified(berts):
    first, second = asking.classify(["the lamp", "who made the clock by the lamp ?"], berts["classes"])
    assert {first.label, second.label} <= {"clock", "lamp"} and (first.text_cut, second.text_cut) == (False, True)
    assert first.probability == pytest.approx(math.exp(max(first.log_probabilities)))


def test_what_a_bert_cannot_be_asked(berts, run, tmp_path):
    spans, text = asking.open_run(berts["spans"]), QAExample("q7", QUESTION, ())
    for call, message in (
        (lambda: asking.ask(QUESTION, run=berts["spans"]), r"spans points at answers in a context: give .* --context"),
        (lambda: spans([replace(text, context=" ")]), "give question 'q7' one"),
        (lambda: spans([text], use_context=False), "--closed-book is for a T5"),
        (lambda: asking.ask(QUESTION, CONTEXT, berts["classes"]), "classes names the classes of texts: `tlqa classify"),
        (lambda: asking.ask(QUESTION, CONTEXT, berts["mlm"]), "mlm was pretrained but not taught .*a BertForMaskedLM"),
        (lambda: asking.classify("a cat", berts["classes"]), "'a cat' is a text, and a list of texts is wanted here"),
        (lambda: asking.classify(["x"], berts["spans"]), "spans answers questions: `tlqa answer"),
        (lambda: asking.classify(["x"], run), "run answers questions"),
        (lambda: asking.classify(["x"], tmp_path), "is not a run"),
    ):
        with pytest.raises(UserError, match=message):
            call()
