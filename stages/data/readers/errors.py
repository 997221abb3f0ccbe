"""What is wrong with one row, as a value that a reader yields in the row's place."""


class RowError(Exception):
    """One row cannot be used; the message says why and what to do."""
