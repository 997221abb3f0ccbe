"""What is wrong with one row, as a value that a reader yields in the row's place."""


class RowError(Exception):
    """One row cannot be used; the message says why and what to do. `code`: of the finding that tells of such rows."""

    def __init__(self, message: str, code: str = "unreadable_row") -> None:
        super().__init__(message)
        self.code = code
