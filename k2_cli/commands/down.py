"""``k2 down``: stop the local stack."""

import typer


def down() -> None:
    """Stop the local stack; its data stays.

    Services are stopped in the reverse of the order in which they were started, with all processes they have started;
    those, too, that a setting points elsewhere for by now.
    """
    from k2_cli.stack.local_stack import LocalStack
    from k2_resources.settings import Settings

    stopped: list[str] = []

    def report(line: str) -> None:
        stopped.append(line)
        typer.echo(line, err=True)

    settings = Settings.load()
    LocalStack.to_stop(settings).down(report)
    if not stopped:
        typer.echo(f"Nothing of {settings.home} runs.", err=True)
