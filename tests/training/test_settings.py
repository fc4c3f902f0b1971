"""The settings of the programs: their limits, how long a run is, which of them a run's record keeps."""

import dataclasses
import json
import math

import pytest

from tlqa_jax.errors import UserError
from tlqa_jax.experiments.quickstart import QuickstartSettings
from tlqa_jax.fields import Settings, help_texts
from tlqa_jax.training.finetune_spans import FinetuneSpansSettings
from tlqa_jax.training.pretrain_mlm import PretrainMLMSettings
from tlqa_jax.training.pretrain_spans import PretrainSpansSettings
from tlqa_jax.training.settings import HOUSEKEEPING, TrainingSettings, fingerprints, recorded

from .programs import PROGRAMS

CLASSES = [program.settings for program in PROGRAMS.values()]


@pytest.mark.parametrize("kind", [*CLASSES, QuickstartSettings])
def test_every_setting_has_a_help_text_and_every_number_its_limits(kind):
    assert issubclass(kind, Settings) and kind() == kind()  # the defaults are of their types and within their limits
    texts = help_texts(kind)
    for field in dataclasses.fields(kind):
        assert texts.get(field.name, "").endswith("."), field.name
        if "int" in str(field.type) or "float" in str(field.type):
            assert "limits" in field.metadata, field.name


@pytest.mark.parametrize("kind", CLASSES)
def test_a_record_keeps_all_but_what_may_change_when_a_run_continues(kind):
    record = recorded(kind(out="elsewhere", log_every=3))
    assert record.keys() == {field.name for field in dataclasses.fields(kind)} - set(HOUSEKEEPING)
    assert not {"out", "log_every", "overwrite"} & record.keys() and record["learning_rate"] == kind().learning_rate


@pytest.mark.parametrize("kind, changes, message", [
    (TrainingSettings, {"batch_size": 0}, "--batch-size is 0: it has to be at least 1"),
    (TrainingSettings, {"seed": 2**32}, "--seed is 4294967296: it has to be at least 0 and at most 4,294,967,295"),
    (TrainingSettings, {"steps": 10**400}, "--steps is 10+: it has to be at least 1 and at most 2,147,483,647"),
    (TrainingSettings, {"epochs": 0.0}, "--epochs is 0.0: it has to be above 0 and at most 1,000,000"),
    (TrainingSettings, {"epochs": 1e308}, r"--epochs is 1e\+308: it has to be above 0"),
    (TrainingSettings, {"warmup": 2.5}, "--warmup is 2.5: it has to be a whole number of steps, or a share below 1"),
    (TrainingSettings, {"learning_rate": math.nan}, "--learning-rate is nan: it has to be above 0"),
    (PretrainSpansSettings, {"relative_bias_rate": -7.0}, "--relative-bias-rate is -7.0: it has to be above 0"),
    (PretrainSpansSettings, {"relative_bias_rate": math.inf}, "--relative-bias-rate is inf: it has to be above 0"),
    (PretrainSpansSettings, {"salient_spans": "rule"}, "--salient-spans rule needs a --salient-share"),
    (PretrainSpansSettings, {"mean_span_length": 0.5}, "--mean-span-length is 0.5: it has to be at least 1"),
    (PretrainSpansSettings, {"input_length": 2}, "--input-length is 2: it has to be at least 3"),
    (PretrainSpansSettings, {"salient_share": 0.05, "batch_size": 8}, "0.05 of --batch-size 8 is not one row"),
    (PretrainSpansSettings, {"questions_share": 0.5}, "--questions-share needs --questions"),
    (PretrainSpansSettings, {"questions": "q.json"}, "--questions needs a --questions-share"),
    (PretrainSpansSettings, {"questions": "q.json", "questions_share": 0.007},
     "0.007 of --batch-size 64 is not one row: give a larger share"),
    (PretrainSpansSettings, {"questions": "q", "questions_share": 0.6, "salient_share": 0.6}, "together at most 1"),
    (PretrainSpansSettings, {"tokens_file": "a.tokens", "salient_share": 0.5}, "--tokens-file keeps no salient spans"),
    (PretrainSpansSettings, {"tokens_file": "runs/pretrained/a.tokens"}, "is in --out"),
    (PretrainMLMSettings, {"tokens_file": "a.jsonl"}, r"a\.jsonl: .* has to end in \.tokens"),
    (PretrainMLMSettings, {"max_tokens": 0}, "--max-tokens is 0: it has to be at least 1"),
    (PretrainMLMSettings, {"input_length": 4}, "--input-length is 4: a row of two segments has at least 5 tokens"),
    (PretrainMLMSettings, {"mask_rate": 0.0}, "--mask-rate is 0.0: it has to be above 0 and below 1"),
    (PretrainMLMSettings, {"mask_rate": 1.0}, "--mask-rate is 1.0"),
    (FinetuneSpansSettings, {"input_length": 24, "stride": 15, "max_question_length": 6}, "leaves 15 tokens"),
    (FinetuneSpansSettings, {"stride": -1}, "--stride is -1: it has to be at least 0"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(kind, changes, message):
    with pytest.raises(UserError, match=message):
        kind(**changes)


def test_a_run_is_as_long_as_its_steps_or_its_epochs():
    made = lambda **given: TrainingSettings(batch_size=8, **given)
    assert [made(**given).total_steps(100) for given in ({"steps": 7}, {"epochs": 2.0}, {"epochs": 0.5}, {})] == [
        7, 25, 7, 10_000
    ]  # fmt: skip
    assert FinetuneSpansSettings(batch_size=8).total_steps(100) == 25  # two epochs, where nothing is said


def test_a_warm_up_is_a_number_or_a_share_of_the_steps_and_shorter_than_the_run():
    made = lambda warmup: TrainingSettings(warmup=warmup)
    assert made(0.0).warmup_steps(1) == 0 and made(9.0).warmup_steps(10) == 9 and made(0.25).warmup_steps(10) == 2
    for warmup, steps in ((500.0, 30), (1.0, 1), (0.9, 2)):
        with pytest.raises(UserError, match=r"--warmup \d+ is not shorter than the run of \d+ steps: give a sm"):
            made(warmup).warmup_steps(steps)


def test_all_files_that_a_setting_names_have_fingerprints(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(name)
    (tmp_path / "model.json").write_text(json.dumps({}))
    made = lambda **given: fingerprints(PretrainSpansSettings(**given))
    names = lambda **given: {name: len(files) for name, files in made(**given).items()}
    assert names(texts=str(tmp_path / "*.txt"), model=str(tmp_path / "model.json")) == {
        "vocabulary": 1, "model": 1, "texts": 2
    }  # fmt: skip
    assert names(texts=str(tmp_path), vocabulary="none") == {"texts": 3}
    assert names(texts="tfds:no/such:train", held_out=None, vocabulary="none") == {}
    first = made(texts=str(tmp_path / "a.txt"))["texts"]
    (tmp_path / "a.txt").write_text("A.txt")  # as long as before
    assert made(texts=str(tmp_path / "a.txt"))["texts"].keys() == first.keys()
    assert made(texts=str(tmp_path / "a.txt"))["texts"] != first
    qa = PROGRAMS["finetune_qa"].settings(train_on=(f"shouts={tmp_path / 'a.txt'}", f"puns={tmp_path / 'b.txt'}"))
    assert fingerprints(qa)["train_on"].keys() == {str(tmp_path / "a.txt"), str(tmp_path / "b.txt")}
