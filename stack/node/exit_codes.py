"""The exit codes of the command (README, "Exit codes"); `exits.py` says which error has which."""

OK = 0
BUG = 1
USAGE = 2
NOT_FOUND = 3
STALLED = 4
WRONG_BYTES = 5
NO_DAEMON = 6
REFUSED = 7
PARTIAL = 8
NO_SPACE = 9
INTERRUPTED = 130
