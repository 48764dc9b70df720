"""The one error that a user sees: what is wrong, and what to do."""


class AdshiftError(Exception):
    """Bad input, told in two sentences.

    Args:
        what: the file or key at fault, what was found there and what was expected.
        remedy: what the user can do about it.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        self.what, self.remedy = what, remedy
        super().__init__(f"{what}\n  remedy: {remedy}" if remedy else what)
