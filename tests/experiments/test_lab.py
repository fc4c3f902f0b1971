"""What the experiments share, with programs that train nothing: runs, seeds, subsets of data, the files of a result."""

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import jax
import pytest

from tlqa_jax.errors import UserError
from tlqa_jax.experiments import lab as module
from tlqa_jax.experiments.claims import Claim
from tlqa_jax.experiments.features_or_finetuning import SIZE, TIME
from tlqa_jax.experiments.lab import (
    EXPERIMENTS, Experiment, ExperimentSettings, Lab, bundled_rows, curve, measure_and_judge, run_experiment, score,
)  # fmt: skip
from tlqa_jax.training.finetune_classifier import FinetuneClassifierSettings


@pytest.fixture
def trained(monkeypatch):
    """The settings of each run that was "trained"; `fake` is the program. A run that is there is complete."""
    trained = []

    def fake(settings: FinetuneClassifierSettings, *, quiet: bool) -> Path:
        run = Path(settings.out)
        if not run.exists():
            run.mkdir(parents=True)
            trained.append(settings)
            rows = [{"step": settings.steps, "eval_accuracy": 0.5 + settings.seed / 10 + settings.steps / 1000}]
            (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return run

    monkeypatch.setitem(module.PROGRAMS, fake, FinetuneClassifierSettings)
    trained.append(fake)
    return trained


@pytest.fixture
def experiment(trained):
    fake = trained.pop()
    made = Experiment(
        title="Is <more> better?", design="a & b", score="accuracy, %", column="labels",
        claims=(Claim("long is better", "long", "short", "panel"), Claim("short is better", "short", "long", "panel")),
    )  # fmt: skip

    def measure(lab: Lab):
        of = lambda way, steps, n: 100 * score(lab.train(fake, f"{way}-{n}", steps=steps, batch_size=10), "accuracy")
        ways = {"long": 200, "short": 100}
        return {"panel": {way: {n: of(way, steps, n) for n in (10, 1000)} for way, steps in ways.items()}}

    return made, measure


def test_a_result_and_its_files(trained, experiment, tmp_path, capsys):
    settings = ExperimentSettings(out=str(tmp_path))
    result = measure_and_judge("domain-transfer", *experiment, settings)
    assert [one.seed for one in trained] == [seed for seed in range(3) for _ in range(4)]
    assert all(one.batch_size % jax.device_count() == 0 and one.batch_size >= 10 for one in trained)
    assert result["panels"]["panel"]["long"] == {str(n): pytest.approx([70, 80, 90]) for n in (10, 1000)}
    assert result["claims"]["long is better"]["words"] == "holds"
    assert result["claims"]["short is better"]["words"] == "does not hold"
    folder = tmp_path / "full" / "domain-transfer"
    assert json.loads((folder / "result.json").read_text()) == result
    assert (folder / "figure.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "index.html").read_text()
    for text in ("Is &lt;more&gt; better?", "a &amp; b", "<td>80.0 ± 10.0</td>", "long is better: <b>holds", "<svg",
                 "short is better: <b>does not hold"):  # fmt: skip
        assert text in page
    written = capsys.readouterr().out
    assert "long is better: holds (difference +10.0" in written and "80.0 ± 10.0" in written

    again = measure_and_judge("domain-transfer", *experiment, settings)  # goes on: nothing is trained twice
    assert again == result and len(trained) == 12
    more = measure_and_judge("domain-transfer", *experiment, ExperimentSettings(out=str(tmp_path), seeds=4))
    assert more["seeds"] == 4 and len(trained) == 16


def test_quick_is_one_seed_and_says_that_it_decides_nothing(trained, experiment, tmp_path, capsys):
    result = measure_and_judge("more-data", *experiment, ExperimentSettings(out=str(tmp_path), quick=True))
    assert result["seeds"] == 1 and "points to it" in result["claims"]["long is better"]["words"]
    assert (tmp_path / "quick" / "more-data" / "figure.png").exists()
    assert "One seed and short runs (--quick)" in (tmp_path / "quick" / "more-data" / "index.html").read_text()
    assert "One seed and short runs (--quick)" in capsys.readouterr().out


def test_a_trial_is_short_and_apart_from_the_rest(trained, experiment, tmp_path):
    measure_and_judge("more-data", *experiment, ExperimentSettings(out=str(tmp_path), seeds=1, max_steps=2))
    assert {one.steps for one in trained} == {2} and all("/trial/" in one.out for one in trained)
    assert "The scores say nothing" in (tmp_path / "trial" / "more-data" / "index.html").read_text()


def test_equal_ways_differ_only_in_what_the_experiment_varies(trained, experiment, tmp_path):
    measure_and_judge("more-data", *experiment, ExperimentSettings(out=str(tmp_path), seeds=1))
    long, short = (asdict(next(one for one in trained if way in one.out)) for way in ("long-10", "short-10"))
    varied = {name for name in long if long[name] != short[name]}
    assert varied == {"out", "steps", "evaluate_every", "log_every"}


def test_fewer_rows_are_some_of_more_and_balanced(tmp_path):
    lab = Lab("x", ExperimentSettings(out=str(tmp_path)), seed=3)
    read = lambda path: Path(path).read_text().splitlines()
    few, more = (read(lab.take("reviews_train.jsonl", n)) for n in (10, 300))
    assert few == more[:10] and len(set(more)) == 300
    assert Counter(json.loads(row)["label"] for row in few) == {"positive": 5, "negative": 5}
    assert read(lab.take("reviews_train.jsonl", 10)) == few
    assert read(Lab("x", ExperimentSettings(out=str(tmp_path)), seed=4).take("reviews_train.jsonl", 10)) != few
    questions = [json.loads(row) for row in read(lab.take("context_train.json", 7))]
    for row in questions:
        assert row["context"][row["answer_start"] :].startswith(row["answer"])
    assert len(bundled_rows("context_train.json")) == 3600
    assert lab.take("reviews_train.jsonl", None) == "tiny_world:reviews_train.jsonl"


def test_scores_of_a_run(tmp_path):
    rows = [{"step": 2, "loss": 1}, {"step": 2, "eval_f1": 20.0}, {"step": 4, "eval_f1": 30.0}, {"step": 4, "loss": 2}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [score(tmp_path, "f1", step) for step in (None, 4, 3, 2, 1)] == [30, 30, 20, 20, 20]
    assert curve(tmp_path, "f1") == {2: 20, 4: 30}


def test_an_unknown_experiment_is_refused():
    with pytest.raises(UserError, match="no experiment 'x'; known are domain-transfer, .*, and all"):
        run_experiment("x", ExperimentSettings())


@pytest.mark.slow
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_in_two_steps_a_run(name, tmp_path, monkeypatch):
    result = run_experiment(name, ExperimentSettings(out=str(tmp_path), quick=True, max_steps=2))
    for panel, scores in result["panels"].items():
        most = float("inf") if panel in (SIZE, TIME) else 100  # the others are percentages
        assert scores and all(0 <= value <= most for of_way in scores.values() for [value] in of_way.values())
    assert all(verdict["words"].startswith("one seed, undecided") for verdict in result["claims"].values())
    assert (tmp_path / "trial" / name / "figure.png").exists()
    jax.clear_caches()  # 9 more experiments would each keep 500 MB of compiled programs
