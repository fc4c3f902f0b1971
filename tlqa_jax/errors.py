"""The one exception a user is meant to read."""


class UserError(ValueError):
    """Something the user gave cannot be used: a file, a field, a flag, a checkpoint.

    The message is one line that names the thing and says what to do. The command line prints it without a traceback and
    exits with status 2; in Python it is an ordinary `ValueError`.
    """
