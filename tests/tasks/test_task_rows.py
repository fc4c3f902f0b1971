"""The rows of a T5's fine-tuning: the sources of each task, and the one stream that its examples make."""

import json

import numpy as np
import pytest

from tlqa_jax.data.batches import Devices, training_batches
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.examples import TextExample
from tlqa_jax.tasks.task_rows import TaskRows, check_unique_ids, find_sources, read_examples
from tlqa_jax.tasks.text_tasks import TASKS
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

TOKENIZER = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"))


def examples(task: str, count: int) -> list[TextExample]:
    return [TextExample(f"{task}{n}", f"{task}: {n}", f"{n}", (f"{n}",)) for n in range(count)]


def rows(sizes: dict[str, int], mixing: str, **options) -> TaskRows:
    options |= {"mixing": mixing, "input_length": 32, "target_length": 4}
    return TaskRows(TOKENIZER, {name: examples(name, size) for name, size in sizes.items()}, **options)


def test_sources_are_those_given_else_the_tiny_worlds():
    tasks = {name: TASKS[name] for name in ("sentiment", "context_qa", "similarity")}
    given = ("similarity=a.csv", "similarity=b.csv", "context_qa=t.json")
    train, held_out = find_sources(tasks, given, ("context_qa=d.json",))
    bundled = ["tiny_world:reviews_train.jsonl"]
    assert train == {"sentiment": bundled, "context_qa": ["t.json"], "similarity": ["a.csv", "b.csv"]}
    assert held_out == {"sentiment": ["tiny_world:reviews_dev.jsonl"], "context_qa": ["d.json"]}


@pytest.mark.parametrize("train, held_out, message", [
    ((), (), "nothing to learn the task similarity from: give --train-on similarity=SOURCE"),
    (("sentiment",), (), r"--train-on sentiment: it has to be TASK=SOURCE, such as sentiment=examples.jsonl"),
    (("similarity=x",), ("shout=x",), "--held-out shout=x: there is no task 'shout' in this run; its tasks are senti"),
])  # fmt: skip
def test_a_source_of_no_task_and_a_task_without_a_source(train, held_out, message):
    with pytest.raises(UserError, match=message):
        find_sources({name: TASKS[name] for name in ("sentiment", "similarity")}, train, held_out)


def test_an_id_must_not_occur_twice_where_predictions_are_kept_by_it():
    check_unique_ids(examples("a", 3), "--held-out a")
    with pytest.raises(UserError, match="--held-out a: the id 'a0' occurs twice: predictions are kept by id"):
        check_unique_ids(examples("a", 3) * 2, "--held-out a")


def test_examples_of_a_task(tmp_path):
    questions = [{"id": "q", "question": "Who?", "context": "Ann.", "answers": [{"text": "Ann", "answer_start": 0}]}]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    (tmp_path / "none.jsonl").write_text("")
    [example] = read_examples(TASKS["context_qa"], str(tmp_path / "q.jsonl"))
    assert (example.id, example.input, example.target) == ("q", "question: Who? context: Ann.", "Ann")
    assert len(read_examples(TASKS["sentiment"], "tiny_world:reviews_dev.jsonl")) == 300
    with pytest.raises(UserError, match="none.jsonl"):
        read_examples(TASKS["sentiment"], str(tmp_path / "none.jsonl"))


def test_eight_devices_are_given_what_one_would_be():
    """That a step then gives the same loss and gradients is shown in tests/training/test_equal_gradients.py."""
    data = rows({"a": 7, "b": 4}, "temperature=3", seed=1)
    place = {"devices": Devices(0, 1, 8), "prefetch": 0}
    batches = training_batches(data.size, 32, 1, lambda indices, *_: {"row": indices}, order=data.order, **place)
    given = [next(batches)["row"] for _ in range(5)]
    assert data.size == 11 and all(rows.shape == (8, 4) for rows in given)
    stream = data.order[np.arange(160)]  # the examples in their order, whoever reads them
    assert np.array_equal(np.stack(given).ravel(), stream) and len(np.unique(stream)) == 11


def test_a_task_sees_all_its_examples_in_an_epoch_and_each_process_its_share():
    shares = []
    build = lambda indices, *_: {"row": indices}
    for processes in (1, 2):
        order = rows({"a": 7, "b": 4}, "equal", seed=0).order
        for process in range(processes):
            place = {"devices": Devices(process, processes, 1), "prefetch": 0}
            batches = training_batches(11, 4, 0, build, order=order, **place)
            shares.append(np.stack([next(batches)["row"].ravel() for _ in range(100)]))
    whole, first, second = shares
    assert np.array_equal(whole, np.concatenate([first, second], axis=1))
    for begin, end in ((0, 7), (7, 11)):
        own = [row for row in whole.ravel().tolist() if begin <= row < end]
        size = end - begin
        epochs = [own[i : i + size] for i in range(0, len(own) - size + 1, size)]
        assert all(sorted(epoch) == list(range(begin, end)) for epoch in epochs) and len(epochs) > 20
        assert len({tuple(epoch) for epoch in epochs}) > 10  # every epoch is shuffled anew


def test_packed_rows_hold_one_task_each_at_the_rates_of_examples():
    data = rows({"shout": 12, "pun": 20}, "equal", pack=True, seed=3)
    assert "packed 32 examples into" in data.report()[-1]
    counts = {"shout": 0, "pun": 0}
    batch = data.build(data.order[np.arange(96)])
    assert batch["input_segments"].max() > 1
    for row, numbers in zip(batch["inputs"], batch["input_segments"]):
        text = TOKENIZER.decode(row[row > 1].tolist())
        [task] = [name for name in counts if f"{name}:" in text]
        counts[task] += int(numbers.max())
    assert counts["shout"] == pytest.approx(counts["pun"], rel=0.3)


def test_rows_are_no_longer_than_the_longest_example():
    data = rows({"a": 7}, "proportional")
    assert data.input_length == data.build(np.arange(7))["inputs"].shape[1] == 8 and data.report() == [
        "a: 100.0% of the examples; 7 examples: none cut to the input length of 32 tokens, none cut to the target "
        "length of 4 tokens"
    ]  # fmt: skip
