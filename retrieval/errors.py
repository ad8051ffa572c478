"""The one error of this floor that a user can mend."""


class RetrievalError(ValueError):
    """One line for the user: the value, the rule, the likely mend. The command line prints it and exits with 2."""
