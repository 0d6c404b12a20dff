"""`stack completion`: the script that teaches a shell our commands."""

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a completion script: `eval "$(stack completion bash)"`."""
    from click.shell_completion import get_completion_class

    from stack.cli.app import cli

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(cli, {}, "stack", "_STACK_COMPLETE").source())
