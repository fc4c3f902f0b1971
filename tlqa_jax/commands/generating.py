"""The command `generate`: texts that a T5 generates, streamed in a terminal."""

import dataclasses
import json
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Sequence

from tlqa_jax.errors import UserError
from tlqa_jax.fields import flag, help_texts
from tlqa_jax.flags import add_flag, read_flags
from tlqa_jax.inference.generation_config import GenerationConfig

FILE = 'many: .txt (a blank line between texts, lines are joined), or rows with a "text" (.jsonl, .csv, …)'
DEFAULTS = {field.name: field.default for field in dataclasses.fields(GenerationConfig)}


def add_generation_flags(parser: ArgumentParser, *, without: Sequence[str] = ("num_return_sequences",)) -> None:
    """A flag for each setting of how a T5 generates."""
    texts = help_texts(GenerationConfig)
    for field in dataclasses.fields(GenerationConfig):
        if field.name == "early_stopping":
            parser.add_argument(
                flag(field.name), type=lambda text: {"true": True, "false": False}.get(text.lower(), text),
                choices=(False, True, "never"), metavar="true|false|never", default=False, help=texts[field.name],
            )  # fmt: skip
        elif field.name not in without:
            add_flag(parser, field, texts[field.name].replace("%", "%%"))


def generation_config(arguments: Namespace) -> GenerationConfig:
    """The settings that the flags describe."""
    return read_flags(arguments, GenerationConfig)


def flags_given(arguments: Namespace, names: Iterable[str]) -> str:
    """Those of the flags that the command line changes, as they are written there."""
    values = {name: getattr(arguments, name, None) for name in names}
    unset = lambda name, value: value is None or value is False or value == DEFAULTS.get(name)
    given = [name for name, value in values.items() if not unset(name, value)]
    return ", ".join(map(flag, given))


def generate(parser: ArgumentParser):
    """generate text with a T5 or a causal BERT

    A fine-tuned T5 generates an answer. A pretrained T5 fills in the sentinels <extra_id_0>, <extra_id_1>, …, that stand
    for missing words in the text. A BERT of `tlqa pretrain-clm` continues the text. In a terminal the text appears while
    it is generated (without --num-beams).

    tlqa generate runs/small "Mira <extra_id_0> in Oss."
    tlqa generate runs/finetuned "question: Where was Mira born?" --num-beams 4 -n 4
    tlqa generate runs/clm "Mira Voss plays" --max-new-tokens 20
    tlqa generate runs/small --file texts.txt --temperature 0.8 --top-p 0.9 --seed 1
    """
    parser.add_argument("run", metavar="RUN", help="a T5 or a causal BERT: a run, a quickstart, a hub name")
    parser.add_argument("texts", metavar="TEXT", nargs="*", help="what it reads")
    parser.add_argument("--file", metavar="SOURCE", help=FILE)
    parser.add_argument("--text-field", metavar="NAME", default="text", help="another name of that field")
    add_generation_flags(parser)
    number = f"{help_texts(GenerationConfig)['num_return_sequences']} (default: 1)"
    parser.add_argument("-n", "--num-return-sequences", metavar="INT", type=int, default=1, help=number)
    parser.add_argument("--probabilities", action="store_true", help="show each piece with its probability")
    return run_generate


def run_generate(arguments: Namespace) -> None:
    check_texts_or_file(arguments)
    config = generation_config(arguments)
    from tlqa_jax.inference.predictors import open_model

    model = open_model(arguments.run, to="generate")
    texts = arguments.texts if arguments.file is None else read_texts(arguments)
    if sys.stdout.isatty() and arguments.file is None and config.num_beams == config.num_return_sequences == 1:
        for text in texts:
            pieces, probabilities = zip(*print_steps(model.stream(text, config)))
            if arguments.probabilities:
                print_pieces(pieces, probabilities)
        return
    for text, generations in zip(texts, model.generate(texts, config)):
        if arguments.file is not None:
            print(json_line(text, generations, arguments.probabilities))
            continue
        for one in generations:
            print(one.text)
            if arguments.probabilities:
                print_pieces(one.pieces, one.token_probabilities)


def check_texts_or_file(arguments: Namespace) -> None:
    if bool(arguments.texts) == (arguments.file is not None):
        raise UserError("give either texts or --file")
    if any(not text.strip() for text in arguments.texts):
        raise UserError("a text is empty")


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


def print_steps(steps: Iterable[tuple[str, str, float]]) -> Iterable[tuple[str, float]]:
    """Print what each step adds to the text, and yield its piece and probability."""
    for added, piece, probability in steps:
        print(added, end="", flush=True)
        yield piece, probability
    print()


def json_line(text: str, generations: Sequence, probabilities: bool) -> str:
    """A line of JSON: the input, and the texts generated for it, best first."""
    rows = [{"text": one.text, "probability": round(one.probability, 4)} for one in generations]
    for row, one in zip(rows, generations) if probabilities else ():
        row["pieces"] = [[piece, round(p, 4)] for piece, p in zip(one.pieces, one.token_probabilities)]
    return as_json({"input": text, "generated": rows})


def as_json(row: dict) -> str:
    """One line of JSON, with escapes where standard output is not UTF-8."""
    return json.dumps(row, ensure_ascii=not (sys.stdout.encoding or "").lower().startswith("utf"))


def print_pieces(pieces: Sequence[str], probabilities: Sequence[float]) -> None:
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


COMMANDS = {"generate": generate}
