"""Errors whose text is for the owner of the box: what was wrong, and what to do next."""


class BoxError(Exception):
    """Ends a command of the box with its sentence and an exit code that is not 0; never with a traceback."""
