"""Prepares TFDS data sets from local files, without TensorFlow and without a download.

    python tests/data/prepare_tfds.py TRAIN.json DEV.json DATA_DIR

writes SQuAD v1.1 or v2.0 files as the data set "squad" into DATA_DIR; `tfds:squad:train` (or `tfds:squad/v2.0:train`)
and `--data-dir DATA_DIR` then read it. TFDS's own builder writes it: names, schema and files are those of the real set.
"""

import importlib
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import tensorflow_datasets as tfds


def prepare_squad(train: str | Path, dev: str | Path, data_dir: str | Path) -> str:
    """Writes both files as squad/v1.1, or as squad/v2.0 if they have unanswerable questions. Returns that name."""
    article = json.loads(Path(train).read_text(encoding="utf-8"))["data"][0]
    config = "v2.0" if "is_impossible" in article["paragraphs"][0]["qas"][0] else "v1.1"
    Path(data_dir).mkdir(parents=True, exist_ok=True)
    builder = tfds.builder(f"squad/{config}", data_dir=data_dir, file_format="array_record")
    files = {"train": train, "validation": dev}
    builder._split_generators = lambda *_: {split: builder._generate_examples(file) for split, file in files.items()}
    builder.download_and_prepare()
    return f"squad/{config}"


def prepare_texts(name: str, splits: dict[str, Iterable[str]], data_dir: str | Path) -> None:
    """Writes texts as the set `name` ("lm1b", "wiki40b/en", "c4/en"): its real features, all but "text" empty."""
    prepare_rows(name, {split: [{"text": text} for text in texts] for split, texts in splits.items()}, data_dir)


def prepare_rows(name: str, splits: dict[str, Iterable[dict]], data_dir: str | Path) -> None:
    """Writes rows as the set `name` ("glue/cola"): its real features, those that a row does not have empty."""
    for package in ("text", "question_answering"):
        importlib.import_module(f"tensorflow_datasets.{package}")
    Path(data_dir).mkdir(parents=True, exist_ok=True)
    real = tfds.builder(name, data_dir=data_dir)

    class Rows(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # the real one may need Apache Beam
        VERSION = real.version
        BUILDER_CONFIGS = [real.builder_config] if real.builder_config else []

        def _info(self) -> tfds.core.DatasetInfo:
            features = tfds.features.FeaturesDict(dict(real.info.features))
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(rows) for split, rows in splits.items()}

        def _generate_examples(self, rows):
            for number, row in enumerate(rows):
                yield number, {field: row.get(field, "") for field in real.info.features}

    Rows.name = real.name
    config = real.builder_config.name if real.builder_config else None
    Rows(data_dir=data_dir, config=config, file_format="array_record").download_and_prepare()


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    print("prepared", prepare_squad(*sys.argv[1:]), "in", sys.argv[3])
