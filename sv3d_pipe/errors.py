"""The errors a user can cause. The command line prints them as one sentence and exits with 2."""


class UserError(Exception):
    """Bad input, a bad option or a missing file. The message says what to do about it."""
