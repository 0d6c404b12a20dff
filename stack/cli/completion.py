"""`stack completion`: the script that teaches a shell our commands."""

import click

from stack.cli import output


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a script that teaches a shell what Tab offers after `stack`.

    \b
    In ~/.bashrc or ~/.zshrc:      eval "$(stack completion bash)"   (or zsh)
    In ~/.config/fish/config.fish: stack completion fish | source
    """
    from click.shell_completion import get_completion_class

    from stack.cli.app import cli

    kind = get_completion_class(shell)
    assert kind is not None
    output.lines(kind(cli, {}, "stack", "_STACK_COMPLETE").source())
