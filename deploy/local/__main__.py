"""`python -m deploy.local up|status|down`: the commands by themselves."""

import typer

from deploy.local.cli import register

if __name__ == "__main__":
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
    register(app)
    app()
