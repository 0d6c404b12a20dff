"""What a command says that has an answer, but not the one that was hoped for."""

from stack.cli import output
from stack.cli.answers import Error
from stack.cli.app import complain
from stack.node.exit_codes import NOT_FOUND


def missed(answer: object, sentence: str, *, as_json: bool, as_lines: bool = False) -> int:
    """Say on stderr why, and for programs beside the answer. Returns the exit code."""
    error = Error(kind="NotFound", message=" ".join(sentence.split()), exit_code=NOT_FOUND)
    if as_lines:
        output.error_line(error)
    elif as_json:
        output.json_line(answer, error)
    complain(sentence)
    return NOT_FOUND
