"""The one exception a user is meant to read."""

LONGEST = 1000  # characters of a message


class UserError(ValueError):
    """Something the user gave cannot be used: a file, a field, a flag, a checkpoint.

    The message is one line that names the thing and says what to do. The command line prints it without a traceback and
    exits with status 2; in Python it is an ordinary `ValueError`.

    What the user gave may be part of the message. So line ends and other characters that do not print are written as in
    Python ("\\n"), and of a very long message the middle is left out.
    """

    def __init__(self, message: str = ""):
        escaped = (letter if letter.isprintable() else ascii(letter)[1:-1] for letter in _shortened(message))
        super().__init__(_shortened("".join(escaped)))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} … {text[-LONGEST // 2 :]}"
