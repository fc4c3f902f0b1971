"""TensorFlow Datasets without TensorFlow: the records of `tfds:NAME[/CONFIG][:VERSION]:SPLIT`.

    for record in TfdsRecords("tfds:squad:train", data_dir="data"):
        record["question"]  # text, not bytes

TFDS reads its array_record files in plain Python. Data sets that are prepared in `data_dir` (default:
~/tensorflow_datasets, as in TFDS) are used; others are downloaded and prepared by TFDS, if that is possible without
TensorFlow and Apache Beam. If not (C4, Wiki40B, ...), they must be prepared on another machine; the error says how.
"""

import contextlib
import difflib
import importlib
import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tlqa_jax.errors import UserError

SOURCE = re.compile(r"tfds:(?P<name>[\w-]+(/[\w.+-]+)*(:\d+\.\d+\.\d+)?):(?P<split>[A-Za-z_].*)")
LATE_PACKAGES = ("text", "question_answering", "summarization", "translate", "text_simplification")
READ_AT_ONCE = 1024


class TfdsRecords:
    """The records of a split as dicts of text, numbers, lists and dicts, read while iterating.

    Attributes:
      source: the source as it was given.
      fields: names of a record's fields.
      classes: of each field that is the number of a class, the names of the classes.

    Raises UserError if the source is not of this form, if there is no such data set, configuration or split, or if it
    is not prepared and cannot be prepared here.
    """

    def __init__(self, source: str, *, data_dir: str | Path | None = None) -> None:
        self.source = source
        match = SOURCE.fullmatch(source)
        if not match:
            raise UserError(
                f"{source!r} is not of the form tfds:NAME:SPLIT or tfds:NAME/CONFIG:SPLIT (as tfds:squad/v1.1:train)"
            )
        if data_dir is not None and not Path(data_dir).expanduser().is_dir():
            raise UserError(
                f"{source}: there is no directory {data_dir} to read prepared sets from: create it, or name another"
            )
        with _quiet():
            builder = _builder(match["name"], source, data_dir)
            if not builder.is_prepared():
                _prepare(builder, source)
            self._records = _open_split(builder, match["split"], source)
            features = builder.info.features
            self.fields: tuple[str, ...] = tuple(features)
            self.classes = {name: tuple(features[name].names) for name in features if hasattr(features[name], "names")}

    def __iter__(self) -> Iterator[dict[str, Any]]:
        size = len(self._records)
        for start in range(0, size, READ_AT_ONCE):
            yield from map(_plain, self._records.__getitems__(range(start, min(start + READ_AT_ONCE, size))))


def _plain(value: Any) -> Any:
    """The same with bytes as text, and numpy's numbers and arrays as Python's, also inside of dicts and lists."""
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _builder(name: str, source: str, data_dir: str | Path | None) -> Any:
    try:
        tfds = importlib.import_module("tensorflow_datasets")
    except ImportError as error:
        raise UserError(
            f"{source} needs the packages tensorflow-datasets, array_record, importlib_resources: {_first_line(error)}"
        ) from None

    def build():
        return tfds.builder(name, data_dir=data_dir, file_format="array_record")

    try:
        try:
            return build()
        except tfds.core.DatasetNotFoundError:
            # Without TensorFlow, TFDS does not import these packages itself, and many text sets are in them.
            for package in LATE_PACKAGES:
                importlib.import_module(f"tensorflow_datasets.{package}")
            return build()
    except tfds.core.DatasetNotFoundError:
        bare = re.split("[/:]", name)[0]
        near = difflib.get_close_matches(bare, tfds.list_builders(with_community_datasets=False), n=3)
        raise UserError(
            f"{source}: TFDS has no data set {bare!r}" + (f"; near it: {', '.join(near)}" if near else "")
        ) from None
    except (ValueError, AssertionError, RuntimeError) as error:
        text = str(error)
        if "File format is already set" in text:
            found = text.partition("FileFormat.")[2].partition(".")[0].lower()
            raise UserError(
                f"{source} is prepared as {found}, which needs TensorFlow to read: "
                "prepare it again with file_format=array_record, or use another data directory"
            ) from None
        if "BuilderConfig" in text:
            configs = list(tfds.builder_cls(name.split("/")[0]).builder_configs)
            near = difflib.get_close_matches(name.split("/")[1].split(":")[0], configs, n=5)
            some = ", ".join(dict.fromkeys([*near, *configs[:5]]))
            raise UserError(f"{source}: no such configuration; there are {len(configs)}, for example {some}") from None
        reason = text.partition('}": ')[2] or text  # TFDS's prefix repeats the arguments
        raise UserError(f"{source}: {_first_line(reason)}") from None


def _prepare(builder: Any, source: str) -> None:
    tfds = importlib.import_module("tensorflow_datasets")
    folder = str(builder.data_path)
    elsewhere = (
        f"prepare it elsewhere (tfds build {builder.name} --file_format=array_record) and give that data directory, "
        "or give the text itself as .txt, .jsonl or C4's own .json.gz files"
    )
    if isinstance(builder, tfds.core.BeamBasedBuilder):
        raise UserError(
            f"{source} is not prepared in {folder}, and TFDS can do that only with Apache Beam: {elsewhere}"
        )
    for url in list(builder.url_infos or ())[:1]:
        _check_reachable(url, source, folder)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # banners; the progress bars go to stderr
            builder.download_and_prepare()
    except ImportError as error:
        raise UserError(
            f"{source} is not prepared in {folder}, and TFDS can do that only with {error.name or error}: {elsewhere}"
        ) from None
    except Exception as error:  # a download or a builder can raise anything
        raise UserError(
            f"{source} could not be prepared in {folder} ({type(error).__name__}: {_first_line(error)}): {elsewhere}"
        ) from None


def _check_reachable(url: str, source: str, folder: str) -> None:
    """Raises UserError at once; TFDS would try for minutes."""
    requests = importlib.import_module("requests")
    try:
        requests.head(url, timeout=15, allow_redirects=True)
    except requests.exceptions.RequestException as error:
        raise UserError(
            f"{source} is not prepared in {folder}, and {urlsplit(url).hostname} cannot be reached to download it "
            f"({type(error).__name__}): name the data directory where it is prepared, or give local files"
        ) from None


def _open_split(builder: Any, split: str, source: str) -> Any:
    try:
        return builder.as_data_source(split)
    except (ValueError, KeyError) as error:
        raise UserError(
            f"{source}: no split {split!r}: there are {', '.join(builder.info.splits)} ({_first_line(error)})"
        ) from None
    except (OSError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{source} cannot be read from {builder.data_path}: {_first_line(error)}") from None


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides TFDS's warnings, such as "no dataset_info.json" for a set that is not prepared yet."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _first_line(error: object) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
