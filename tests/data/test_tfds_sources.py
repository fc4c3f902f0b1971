"""TFDS without TensorFlow: sets with the real names and schemas, prepared by TFDS's own builders from made-up files."""

import importlib.util
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tlqa_jax.data.sources import open_labelled_texts, open_questions, open_rows, open_texts
from tlqa_jax.data.tfds_sources import TfdsRecords
from tlqa_jax.errors import UserError
from tlqa_jax.examples import LabelledText

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ImportWarning")  # of TFDS itself
HELPER = Path(__file__).with_name("prepare_tfds.py")


def squad_file(path: Path, prefix: str, number: int, *, version_2: bool = False) -> Path:
    """`number` questions about two contexts; in version 2, the last has no answer."""
    context = "Größe: Mira Voss tunes harps in Oss."
    qas = [
        {"id": f"{prefix}{k}", "question": f"Who tunes {k} harps?", "answers": [{"text": "Mira", "answer_start": 7}]}
        for k in range(number)
    ]
    if version_2:
        for qa in qas:
            qa |= {"is_impossible": False}
        qas[-1] |= {"is_impossible": True, "answers": [], "plausible_answers": [{"text": "Oss", "answer_start": 32}]}
    paragraphs = [{"context": context, "qas": qas[::2]}, {"context": context, "qas": qas[1::2]}]
    path.write_text(
        json.dumps({"version": "1.1", "data": [{"title": "Harps", "paragraphs": paragraphs}]}), encoding="utf-8"
    )
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("squad")
    squad_file(folder / "train.json", "t", 7)
    squad_file(folder / "dev.json", "d", 3)
    squad_file(folder / "train2.json", "t", 5, version_2=True)
    squad_file(folder / "dev2.json", "d", 2, version_2=True)
    return folder


@pytest.fixture(scope="module")
def data_dir(files, tmp_path_factory) -> Path:
    spec = importlib.util.spec_from_file_location("prepare_tfds", HELPER)
    helper = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(helper)
    folder = tmp_path_factory.mktemp("tfds")
    assert helper.prepare_squad(files / "train2.json", files / "dev2.json", folder) == "squad/v2.0"
    texts = ["_START_ARTICLE_\nHarps\n_START_PARAGRAPH_\nThey have_NEWLINE_strings.", "größer"]
    helper.prepare_texts("wiki40b/en", {"train": texts, "test": ["one"]}, folder)
    helper.prepare_texts("lm1b", {"train": [f"line {k}" for k in range(9)]}, folder)
    similar = {"sentence1": "A harp.", "sentence2": "Größe.", "label": 2.6, "idx": 0}
    helper.prepare_rows("glue/stsb", {"train": [similar]}, folder)
    rained = {"sentence": "It rained.", "idx": 0}
    tagged = {"id": "0", "tokens": ["Mira", "sings"], "pos": [3, 5], "chunks": [0, 1], "ner": [1, 0]}
    helper.prepare_rows("conll2003", {"train": [tagged]}, folder)
    helper.prepare_rows("glue/cola", {"train": [rained | {"label": 1}], "test": [rained | {"label": -1}]}, folder)
    command = [sys.executable, HELPER, files / "train.json", files / "dev.json", folder]
    assert "prepared squad/v1.1 in" in subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return folder


def test_rows_of_sets_that_are_found_late_have_the_names_of_their_classes(data_dir):
    """GLUE's builder lives in a package that TFDS does not import by itself without TensorFlow."""
    [(where, id, row)] = open_rows("tfds:glue/cola:train", data_dir=data_dir)
    assert (where, id) == ("tfds:glue/cola:train, record 0", "tfds:glue/cola:train:0")
    assert row == {"sentence": "It rained.", "label": "acceptable", "idx": 0}
    [(_, _, row)] = open_rows("tfds:glue/cola:test", data_dir=data_dir)
    assert row["label"] == -1  # a test set's answers are kept back
    [(_, _, row)] = open_rows("tfds:glue/stsb:train", data_dir=data_dir)
    assert (row["sentence1"], row["sentence2"], round(row["label"], 5)) == ("A harp.", "Größe.", 2.6)
    labelled = open_labelled_texts("tfds:glue/cola:train", data_dir=data_dir, field="sentence")
    assert labelled == [LabelledText("It rained.", "acceptable")]


def test_a_field_of_many_classes_keeps_their_numbers(data_dir):
    [(_, _, row)] = open_rows("tfds:conll2003:train", data_dir=data_dir)
    assert row == {"tokens": ["Mira", "sings"], "pos": [3, 5], "chunks": [0, 1], "ner": [1, 0]}


@pytest.mark.parametrize(("source", "file"), [("squad", "train.json"), ("squad/v2.0:3.0.0", "train2.json")])
def test_squad_equals_its_json_file(data_dir, files, source, file):
    from_tfds = open_questions(f"tfds:{source}:train", data_dir=data_dir)
    from_json = open_questions(files / file)
    assert len(from_tfds) in (5, 7)
    assert sorted(from_tfds, key=lambda example: example.id) == sorted(from_json, key=lambda example: example.id)


def test_records_are_texts_and_numbers(data_dir):
    records = TfdsRecords("tfds:squad:train", data_dir=data_dir)
    assert records.fields == ("id", "title", "context", "question", "answers")
    first, *others = records
    assert len(others) == 6
    assert first["context"] == "Größe: Mira Voss tunes harps in Oss."
    assert first["answers"] == {"text": ["Mira"], "answer_start": [7]}
    assert type(first["answers"]["answer_start"][0]) is int


def test_splits_can_be_cut(data_dir):
    assert len(open_questions("tfds:squad:validation[:2]", data_dir=data_dir)) == 2
    assert len(list(open_texts("tfds:lm1b:train[50%:]", data_dir=data_dir))) == 5


def test_texts(data_dir):
    texts = open_texts("tfds:wiki40b/en:train", data_dir=data_dir)
    assert sorted(" ".join(text.split()) for text in texts) == ["Harps They have strings.", "größer"]
    assert len(list(texts)) == 2, "a second reading starts from the beginning"
    contexts = list(open_texts("tfds:squad:train", data_dir=data_dir, field="context"))
    assert contexts == ["Größe: Mira Voss tunes harps in Oss."] * 7


def test_no_tensorflow(data_dir):
    program = (
        "import sys; from tlqa_jax.data.sources import open_questions;"
        f"print(len(open_questions('tfds:squad:train', data_dir={str(data_dir)!r})));"
        "assert not {'tensorflow', 'apache_beam'} & set(sys.modules)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("7\n", "")


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise socket.gaierror("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("tfds:squad", "'tfds:squad' is not of the form tfds:NAME:SPLIT"),
        ("tfds:sqaud:train", "TFDS has no data set 'sqaud'; near it: squad"),
        ("tfds:squad:dev", "no split 'dev': there are train, validation"),
        ("tfds:squad:train[:", "no split 'train[:': there are train, validation"),
        ("tfds:squad/v3.0:train", "no such configuration; there are 2, for example v2.0, v1.1"),
        ("tfds:squad:1.0.0:train", "Dataset squad cannot be loaded at version 1.0.0, only: 3.0.0"),
        ("tfds:wiki40b/de:train", "TFDS can do that only with Apache Beam: prepare it elsewhere"),
        ("tfds:c4/en:train", "or give the text itself as .txt, .jsonl or C4's own .json.gz files"),
        (
            "tfds:natural_questions_open:train",
            "raw.githubusercontent.com cannot be reached to download it (ConnectionError)",
        ),
        ("tfds:squad:train", 'no field "text" to read as text; its fields are id, title, context, question, answers'),
    ],
)
def test_errors(data_dir, no_network, capfd, source, expected):
    with pytest.raises(UserError) as error:
        list(open_texts(source, data_dir=data_dir))
    assert expected in str(error.value)
    assert source in str(error.value)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", ""), "the error is all that a user sees"


def test_no_set_of_questions(data_dir):
    with pytest.raises(
        UserError,
        match=r'tfds:lm1b:train is no set of questions, with "question" and "answers": its fields are text',
    ):
        open_questions("tfds:lm1b:train", data_dir=data_dir)


def test_no_data_directory(tmp_path):
    with pytest.raises(UserError, match=r"there is no directory .*nowhere to read prepared sets from"):
        open_texts("tfds:squad:train", data_dir=tmp_path / "nowhere")


def test_prepared_in_a_format_of_tensorflow(data_dir, tmp_path):
    (tmp_path / "squad").mkdir()
    (data_dir / "squad" / "v1.1").rename(tmp_path / "squad" / "v1.1")
    info = tmp_path / "squad" / "v1.1" / "3.0.0" / "dataset_info.json"
    try:
        content = info.read_text()
        info.write_text(content.replace("array_record", "tfrecord"))
        with pytest.raises(
            UserError, match="is prepared as tfrecord, which needs TensorFlow to read: prepare it again"
        ):
            open_texts("tfds:squad:train", data_dir=tmp_path)
    finally:
        info.write_text(content)
        (tmp_path / "squad" / "v1.1").rename(data_dir / "squad" / "v1.1")


def test_a_builder_that_needs_tensorflow(data_dir, tmp_path, monkeypatch, capfd):
    def split_generators(self, dl_manager):
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    from tensorflow_datasets.datasets.lm1b import lm1b_dataset_builder

    from tlqa_jax.data import tfds_sources

    monkeypatch.setattr(lm1b_dataset_builder.Builder, "_split_generators", split_generators)
    monkeypatch.setattr(tfds_sources, "_check_reachable", lambda *_: None)
    with pytest.raises(UserError, match="TFDS can do that only with tensorflow: prepare it elsewhere"):
        open_texts("tfds:lm1b:train", data_dir=tmp_path)
    assert capfd.readouterr().out == ""
