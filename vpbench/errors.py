"""The errors a user can act on. Their messages name the file, what is wrong with it and what to do."""


class VpbenchError(Exception):
    """Base of every error of ours that a user can act on; the command line prints its message without a traceback."""


class ConfigError(VpbenchError):
    """A configuration that cannot run: an unknown name, an unknown key, a value out of range."""


class DataError(VpbenchError):
    """A benchmark file that is missing, unreadable or inconsistent with its neighbours."""


class ModelError(VpbenchError):
    """A model returned something that is not a prediction for the clip it was given."""


class StorageError(VpbenchError):
    """The run folder cannot be written or holds something that does not belong to this run."""
