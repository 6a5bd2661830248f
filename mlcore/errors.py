"""The errors a caller may see; every message is a sentence that says what to do."""

NEUTRAL = "The model could not answer this. The fault is ours and has been logged."  # where it is neither's matter


class MLCoreError(Exception):
    """Base class of everything mlcore raises on purpose."""


class InvalidInput(MLCoreError):
    """The user's matter: `field` names the input or option, `message` says what is allowed."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class BundleError(MLCoreError):
    """The operator's matter: a bundle is missing, damaged or does not fit this version."""
