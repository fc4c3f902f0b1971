"""Our WordPiece beside the tokenizers library's: seconds, and whether ids and offsets are the same on every line.

    python benchmarks/wordpiece.py --vocabulary vocab.txt corpus.txt.gz
    python benchmarks/wordpiece.py --vocabulary vocab.txt --cased corpus.txt.gz

Both tokenize the same lines in one call, and take turns on one core. The figures are medians with the smallest and the
largest. Ours remembers the words of earlier turns, so the first turn is shown apart. The library's call makes ids and
offsets, ours makes ids alone: each as it is used for training.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import tokenizers

from tlqa_jax.data.sources import local_path
from tlqa_jax.data.text_files import numbered_lines
from tlqa_jax.text.wordpiece import WordPieceTokenizer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="+", help="text files, also .gz")
    parser.add_argument("--vocabulary", default="tiny_world:wordpiece.txt")
    parser.add_argument("--cased", action="store_true", help="the vocabulary keeps capitals and accents")
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    os.environ["RAYON_NUM_THREADS"] = "1"  # of the library, which reads it when it is first used

    lines = [line.strip() for path in flags.texts for _, line in numbered_lines(Path(path)) if line.strip()]
    vocabulary = local_path(flags.vocabulary)
    ours = WordPieceTokenizer(vocabulary, lowercase=not flags.cased)
    theirs = tokenizers.BertWordPieceTokenizer(str(vocabulary), lowercase=not flags.cased)
    encoders = {
        "ours": ours.encode_batch, "tokenizers": lambda lines: theirs.encode_batch(lines, add_special_tokens=False),
    }  # fmt: skip
    seconds = {name: [] for name in encoders}
    for _ in range(flags.rounds + 1):
        for name, encode in encoders.items():
            start = time.perf_counter()
            encode(lines)
            seconds[name].append(time.perf_counter() - start)
    print(f"{len(lines):,} lines, {sum(map(len, lines)):,} characters, {'cased' if flags.cased else 'uncased'}")
    for name, (first, *later) in seconds.items():
        print(f"{name:10} {spread(np.array(later))} s, the first time {first:.2f} s")
    print(f"ours / tokenizers: {spread(np.array(seconds['ours'][1:]) / seconds['tokenizers'][1:])} times its seconds")

    differ = {"ids": 0, "offsets": 0}
    for line, their in zip(lines, encoders["tokenizers"](lines), strict=True):
        ids, offsets = ours.encode_with_offsets(line)
        differ["ids"] += list(ids) != their.ids
        differ["offsets"] += list(offsets) != their.offsets
    print(", ".join(f"{name} differ in {count:,} lines" for name, count in differ.items()))


def spread(figures: np.ndarray) -> str:
    low, middle, high = np.quantile(figures, [0, 0.5, 1])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
