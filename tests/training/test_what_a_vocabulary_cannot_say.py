"""A T5 that writes its gold answers as well as its vocabulary lets it scores 100, whoever scores it."""

import dataclasses
import json

import pytest

from tlqa_jax import cli
from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample
from tlqa_jax.inference.answers import Answer
from tlqa_jax.inference.generator import Generation, Generator
from tlqa_jax.training import finetune_qa as qa, finetune_tasks as text_to_text
from tlqa_jax.training.evaluation import as_written, score_answers

from .comparing import rows

GOLD = ("km²", "line one\nline two", "two  spaces")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gold")
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 1, "num_heads": 2}
    asked = [{"id": f"q{n}", "question": f"{n}", "answer": gold, "text": f"{n}"} for n, gold in enumerate(GOLD)]
    task = {"name": "copy", "input": "copy: {text}", "target": "answer", "metrics": ["accuracy"]}
    (folder / "model.json").write_text(json.dumps(sizes))
    (folder / "gold.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    (folder / "copy.json").write_text(json.dumps(task | {"train": str(folder / "gold.jsonl")}))
    return folder


@pytest.fixture
def perfect(monkeypatch):
    def write(self, params, inputs, lengths):
        asked = [int(self.tokenizer.decode(row).split()[-1]) for row in inputs]
        texts = [self.tokenizer.decode(self.tokenizer.encode(GOLD[number])) for number in asked]
        return [[Generation(text, 0.5, (), ())] for text in texts]

    monkeypatch.setattr(Generator, "__call__", write)


def settings(folder, name):
    lengths = dict(input_length=16, target_length=8, batch_size=8, steps=1, warmup=0)
    return dict(out=str(folder / name), model=str(folder / "model.json"), **lengths)


def test_fine_tuning_on_questions(folder, perfect):
    source = str(folder / "gold.jsonl")
    config = qa.FinetuneQASettings(closed_book_questions=source, held_out_closed_book=source, **settings(folder, "qa"))
    run = qa.finetune_qa(config, quiet=True)
    assert (rows(run)[-1]["eval_closed_book_em"], rows(run)[-1]["eval_closed_book_f1"]) == (100, 100)
    assert json.loads((run / "predictions_closed_book.json").read_text())["q0"] == "km2"


def test_fine_tuning_on_tasks_and_the_command_line(folder, perfect, monkeypatch, capsys):
    monkeypatch.setattr(cli, "quiet_libraries", lambda: None)
    sources = tuple(f"{task}={folder / 'gold.jsonl'}" for task in ("closed_book_qa", "copy"))
    config = text_to_text.FinetuneTasksSettings(
        tasks=("closed_book_qa", str(folder / "copy.json")), train=sources, held_out=sources,
        **settings(folder, "tasks"),
    )  # fmt: skip
    run = text_to_text.finetune_tasks(config, quiet=True)
    last = rows(run)[-1]
    assert [last[f"eval_{name}"] for name in ("closed_book_qa_exact_match", "copy_accuracy")] == [100, 100]
    for line, wanted in (
        (f"evaluate {run} --questions {folder}/gold.jsonl --predictions {folder}/p.json", {"exact": 100, "F1": 100}),
        (f"evaluate {run} --task copy --texts {folder}/gold.jsonl", {"accuracy": 100}),
        (f"evaluate {folder}/p.json --questions {folder}/gold.jsonl", {"exact": 200 / 3}),  # the official figure
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(line.split())
        assert not end.value.code
        printed = {words[0]: words for words in map(str.split, capsys.readouterr().out.splitlines()) if words}
        for name, value in wanted.items():
            figure = printed[name][2 if name == "exact" else 1]
            assert float(figure) == pytest.approx(value, abs=0.01)


    (folder / "twice.jsonl").write_text((folder / "gold.jsonl").read_text() * 2)
    with pytest.raises(SystemExit) as end:  # one of the two predictions would be lost
        cli.main(f"evaluate {run} --task copy --texts {folder}/twice.jsonl --predictions {folder}/t.json".split())
    assert end.value.code == 2 and not (folder / "t.json").exists()
    assert "twice.jsonl: the id 'q0' occurs twice: predictions are kept by id" in capsys.readouterr().err
    held_out = dataclasses.replace(config, held_out=(f"copy={folder}/twice.jsonl",), overwrite=True)
    with pytest.raises(UserError, match="--held-out copy: the id 'q0' occurs twice"):
        text_to_text.finetune_tasks(held_out, quiet=True)


def test_a_gold_answer_is_right_as_it_is_and_as_it_can_be_written():
    normalize = lambda text: text.replace("²", "2")
    asked = [QAExample("a", "?", ("km²", "mile")), QAExample("b", "?", ())]
    assert [example.answers for example in as_written(asked, normalize)] == [("km²", "mile", "km2"), ()]
    for written, right in (("km²", 100), ("km2", 100), ("mile", 100), ("km", 0)):
        given = [Answer(written, 0.9, False), Answer("", 0.1, False)]
        scores, predictions = score_answers(asked, given, normalize)
        assert (scores["HasAns_exact"], predictions["a"]) == (right, written if right else "")
