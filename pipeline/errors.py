"""What can go wrong, as exceptions that carry their exit code and what the user can do about it."""


class JourneymanError(Exception):
    """A failure with a known cause: printed as one message, without a traceback, then `exit_code`."""

    exit_code = 5


class ConfigError(JourneymanError):
    """The command line or the configuration is wrong; found before anything ran."""

    exit_code = 2


class GateRefused(JourneymanError):
    """A gate refused a model; its artifacts are kept, the champion is unchanged."""

    exit_code = 3


class DataError(JourneymanError):
    """The data broke its contract; found before training."""

    exit_code = 4


class StageFailed(JourneymanError):
    """A stage stopped half-way; the same command resumes it."""

    exit_code = 5


class StoreError(JourneymanError):
    """The store cannot be read or written, or an artifact does not match its recorded hashes."""

    exit_code = 5


class Busy(JourneymanError):
    """Another process does the same work now, or did it first; the same command can be given again later."""

    exit_code = 6
