"""The settings of a program: their kinds, in Python as on the command line, and which of them a run's record keeps."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from tlqa_jax.errors import UserError
from tlqa_jax.experiments.quickstart import QuickstartSettings
from tlqa_jax.training.finetune_classifier import FinetuneClassifierSettings
from tlqa_jax.training.finetune_qa import FinetuneQASettings
from tlqa_jax.training.finetune_spans import FinetuneSpansSettings
from tlqa_jax.training.finetune_tasks import FinetuneTasksSettings
from tlqa_jax.training.pretrain_mlm import PretrainMLMSettings
from tlqa_jax.training.pretrain_spans import PretrainSpansSettings
from tlqa_jax.training.settings import HOUSEKEEPING, Settings, recorded

CONFIGS = [PretrainSpansSettings, FinetuneQASettings, FinetuneTasksSettings, PretrainMLMSettings, FinetuneClassifierSettings, FinetuneSpansSettings]


@dataclass(frozen=True)
class Given(Settings):
    """As the configurations, whose types the tests check before `Settings` can."""

    steps: int = 3
    rate: float = 0.5
    out: str = "runs"
    start_from: str | None = None
    freeze: tuple[str, ...] = ()
    resume: bool = False
    decay: Literal["linear"] = "linear"


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(steps=1e4), "--steps is 10000.0: it has to be a whole number$"),
        (dict(steps=True), "--steps is True: it has to be a whole number$"),
        (dict(steps=None), "--steps is None: it has to be a whole number$"),
        (dict(rate="1e-3"), "--rate is '1e-3': it has to be a number$"),
        (dict(resume="no"), "--resume is 'no': it has to be True or False$"),
        (dict(out=None), "--out is None: it has to be a text$"),
        (dict(start_from=3), "--start-from is 3: it has to be a text or None$"),
        (dict(freeze="encoder"), "--freeze is 'encoder': it has to be a tuple of texts$"),
        (dict(freeze=["encoder", 3]), r"--freeze is \('encoder', 3\): it has to be a tuple of texts$"),
    ],
)
def test_another_kind_is_refused_by_name(wrong, message):
    with pytest.raises(UserError, match=message):
        Given(**wrong)


def test_paths_lists_and_numpys_numbers_will_do():
    given = Given(np.int64(7), 1, Path("runs/x"), Path("runs/y"), ["a", Path("b")])
    assert given == Given(7, 1, "runs/x", "runs/y", ("a", "b"))
    assert [type(value) for value in vars(given).values()] == [int, int, str, str, tuple, bool, str]
    assert type(replace(given, rate=np.float32(2)).rate) is float


@pytest.mark.parametrize("config", [*CONFIGS, QuickstartSettings])
def test_every_program_takes_its_settings_so(config):
    assert issubclass(config, Settings) and config() == config()  # the defaults are of their kinds


@pytest.mark.parametrize("config", CONFIGS)
def test_a_record_keeps_all_but_what_a_resumed_run_may_change(config):
    record = recorded(config(out="elsewhere", log_every=3))
    assert record.keys() == config.__dataclass_fields__.keys() - set(HOUSEKEEPING)
    assert {"out", "log_every", "resume"} & record.keys() == set() and record["learning_rate"] == config.learning_rate
