"""Runs `tether`. Every error is one sentence on stderr and an exit code that is not 0."""

import os
import sys
from collections.abc import Sequence

import typer

from services.cli.app import PROGRAM, build
from services.cli.errors import CliError
from services.cli.output import print_error

# Lets an error that is nobody's at the terminal end in a traceback.
_DEBUG = "TETHER_DEBUG"


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 130 Ctrl-C."""
    code = run(sys.argv[1:])
    # Streams may still be open in other threads, and all of them are daemons.
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    command = typer.main.get_command(build(arguments))
    try:
        result = command.main(args=list(arguments), prog_name=PROGRAM, standalone_mode=False)
        sys.stdout.flush()
    except CliError as error:
        print_error(str(error))
        return error.exit_code
    except typer.TyperException as error:
        # Without words the help was shown instead.
        if error.format_message():
            print_error(_usage(error))
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print_error("stopped by Ctrl-C")
        return 130
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get(_DEBUG):
            raise
        print_error(f"this is a bug of tether ({type(error).__name__}: {error}); set {_DEBUG}=1 to see where it is")
        return 1
    return result if isinstance(result, int) else 0


def _usage(error: typer.TyperException) -> str:
    """What was wrong with the command line, and where its help is."""
    context = getattr(error, "ctx", None)
    # Typer's word for what a choice refuses; the sentence says it already.
    said = error.format_message().rstrip(".\n").replace(": Value error, ", ": ", 1)
    return f"{said}; see `{context.command_path if context else PROGRAM} --help`"


if __name__ == "__main__":
    main()
