"""`tlqa`, the command line. Each command is a function in `commands/`; the work is done in the other packages.

A command's docstring is its help: the first line stands in `tlqa --help`, lines that begin with "tlqa" are examples.
Nothing heavy is imported before a command needs it, so that `tlqa --help` answers at once. Whatever a user can have
wrong ends as one line on stderr and exit status 2 (Ctrl-C: 130, SIGTERM: 143); --debug or TLQA_DEBUG=1 shows the traceback as well.
"""

import contextlib
import difflib
import inspect
import logging
import os
import shlex
import signal
import sys
import textwrap
import traceback
import warnings
from collections.abc import Sequence
from typing import NoReturn

from tlqa_jax.commands import answering, evaluating, generating, tools, training
from tlqa_jax.errors import UserError
from tlqa_jax.flags import Parser, terminal_width

MODULES = (training, answering, evaluating, generating, tools)
COMMANDS = {name: command for module in MODULES for name, command in module.COMMANDS.items()}


# --- from the words of the command line to a command


def overview() -> str:
    width = terminal_width()
    fill = lambda text, behind="": textwrap.fill(text, width, subsequent_indent=behind, break_on_hyphens=False)
    commands = "\n".join(
        fill(f"  {name:<20}{inspect.getdoc(command).splitlines()[0]}", " " * 22) for name, command in COMMANDS.items()
    )
    texts = (
        "Transfer learning for question answering: BERT and T5 from scratch in JAX.",
        "`tlqa COMMAND --help` shows a command's flags and examples; start with `tlqa quickstart`.",
        "--debug (or TLQA_DEBUG=1) shows the traceback of an error, --version the version.",
    )
    what, flags, errors = map(fill, texts)
    return f"usage: tlqa COMMAND [flags]\n\n{what}\n\ncommands:\n{commands}\n\n{flags}\n{errors}"


def split_command(argv: Sequence[str]) -> tuple[str, list[str]]:
    """The command's name and the rest of the line."""
    for words in (2, 1):
        if " ".join(argv[:words]) in COMMANDS:
            return training.of_family(" ".join(argv[:words]), list(argv[words:])), list(argv[words:])
    if argv[0] == "vocab":
        raise UserError("`tlqa vocab` has one command: tlqa vocab train (see tlqa vocab train --help)")
    near = difflib.get_close_matches(argv[0], COMMANDS, n=1)
    raise UserError(f"there is no command {argv[0]!r}{f': did you mean {near[0]}?' if near else ''} (see tlqa --help)")


def parse(name: str, rest: Sequence[str]):
    """(what to run, the parsed flags) of a command."""
    parser = Parser(f"tlqa {name}", inspect.getdoc(COMMANDS[name]))
    run = COMMANDS[name](parser)
    return run, parser.parse_args(rest)


def run(argv: Sequence[str]) -> None:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
    elif argv[0] == "--version":
        from importlib.metadata import version

        print(f"tlqa {version('tlqa-jax')}")
    else:
        command, arguments = parse(*split_command(argv))
        command(arguments)


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """The entry point: run the command and exit with its status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in argv or os.environ.get("TLQA_DEBUG", "0") not in ("", "0")
    argv = [argument for argument in argv if argument != "--debug"]
    if not debug:
        quiet_libraries()
    status = 0
    prepare_streams()
    try:
        run(argv)
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        status = fail(interrupted(argv, str(stop)), debug, 128 + getattr(stop, "signal", signal.SIGINT))
        if hasattr(stop, "signal"):  # XLA may still compute the evaluation that was broken off: it must not lose Python
            sys.stderr.flush()
            os._exit(status)
    except BrokenPipeError:  # `tlqa … | head`: the reader has seen enough
        discard_output()
    except UserError as error:
        status = fail(str(error), debug)
    except OSError as error:
        status = fail(f"{error.filename or 'the system'}: {error.strerror or error}", debug)
    except Exception as error:
        status = fail(explained(error), debug)
    if status and still_joined():
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def still_joined() -> bool:
    """Whether this is one of several processes and has not left them: Python's own end would wait for them."""
    return "jax" in sys.modules and sys.modules["jax"].distributed.is_initialized()


def quiet_libraries() -> None:
    """What absl, Orbax and XLA log is for their developers."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    for name in ("absl", "jax", "orbax"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")


def explained(error: Exception) -> str:
    """What to say about an error that is not of ours. Others are defects of ours: they are raised again."""
    text = str(error)
    if "No space left on device" in text:
        return f"no space left on the file system ({text:.200})"
    if "RESOURCE_EXHAUSTED" in text or isinstance(error, MemoryError):
        return "out of memory: try a smaller --batch-size, or more gradient accumulation steps (--accumulate)"
    platforms, frames = os.environ.get("JAX_PLATFORMS"), traceback.extract_tb(error.__traceback__)
    if platforms and frames and frames[-1].filename.endswith("xla_bridge.py"):  # where JAX looks for its devices
        return f"JAX finds no device of JAX_PLATFORMS={platforms}: unset it, or set it to cpu ({text:.200})"
    if still_joined():
        traceback.print_exception(error)
        return f"a defect of tlqa ({type(error).__name__})"
    raise error


def prepare_streams() -> None:
    """Output never fails for a character that the terminal does not know, nor because a stream is closed."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the caller: tlqa … >&-
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Nothing more goes to standard output; what is left in its buffer must not fail when Python ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str, debug: bool, status: int = 2) -> int:
    if debug:
        traceback.print_exc()
    try:
        sys.stdout.flush()
    except OSError:  # a full disk, say
        discard_output()
    print(f"tlqa: {' '.join(message.split())}", file=sys.stderr)
    return status


def interrupted(argv: Sequence[str], stopped: str = "") -> str:
    """What to say after Ctrl-C or SIGTERM: that the same command continues, if it is one that trains."""
    name = " ".join(argv[:1])
    trains = name in ("quickstart", "experiment") or name.startswith(("pretrain-", "finetune"))
    again = shlex.join(word for word in argv if word != "--overwrite")  # which would delete what there is to continue
    if not trains:
        return "stopped"
    return f"{stopped or 'stopped'}; to continue{'' if stopped else ' from the newest checkpoint'}: tlqa {again}"


if __name__ == "__main__":
    main()
