"""The one error of this floor that a user can mend."""

ANEW = "delete its folder and ingest again"
"""What mends a shards folder that was damaged: an ingest that is run again takes what is finished as it is."""


class DataError(ValueError):
    """One line for the user: the value, the rule, the likely mend. The command line prints it and exits with 2."""
