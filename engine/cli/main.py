"""The ``fgengine`` command: what it is called with, what it ends with, and how it is interrupted.

Exit status: 0 success; 1 the function failed; 2 wrong use, or the engine could not do it; 128 + n ended by signal n.
Results go to stdout and nothing else does; what went wrong with the command itself goes to stderr.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import traceback
from typing import Final

import click
from click.shell_completion import get_completion_class, shell_complete

from engine.cli.invoke import invoke
from engine.cli.listing import runtimes
from engine.cli.signals import end_on_signals
from engine.errors import EngineError

EXIT_TROUBLE: Final = 2
EXIT_BROKEN_PIPE: Final = 128 + 13  # what a shell reports for a program that SIGPIPE ended, as in `yes | head`

_PROGRAM: Final = "fgengine"
_COMPLETE_VARIABLE: Final = "_FGENGINE_COMPLETE"

EXAMPLES: Final = """\b
Examples:
  fgengine invoke examples/hello --handler index.handler --runtime python3.9 --event '{"name": "world"}'
  fgengine invoke hello.zip -r python2.7 -r python3.6 -r python3.9 --event-file event.json
  fgengine runtimes
  eval "$(fgengine completion bash)"
"""

COMPLETION_EXAMPLES: Final = """\b
Examples:
  eval "$(fgengine completion bash)"      in ~/.bashrc
  eval "$(fgengine completion zsh)"       in ~/.zshrc
  fgengine completion fish > ~/.config/fish/completions/fgengine.fish
"""


def _version() -> str:
    try:
        return importlib.metadata.version(_PROGRAM)
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"  # `python -m engine` in a source folder


@click.group(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(_version(), prog_name=_PROGRAM, message="%(prog)s %(version)s")
def cli() -> None:
    """Run FunctionGraph-style Python functions on this machine, each in a real interpreter of its own.

    Exit status: 0 success, 1 the function failed, 2 wrong use or engine trouble.
    """


@cli.command(epilog=COMPLETION_EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL."""
    script = get_completion_class(shell)
    assert script is not None  # the three choices are those that click brings
    click.echo(script(cli, {}, _PROGRAM, _COMPLETE_VARIABLE).source())


cli.add_command(invoke)
cli.add_command(runtimes)


def main() -> int:
    """Run the command line of this process, and return its exit status."""
    end_on_signals()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed by the caller with >&-
            # A log may hold what the encoding of the output cannot express. Show it, do not fail on it.
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]  # both are TextIOWrapper here
    try:
        return _run()
    except click.ClickException as error:
        error.show()
        return EXIT_TROUBLE
    except BrokenPipeError:
        _discard_stdout()
        return EXIT_BROKEN_PIPE
    except (EngineError, OSError) as error:
        click.echo(f"{_PROGRAM}: {error}", err=True)
        _discard_stdout()
        return EXIT_TROUBLE
    except Exception as error:  # noqa: BLE001  # status 1 is the function's; a bug of ours must not look like one of it
        if os.environ.get("FGENGINE_DEBUG"):
            traceback.print_exc()
        kind = type(error).__name__
        click.echo(f"{_PROGRAM}: internal error: {kind}: {error} (FGENGINE_DEBUG=1 shows where)", err=True)
        return EXIT_TROUBLE


def _run() -> int:
    """What cli.main() does, which however ends a broken pipe with status 1, a failed function's."""
    instruction = os.environ.get(_COMPLETE_VARIABLE)
    if instruction:
        return shell_complete(cli, {}, _PROGRAM, _COMPLETE_VARIABLE, instruction)
    try:
        with cli.make_context(_PROGRAM, sys.argv[1:]) as context:
            return int(cli.invoke(context) or 0)
    except click.exceptions.Exit as done:  # --help and --version
        return done.exit_code


def _discard_stdout() -> None:
    # The interpreter flushes stdout once more when it ends, and would complain about the same failure again.
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
