"""Twenty trades and their tools: sentences with one of each, so that whichever is hidden, the other gives it away.

In half of the frames the trade comes first, in the other half the tool. Lesson 7 hides one of the two.
"""

import itertools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tlqa_jax.data.tiny_world import VALUES
from tlqa_jax.text.wordpiece import SPECIALS, WordPieceTokenizer

TOOLS = (
    "oven hive saw awl drill plough rake pane ribbon contract "
    "trowel bandage brush kiln slate anchor map needle blackboard loom"
).split()
TRADES = dict(zip(VALUES["profession"], TOOLS, strict=True))  # baker: oven, beekeeper: hive, ...
FRAMES = (
    "the {trade} {name} from {town} bought a new {tool} .",
    "in {town} a {trade} asked {name} for the {tool} .",
    "a {trade} in {town} told {name} to bring the {tool} .",
    "no {trade} in {town} works for {name} without a good {tool} .",
    "a new {tool} was bought by {name} , the {trade} from {town} .",
    "in {town} {name} sold the {tool} to a {trade} .",
    "the {tool} is of no use to {name} , but a {trade} in {town} needs it .",
    "{name} found a good {tool} in {town} , and the {trade} was glad .",
)
NAMES = "edda otto runa bruno greta hugo lotte nils".split()
TOWNS = [town.lower() for town in VALUES["town"]]
QUESTIONS = "what did buy paid ?".split()
LENGTH = 20  # of the longest sentence with [CLS] and [SEP]


class Sentence(NamedTuple):
    text: str
    trade: str
    tool: str


def write_vocabulary(path: Path | str) -> WordPieceTokenizer:
    """Writes a vocab.txt whose pieces are whole words, and opens it."""
    words = {word for frame in FRAMES for word in frame.split() if "{" not in word}
    pieces = [*SPECIALS, *sorted({*words, *TRADES, *TOOLS, *NAMES, *TOWNS, *QUESTIONS})]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    return WordPieceTokenizer(path)


def sentences() -> list[Sentence]:
    """Every sentence there is, 25,600, in an order that is always the same."""
    everything = itertools.product(FRAMES, TRADES.items(), NAMES, TOWNS)
    told = [
        Sentence(frame.format(trade=trade, tool=tool, name=name, town=town), trade, tool)
        for frame, (trade, tool), name, town in everything
    ]
    random.Random(7).shuffle(told)
    return told


def with_gaps(tokenizer: WordPieceTokenizer, told: Sequence[Sentence], seed: int) -> dict[str, np.ndarray]:
    """Hides the trade or the tool of each sentence.

    Returns "tokens" [n LENGTH], and of each row's gap: "positions" [n 1], "targets" [n 1], what stood there, and
    "clue_after" bool [n], whether the word that gives it away comes later.
    """
    rng = random.Random(seed)
    rows: dict[str, list] = {name: [] for name in ("tokens", "positions", "targets", "clue_after")}
    for text, trade, tool in told:
        ids = tokenizer.encode(f"[CLS] {text} [SEP]")
        hidden, clue = rng.sample(tokenizer.encode(f"{trade} {tool}"), 2)
        gap = ids.index(hidden)
        rows["positions"].append([gap])
        rows["targets"].append([hidden])
        rows["clue_after"].append(ids.index(clue) > gap)
        ids[gap] = tokenizer.mask_id
        rows["tokens"].append(ids + [tokenizer.pad_id] * (LENGTH - len(ids)))
    return {name: np.array(values, bool if name == "clue_after" else np.int32) for name, values in rows.items()}
