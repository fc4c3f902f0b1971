"""Predictors: loaded and compiled once, loaded again when the files change, refused where the model cannot do it."""

import math
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import pytest
from flax import nnx

from tlqa_jax.checkpoints.load import Pretrained, load
from tlqa_jax.checkpoints.save import copy_pretrained, save_pretrained, update_usage, write_weights
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample, TextExample
from tlqa_jax.inference import predictors
from tlqa_jax.inference.generation_config import GenerationConfig
from tlqa_jax.inference.predictors import SpanPredictor, T5Predictor, TextClassifier, ask, classify, generate, open_model
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.bert_heads import BertForMaskedLM, BertForQuestionAnswering, BertForSequenceClassification
from tlqa_jax.models.t5 import T5, T5Config, T5Encoder
from tlqa_jax.tasks.context_windows import question_rows
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import SPECIALS, WordPieceTokenizer

SIZES = dict(vocab_size=1152, d_model=12, d_kv=4, d_ff=20, num_layers=1, num_heads=3)
BEAMS = dict(num_beams=3, num_return_sequences=3, length_penalty=0.0)
ASKED = "Where was Mira born?", "Mira is from Oss."


@pytest.fixture(scope="module")
def small_t5(random_model) -> T5:
    return random_model(lambda: T5(T5Config(**SIZES), rngs=nnx.Rngs(0)), deviation=0.3)


def zeros(model: nnx.Module) -> nnx.Module:
    graph, params = nnx.split(model)
    return nnx.merge(graph, jax.tree.map(lambda x: 0 * x, params))


@pytest.fixture(scope="module")
def run(small_t5, tmp_path_factory) -> Path:
    """A T5 as a training program leaves it."""
    path = tmp_path_factory.mktemp("inference") / "run"
    tokenizer = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"))
    return save_pretrained(small_t5, path, tokenizer, usage={"input_length": 32, "target_length": 5})


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


# --- a T5


def test_a_second_question_neither_loads_nor_compiles(run, compilations, monkeypatch):
    first = ask(*ASKED, run)
    assert compilations
    compilations.clear()
    monkeypatch.setattr(Pretrained, "model", lambda *_: pytest.fail("loaded again"))
    assert ask(*ASKED, run=str(run)) == first
    other = ask("What does Tom play?", run=run)  # other words, closed book: the same shapes
    assert other.probability != first.probability
    generate(["Mira plays."], run)  # answers and texts come from one generator
    assert compilations == []


def test_many_answers_are_those_of_one_by_one(run):
    questions = ["Where was Mira born?", "Who is Tom?", "What does Ann play, and where?"]
    contexts = ["Mira is from Oss.", None, "Ann plays the flute."]
    examples = [QAExample(str(i), q, ("gold",), c) for i, (q, c) in enumerate(zip(questions, contexts))]
    many = open_model(run)(examples)
    for given, question, context in zip(many, questions, contexts):
        alone = ask(question, context, run)
        assert (given.text, given.context_cut) == (alone.text, alone.context_cut)
        assert given.probability == pytest.approx(alone.probability, rel=1e-4)
    closed = open_model(run)(examples, use_context=False)
    assert closed[0].probability == pytest.approx(ask(questions[0], run=run).probability, rel=1e-4)
    assert closed[0].probability != many[0].probability
    assert open_model(run)([replace(example, answers=("Wick",) * 9) for example in examples]) == many


def test_a_long_context_is_read_through_windows_and_none_of_it_is_cut(run, compilations):
    long, short = (ask("Where?", "Mira is from Oss. " * n, run) for n in (40, 1))
    assert long.windows > 20 and short.windows == 1
    assert not long.context_cut and not short.context_cut
    compilations.clear()
    ask("Where?", "Mira is from Oss. " * 30, run)
    assert compilations == []


def test_a_fact_behind_the_end_of_the_input_counts(run):
    """The answer to a long context is that of one of its windows alone: of the one with the highest probability."""
    opened = open_model(run)
    context = "Mira is from Oss. Tom plays the flute in Wick and the drum at home. Ann, a clockmaker, is 40 years old."
    example = QAExample("q", "Where?", (), context)
    [answer] = opened([example])
    assert 2 <= answer.windows <= 8
    rows = question_rows(opened.tokenizer, [example], input_length=32, stride=32 // 3)
    generated = opened._generator(GenerationConfig())(opened.params, rows.inputs, rows.lengths)
    probabilities = [texts[0].probability for texts in generated if texts[0].text]
    assert len(rows.inputs) == answer.windows and answer.probability == pytest.approx(max(probabilities), rel=1e-5)


def test_ways_to_generate(run):
    asked = partial(ask, *ASKED, run)
    greedily, best, sampled = asked(), asked(**BEAMS), asked(temperature=5.0, seed=1)
    assert best.probability >= greedily.probability * 0.999
    assert sampled == asked(temperature=5.0, seed=1) != asked(temperature=5.0, seed=2)
    for answer in (greedily, best, sampled):
        assert len(answer.pieces) == len(answer.token_probabilities) <= 5
        assert math.prod(answer.token_probabilities) == pytest.approx(answer.probability, rel=1e-4)
    threshold = greedily.no_answer_score
    assert asked(threshold=threshold + 0.1) == greedily
    assert asked(threshold=threshold - 0.1) == greedily._replace(text="")
    with pytest.raises(UserError, match="--threshold is nan: it has to be a number"):
        asked(threshold=math.nan)
    with pytest.raises(UserError, match="--num-beams is 0"):
        asked(num_beams=0)
    with pytest.raises(UserError, match="--num-beams is 2: a text that is streamed has one beam"):
        list(open_model(run).stream("Mira plays.", GenerationConfig(num_beams=2)))


def test_another_seed_compiles_nothing_and_keeps_nothing(run, compilations):
    def texts(seed: int):
        """An answer, a generated text, and the steps of a stream."""
        settings = dict(temperature=5.0, seed=seed)
        [[text]] = generate(["Mira plays."], run, **settings)
        steps = list(open_model(run).stream("Mira plays.", GenerationConfig(**settings)))
        assert "".join(added for added, _, _ in steps).strip() == text.text
        return ask(*ASKED, run, **settings), text, steps

    first, kept = texts(11), len(open_model(run)._generators)
    compilations.clear()
    second, third = texts(12), texts(13)
    assert compilations == [] and len(open_model(run)._generators) == kept
    assert all(a != b != c != a for a, b, c in zip(first, second, third))


def test_generating(run, berts):
    texts = ["Mira plays <extra_id_0>.", "Tom <extra_id_0> in Oss, and Ann <extra_id_1>."]
    first, second = generate(texts, run, max_new_tokens=7)
    assert len(first) == len(second) == 1 and first != second
    assert generate([], run) == []
    many = generate(texts, run, **BEAMS)
    assert [len({one.pieces for one in generated}) for generated in many] == [3, 3]
    assert all(one.probability >= two.probability for generated in many for one, two in zip(generated, generated[1:]))
    steps = list(open_model(run).stream(texts[1], GenerationConfig(max_new_tokens=7)))
    assert "".join(added for added, _, _ in steps).strip() == second[0].text
    assert tuple(piece for _, piece, _ in steps) == second[0].pieces
    assert [p for *_, p in steps] == pytest.approx(second[0].token_probabilities, rel=1e-4)
    [predicted] = open_model(run).predict([TextExample("t", texts[0], "", ())])
    assert predicted.pieces == generate(texts[:1], run)[0][0].pieces and not predicted.context_cut
    for call, message in (
        (lambda: generate(["Mira " * 80], run), "a text of .* tokens is too long for .*, which reads 32"),
        (lambda: generate(["Mira"], run, max_new_tokens=-1), "--max-new-tokens is -1: it has to be at least 1"),
        (lambda: generate("Mira", run), "'Mira' is a text, and a list of texts is expected here"),
        (lambda: generate(texts, berts["spans"]), "is a BertForQuestionAnswering, and only a T5 or a causal BERT .* generates text"),
        (lambda: open_model(run).task("sums"), "has no task 'sums': it has none"),
    ):
        with pytest.raises(UserError, match=message):
            call()


@pytest.mark.parametrize(
    "question, name, message",
    [
        (" ", None, "the question is empty"),
        ("Where?", "nowhere", "nowhere: there is no such directory"),
        ("Where? " * 80, None, "takes .* tokens"),
    ],
)
def test_what_cannot_be_asked(question, name, message, run, tmp_path):
    with pytest.raises(UserError, match=message):
        ask(question, run=tmp_path / name if name else run)


def test_a_quickstart_is_asked_through_its_main_run(run, tmp_path):
    (tmp_path / "run.json").write_text('{"main": "finetuned"}')
    (tmp_path / "finetuned").symlink_to(run)
    assert open_model(tmp_path) is open_model(run)


def test_a_run_trained_on_is_loaded_again_and_keeps_its_threshold(small_t5, run, tmp_path):
    path = shutil.copytree(run, tmp_path / "run")
    before = open_model(path)
    assert open_model(path) is before
    write_weights(path, zeros(small_t5))  # all logits 0: every token has the probability 1/1152
    assert open_model(path) is not before
    answer = ask("Where was Mira born?", run=path)
    assert answer.probability == pytest.approx(1152.0**-5) and answer.text == ""
    update_usage(path, no_answer_threshold=30.0)  # 5 log 1152 is 35.2
    assert [open_model(path)._threshold(asked) for asked in (None, math.inf, 2.0)] == [30, math.inf, 2]


def test_a_run_that_was_only_pretrained_is_refused(run, tmp_path):
    path = shutil.copytree(run, tmp_path / "run")
    update_usage(path, answers=False)
    with pytest.raises(UserError, match="not trained to answer: `tlqa finetune-qa --start-from"):
        ask("Where?", run=path)
    task = {"name": "sums", "input": "sum: {text}", "target": "label", "metrics": ["accuracy"]}
    update_usage(path, answers=None, tasks={"sums": task})
    with pytest.raises(UserError, match="was not trained to answer questions; its tasks are sums"):
        ask("Where?", run=path)
    assert open_model(path).task("sums").input == "sum: {text}"


def test_the_package_offers_its_names_lazily():
    import tlqa_jax

    assert tlqa_jax.ask is ask and tlqa_jax.T5 is T5 and tlqa_jax.UserError is UserError
    assert set(tlqa_jax.__all__) <= set(dir(tlqa_jax))
    assert [getattr(tlqa_jax, name).__name__ for name in tlqa_jax.__all__] == tlqa_jax.__all__
    with pytest.raises(AttributeError, match="no attribute 'Elmo'"):
        _ = tlqa_jax.Elmo
    code = "import sys, tlqa_jax\nheavy = lambda: len(sys.modules.keys() & {'jax', 'flax', 'numpy'})\n"
    code += "assert not heavy(), 1; tlqa_jax.UserError; assert not heavy(), 2; tlqa_jax.T5; assert heavy() == 3, 3"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --- a BERT


WORDS = ["who", "made", "the", "clock", "lamp", "?", ".", "was", "by", "oss", "ull", "ann", "bo"]
BERT = BertConfig(
    vocab_size=24, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=20,
    max_position_embeddings=40, id2label=("clock", "lamp"),
)  # fmt: skip
LENGTHS = {"input_length": 40, "stride": 13, "max_question_length": 6, "max_answer_length": 30}
QUESTION, CONTEXT = "who made the lamp ?", "the clock was made by ull . " * 6 + "the lamp was made by oss ."


@pytest.fixture(scope="module")
def berts(random_model, tmp_path_factory) -> dict[str, Path]:
    """Runs as the BERT programs leave them."""
    folder = tmp_path_factory.mktemp("berts")
    (folder / "vocab.txt").write_text("\n".join([*SPECIALS, *WORDS]) + "\n")
    tokenizer = WordPieceTokenizer(folder / "vocab.txt")
    programs = {
        "spans": (BertForQuestionAnswering, LENGTHS),
        "classes": (BertForSequenceClassification, {"input_length": 8}),
        "mlm": (BertForMaskedLM, {}),
    }
    return {
        name: save_pretrained(random_model(lambda: kind(BERT, rngs=nnx.Rngs(0))), folder / name, tokenizer, usage=usage)
        for name, (kind, usage) in programs.items()
    }


def test_a_bert_finds_its_answer_in_a_long_context(berts, tmp_path):
    answer = ask(QUESTION, CONTEXT, berts["spans"])
    assert answer.text and answer.text == CONTEXT[answer.start : answer.start + len(answer.text)]
    assert not answer.question_cut
    assert ask(QUESTION * 2, CONTEXT, berts["spans"]).question_cut
    examples = [QAExample(str(i), QUESTION, ("oss",) * i, CONTEXT[27 * i :]) for i in range(3)]
    opened = open_model(berts["spans"])
    one_by_one = [ask(QUESTION, example.context, berts["spans"]).text for example in examples]
    assert [given.text for given in opened(examples)] == one_by_one
    other_gold = [replace(example, answers=("ull",)) for example in examples]
    assert opened(examples) == opened(other_gold)
    assert ask(QUESTION, CONTEXT, copy_pretrained(berts["spans"], tmp_path / "copy")) == answer


def test_the_no_answer_threshold_of_a_run_is_kept(berts, tmp_path):
    path = shutil.copytree(berts["spans"], tmp_path / "run")
    write_weights(path, zeros(load(path).model()))
    assert ask(QUESTION, CONTEXT, path).text == "the"  # all spans score 0, so does no answer; the first one wins
    update_usage(path, no_answer_threshold=-0.5)
    assert ask(QUESTION, CONTEXT, path).text == ""
    assert ask(QUESTION, CONTEXT, path, threshold=0.5).text == "the"


def test_texts_are_classified(berts):
    first, second = classify(["the lamp", "who made the clock by the lamp ?"], berts["classes"])
    assert {first.label, second.label} <= {"clock", "lamp"} and (first.text_cut, second.text_cut) == (False, True)
    assert first.probability == pytest.approx(math.exp(max(first.log_probabilities)))


def test_the_lengths_of_a_model_that_does_not_tell_them_are_its_familys(run, berts, tmp_path):
    for name, source in (("t5", run), ("spans", berts["spans"]), ("classes", berts["classes"])):
        path = shutil.copytree(source, tmp_path / name)
        update_usage(path, **dict.fromkeys(["target_length", *LENGTHS]))
        opened = open_model(path)
        if isinstance(opened, T5Predictor):
            assert (opened.input_length, opened.target_length) == (512, 32)
        elif isinstance(opened, SpanPredictor):
            wanted = {"input_length": 40, "stride": 13, "max_question_length": 6}
            assert opened.answerer.lengths == wanted and opened.answerer.max_answer_length == 30
        else:
            assert isinstance(opened, TextClassifier) and opened.classifier.input_length == 40
    assert len(predictors._OPENED) == 2  # no more models stay in memory


def test_what_a_model_cannot_do(random_model, berts, run, tmp_path):
    spans, text = open_model(berts["spans"]), QAExample("q7", QUESTION, ())
    encoder = save_pretrained(random_model(lambda: T5Encoder(T5Config(**SIZES), rngs=nnx.Rngs(0))), tmp_path / "encoder")
    for call, message in (
        (lambda: ask(QUESTION, run=berts["spans"]), r"spans finds answers in a context: give .* --context"),
        (lambda: spans([replace(text, context=" ")]), "give question 'q7' one"),
        (lambda: spans([text], use_context=False), "--closed-book is for a T5"),
        (lambda: ask(QUESTION, CONTEXT, berts["spans"], num_beams=2), "finds answers and generates none"),
        (lambda: ask(QUESTION, CONTEXT, berts["classes"]), "classes classifies texts: `tlqa classify"),
        (lambda: ask(QUESTION, CONTEXT, berts["mlm"]), "mlm was pretrained but not trained to .*a BertForMaskedLM"),
        (lambda: generate(["x"], encoder), "encoder is a T5EncoderModel, and only a T5 or a causal BERT"),
        (lambda: classify("a cat", berts["classes"]), "'a cat' is a text, and a list of texts is expected here"),
        (lambda: classify(["x"], berts["spans"]), "spans answers questions: `tlqa answer"),
        (lambda: classify(["x"], run), "run answers questions"),
        (lambda: classify(["x"], tmp_path), "has no config.json"),
    ):
        with pytest.raises(UserError, match=message):
            call()
