"""The command `generate`: what a T5 writes, as it is written."""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence
from typing import Any

from tlqa_jax.errors import UserError

FILE = 'many: .txt (a blank line between texts, lines are joined), or rows with a "text" (.jsonl, .csv, …)'
EARLY = {"true": True, "false": False, "never": "never"}
SETTINGS = (  # of decoding.methods.Method
    "beams", "length_penalty", "early_stopping", "temperature", "top_k", "top_p", "seed", "n",
)  # fmt: skip


def add_method_flags(parser: ArgumentParser) -> None:
    """The flags for how a T5 writes."""
    add = lambda flag, kind, text: parser.add_argument(flag, metavar=kind.__name__.upper(), type=kind, help=text)
    add("--beams", int, "beam search: how many texts to keep in view (default: 1, which is greedy)")
    add("--length-penalty", float, "with --beams: above 0 favours longer texts, below 0 shorter ones (default: 1)")
    early = (
        "with --beams: stop when as many texts have ended (true), when no other is better at its present length (false,"
        " the default), or when none can become better (never)"
    )
    parser.add_argument("--early-stopping", choices=tuple(EARLY), help=early)
    add("--temperature", float, "draw each token: below 1 the likely become likelier, above 1 all more alike")
    add("--top-k", int, "draw from the K likeliest tokens only")
    add("--top-p", float, "draw from the fewest tokens that have this share of the probability together")
    add("--seed", int, "of what is drawn: the same seed, the same text (default: 0)")


def method_settings(arguments: Namespace) -> dict[str, Any]:
    """The settings of a `Method` that were given as flags."""
    given = {name: getattr(arguments, name, None) for name in SETTINGS}
    given = {name: value for name, value in given.items() if value is not None}
    drawn = [name for name in ("temperature", "top_k", "top_p") if name in given]
    if given.get("beams", 1) == 1:
        if "length_penalty" in given:
            raise UserError("--length-penalty compares the texts of a beam search: give --beams with it")
        if "early_stopping" in given:
            raise UserError("--early-stopping ends a beam search: give --beams with it")
    if "early_stopping" in given:
        given["early_stopping"] = EARLY[given["early_stopping"]]
    if "seed" in given and not drawn:
        raise UserError("--seed is for what is drawn: give --temperature, --top-k or --top-p with it")
    return given


def flags_given(arguments: Namespace, names: Iterable[str]) -> str:
    """Those of the flags that stand in the command, as they are written there."""
    values = {name: getattr(arguments, name, None) for name in names}
    there = [name for name, value in values.items() if value is not None and value is not False]
    return ", ".join(f"--{name.replace('_', '-')}" for name in there)


def generate(parser: ArgumentParser):
    """what a T5 writes

    A fine-tuned model writes its answer, a pretrained one fills the sentinels <extra_id_0>, <extra_id_1>, … that stand
    in the text for what is missing. In a terminal the text appears while it is written (not with --beams).

    tlqa generate runs/small "Mira <extra_id_0> in Oss."
    tlqa generate runs/finetuned "question: Where was Mira born?" --beams 4 -n 4
    tlqa generate runs/small --file texts.txt --temperature 0.8 --top-p 0.9 --seed 1
    """
    parser.add_argument("run", metavar="RUN", help="the run of a T5, pretrained or fine-tuned, or a quickstart")
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="what it reads")
    parser.add_argument("--file", metavar="SOURCE", help=FILE)
    parser.add_argument("--text-field", metavar="NAME", default="text", help="another name of that field")
    add_method_flags(parser)
    parser.add_argument("-n", metavar="INT", type=int, help="texts for each: the best of the beams, or so many drawn")
    length = "longest text to write, in tokens (default: as in training)"
    parser.add_argument("--max-length", metavar="INT", type=int, help=length)
    parser.add_argument("--probabilities", action="store_true", help="show each piece with its probability")
    return run_generate


def run_generate(arguments: Namespace) -> None:
    if bool(arguments.texts) == (arguments.file is not None):
        raise UserError("give either texts or --file")
    if any(not text.strip() for text in arguments.texts):
        raise UserError("a text is empty")
    if arguments.max_length is not None and arguments.max_length < 1:
        raise UserError(f"--max-length is {arguments.max_length}: it has to be at least 1")
    settings = method_settings(arguments)
    from tlqa_jax.inference.generation_config import Method
    from tlqa_jax.inference.predictors import open_t5

    method = Method(**settings)
    opened = open_t5(arguments.run)
    texts = arguments.texts if arguments.file is None else read_texts(arguments)
    if sys.stdout.isatty() and arguments.file is None and method.beams == method.n == 1:
        for text in texts:
            steps = opened.stream(text, method, arguments.max_length)
            pieces, probabilities = zip(*[step for step in shown(steps)])
            if arguments.probabilities:
                draw(pieces, probabilities)
        return
    for text, written in zip(texts, opened.generate(texts, method, arguments.max_length)):
        if arguments.file is not None:
            print(row(text, written, arguments.probabilities))
            continue
        for each in written:
            print(each.text)
            if arguments.probabilities:
                draw(each.pieces, each.token_probabilities)


def read_texts(arguments: Namespace) -> list[str]:
    """The texts of --file; says how many rows had none."""
    from tlqa_jax.data.sources import open_texts

    data_dir = getattr(arguments, "data_dir", None)
    documents = open_texts(arguments.file, data_dir=data_dir, field=arguments.text_field)
    texts = list(documents)
    if documents.left_out:
        note(f'{documents.left_out} rows of {arguments.file} were left out: their "{arguments.text_field}" is empty')
    return texts


def note(text: str) -> None:
    sys.stdout.flush()
    print(f"note: {text}", file=sys.stderr)


def shown(steps: Iterable[tuple[str, str, float]]) -> Iterable[tuple[str, float]]:
    """Writes to the terminal what each step adds, and hands on its piece and probability."""
    for grown, piece, probability in steps:
        print(grown, end="", flush=True)
        yield piece, probability
    print()


def row(text: str, written: Sequence[Any], probabilities: bool) -> str:
    """A line of JSON: the text, and what was written, the best first."""
    texts = []
    for each in written:
        texts.append({"text": each.text, "probability": round(each.probability, 4)})
        if probabilities:
            texts[-1]["pieces"] = [[piece, round(p, 4)] for piece, p in zip(each.pieces, each.token_probabilities)]
    return json.dumps({"input": text, "written": texts}, ensure_ascii=False)


def draw(pieces: Sequence[str], probabilities: Sequence[float]) -> None:
    """One line for each piece: its probability, as a number and, in a terminal, as a bar."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    for piece, probability in zip(pieces, probabilities):
        if console.is_terminal:
            colour = "green" if probability > 0.9 else "yellow" if probability > 0.5 else "red"
            bar = "━" * max(1, round(20 * probability))
            console.print(f"  {probability:5.3f}  [{colour}]{bar:<20}[/]  {escape(piece)}")
        else:
            print(f"  {probability:5.3f}  {piece}")
