"""Peak memory, and seconds to the first step, on large inputs: each program in a process of its own.

    python benchmarks/large_inputs.py                                   # 200 MB of text, 100,000 questions
    python benchmarks/large_inputs.py --megabytes 20 --questions 10000  # a trial
    python benchmarks/large_inputs.py --only pretrain-spans pretrain-clm

Text and questions are made of invented words, whose frequencies follow Zipf's law, in a temporary directory. The text
is there twice: as documents of some paragraphs, and as one document, a sentence in each line, without blank lines.
Models are tiny.

"beside" is what a run needs more than the same command with a few kilobytes: what the input costs, not the libraries
and the model. Peak memory is the largest resident set. Pages of a --tokens-file are part of it while they are mapped,
though the system may take them back.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tlqa_jax.text.sentencepiece_model import CONTROL, UNKNOWN, sentencepiece_model
from tlqa_jax.text.wordpiece import SPECIALS

T5 = {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 1, "num_heads": 2, "dropout_rate": 0.0}
BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
LETTERS = "abcdefghijklmnopqrstuvwxyz"
KNOWN = 8000  # words that are a piece of the vocabulary
SMALL = 20_000  # bytes
BARE = "import jax; jax.devices(); import flax, optax, orbax.checkpoint, sentencepiece, matplotlib.figure"


class Words:
    """Text of 100,000 invented words; the frequency of the n-th is proportional to 1 / (n + 2.7), counted from 0."""

    def __init__(self, seed: int = 0):
        self.rng = np.random.default_rng(seed)
        syllables = [one + two for one in "bdfgklmnprstvw" for two in ("a", "e", "i", "o", "u", "an", "er", "il", "os")]
        draw = lambda: "".join(self.rng.choice(syllables, self.rng.integers(1, 5)))
        self.words = np.array(list(dict.fromkeys(draw() for _ in range(130_000)))[:100_000])
        shares = 1 / (np.arange(len(self.words)) + 2.7)
        self.up_to = np.cumsum(shares) / shares.sum()

    def sentences(self, count: int) -> list[str]:
        lengths = self.rng.integers(4, 25, count)
        words = iter(self.words[np.searchsorted(self.up_to, self.rng.random(lengths.sum()))].tolist())
        return [" ".join([next(words) for _ in range(length)]).capitalize() + "." for length in lengths.tolist()]

    def write_vocabularies(self, folder: Path) -> None:
        known = self.words[:KNOWN].tolist()
        marks = [*LETTERS, *LETTERS.upper(), *"."]
        pieces = [*SPECIALS, *marks, *(f"##{letter}" for letter in LETTERS), *known]
        (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(pieces)) + "\n")
        scores = {"\u2581": -9.0, **{mark: -12.0 for mark in marks}}
        scores |= {f"\u2581{word}": -6.0 - 4 * place / KNOWN for place, word in enumerate(known)}
        pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *scores.items()]
        (folder / "spiece.model").write_bytes(sentencepiece_model(pieces, b"", {0: CONTROL, 1: CONTROL, 2: UNKNOWN}))

    def write_texts(self, size: int, documents: Path, lines: Path) -> None:
        """`size` bytes of text into both files."""
        with documents.open("w") as with_blank_lines, lines.open("w") as without:
            while with_blank_lines.tell() < size:
                for paragraph in np.array_split(self.sentences(1000), 25):
                    with_blank_lines.write(" ".join(paragraph) + "\n" + "\n" * (self.rng.random() < 0.2))
                    without.write("\n".join(paragraph) + "\n")

    def write_questions(self, count: int, path: Path) -> None:
        """A file in SQuAD's layout: 5 questions about each paragraph, 50 paragraphs in each article."""
        paragraphs = []
        for first in range(0, count, 5):
            sentences = self.sentences(9)
            context, starts = " ".join(sentences), np.cumsum([0, *map(len, sentences)]) + np.arange(10)
            asked, qas = " ".join(sentences[-1].split()[:9]), []
            for n in range(5):  # the first word of a sentence is the answer
                answer = {"text": sentences[n].split()[0], "answer_start": int(starts[n])}
                qas.append({"id": f"q{first + n}", "question": f"{n} {asked}?", "answers": [answer]})
            paragraphs.append({"context": context, "qas": qas})
        articles = [{"title": str(n), "paragraphs": paragraphs[n : n + 50]} for n in range(0, len(paragraphs), 50)]
        path.write_text(json.dumps({"version": "1.1", "data": articles}))


def measure(command: str, first_line: str) -> tuple[float, float]:
    """(seconds to the first line with `first_line`, peak memory in MiB) of a `tlqa` command in a process of its own."""
    return measure_process([sys.executable, "-m", "tlqa_jax.cli", *command.split()], first_line)


def measure_process(command: list[str], first_line: str) -> tuple[float, float]:
    start, seconds = time.perf_counter(), None
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "JAX_PLATFORMS": "cpu"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if seconds is None and first_line in line:
            seconds = time.perf_counter() - start
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or seconds is None:
        raise SystemExit(f"{' '.join(command)} ended with status {process.returncode}")
    return seconds, usage.ru_maxrss / 1024


class Case(NamedTuple):
    """A command with INPUT and FOLDER in it, and a part of the line that it prints after its first step."""

    command: str
    first_line: str
    inputs: dict[str, tuple[str, str]]  # what the row of the table says -> (file, flags)


def cases() -> dict[str, Case]:
    t5, bert = (
        f"--model FOLDER/{model} --vocabulary FOLDER/{vocabulary} --steps 2 --log-every 1 --batch-size 8 --overwrite"
        for model, vocabulary in (("t5.json", "spiece.model"), ("bert.json", "vocab.txt"))
    )
    text = "--texts INPUT --input-length 128 --out FOLDER/run"
    kinds = {
        "documents": ("documents.txt", ""),
        "documents, tokens file": ("documents.txt", "--tokens-file FOLDER/a.tokens"),
        "one document": ("lines.txt", ""),
    }
    documents, squad, long = {"documents": kinds["documents"]}, {"questions": ("squad.json", "")}, ("long.jsonl", "")
    pairs = {name: kind for name, kind in kinds.items() if name != "one document"}  # whose second half is from another
    salient = "--salient-share 0.5 --salient-spans rule"
    return {
        "pretrain-spans": Case(f"pretrain-spans {t5} {text}", "pretraining 1/", kinds),
        "pretrain-spans, salient spans": Case(f"pretrain-spans {t5} {text} {salient}", "pretraining 1/", documents),
        "pretrain-mlm": Case(f"pretrain-mlm {bert} {text}", "pretraining 1/", pairs),
        "pretrain-mlm --no-next-sentence": Case(
            f"pretrain-mlm {bert} {text} --no-next-sentence", "pretraining 1/", kinds
        ),
        "pretrain-clm": Case(f"pretrain-clm {bert} {text}", "pretraining 1/", kinds),
        "finetune-spans": Case(f"finetune-spans {bert} --questions INPUT --out FOLDER/spans", "fine-tuning 1/", squad),
        "finetune-qa": Case(f"finetune-qa {t5} --context-questions INPUT --out FOLDER/qa", "fine-tuning 1/", squad),
        "answer, BERT": Case("answer FOLDER/spans --file INPUT", '"answer"', {"a long context": long}),
        "answer, T5": Case("answer FOLDER/qa --file INPUT", '"answer"', {"a long context": long}),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=200, help="of text")
    parser.add_argument("--questions", type=int, default=100_000)
    parser.add_argument("--characters", type=int, default=10**6, help="of the context to answer from")
    known = list(cases())
    parser.add_argument("--only", nargs="+", default=known, choices=known, metavar="CASE", help="; ".join(known))
    flags = parser.parse_args()
    seconds, peak = measure_process([sys.executable, "-c", f"{BARE}; print('ready')"], "ready")
    print(f"the libraries alone: {peak:,.0f} MiB, {seconds:.1f} s\n")
    with tempfile.TemporaryDirectory() as temporary:
        folder, words = Path(temporary), Words()
        words.write_vocabularies(folder)
        (folder / "t5.json").write_text(json.dumps(T5))
        (folder / "bert.json").write_text(json.dumps(BERT))
        for size, kind in ((SMALL, "small"), (int(flags.megabytes * 1e6), "large")):
            (folder / kind).mkdir()
            words.write_texts(size, folder / kind / "documents.txt", folder / kind / "lines.txt")
            words.write_questions(100 if kind == "small" else flags.questions, folder / kind / "squad.json")
            context = " ".join(words.sentences(flags.characters // 50))[: 400 if kind == "small" else flags.characters]
            row = {"id": "q", "question": f"Who is {context.split()[5]}?", "context": context}
            (folder / kind / "long.jsonl").write_text(json.dumps(row) + "\n")
        print("| command | input | peak MiB | beside, MiB | seconds to the first step | with a small input |")
        print("|---|---|---|---|---|---|", flush=True)
        for name in flags.only:
            case, small = cases()[name], None
            for said, (file, more) in case.inputs.items():
                command = f"{case.command} {more}".replace("FOLDER", str(folder))
                small = small or measure(command.replace("INPUT", f"{folder}/small/{file}"), case.first_line)
                large = measure(command.replace("INPUT", f"{folder}/large/{file}"), case.first_line)
                (small_first, small_peak), (first, peak) = small, large
                figures = f"{peak:,.0f} | {peak - small_peak:,.0f} | {first:.1f} | {small_first:.1f}"
                print(f"| {name} | {said} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
