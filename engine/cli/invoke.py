"""``fgengine invoke``: run a function, once or several times, on one runtime or on several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Final, TypeAlias, get_args

import click
from click.shell_completion import CompletionItem

from engine.cli import describe, plot, show
from engine.cli.chart import chart_of
from engine.cli.signals import signals_ignored_at_the_end
from engine.enforcement import MemoryEnforcement
from engine.engine import Engine
from engine.errors import InstanceError, InvalidFunctionError, RuntimeNotFoundError
from engine.model import Function, Isolation, StartMethod
from engine.result import Result
from engine.runtimes import Runtimes

EXIT_FUNCTION_FAILED: Final = 1
EXIT_TROUBLE: Final = 2

_FILE: Final = click.Path(exists=True, dir_okay=False)

EXAMPLES: Final = """\b
Examples:
  fgengine invoke examples/hello --handler index.handler --runtime python3.9 --event '{"name": "world"}'
  fgengine invoke hello.py -e '{"name": "world"}'              the handler is hello.handler then
  echo '{"name": "world"}' | fgengine invoke hello.zip -e -    the event from standard input
  fgengine invoke hello -r python2.7 -r python3.9 --json       one JSON object a line
  fgengine invoke hello --repeat 3                             one cold start, two warm ones
  fgengine invoke hello --plot memory.svg                      memory over time, the limit, the deadline
  fgengine invoke hello --memory 256 --timeout 10 --env GREETING=hi --dependency libs.zip
"""


def _installed_runtimes(_context: click.Context, _option: click.Parameter, incomplete: str) -> list[CompletionItem]:
    labels = [interpreter.runtime for interpreter in Runtimes().installed()]
    return [CompletionItem(label) for label in labels if label.startswith(incomplete)]


_Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]


def _of_function(field: str, flags: str, text: str, *, metavar: str = "TEXT", kind: type = str) -> _Decorator:
    """An option that sets *field* of Function when given, and otherwise leaves it to Function's own default."""
    default = describe.DEFAULTS.get(field)
    shown = f"  [default: {default}]" if default else ""
    return click.option(*flags.split(), field, type=kind, default=None, metavar=metavar, help=text + shown)


def _repeatable(name: str, flags: str, text: str, *, metavar: str, **settings: Any) -> _Decorator:
    return click.option(*flags.split(), name, multiple=True, metavar=metavar, help=f"{text} Repeatable.", **settings)


def _number(flags: str, text: str, *, metavar: str, default: int) -> _Decorator:
    kind = click.IntRange(min=1)
    return click.option(flags, type=kind, default=default, metavar=metavar, help=f"{text}  [default: {default}]")


_OPTIONS: Final = (
    click.option("-H", "--handler", metavar="FILE.FUNCTION", help="[file].[function]  [default: index.handler]"),
    _repeatable(
        "runtimes",
        "-r --runtime",
        f"python2.7, python3.6, ...; default: {describe.DEFAULTS['runtime']}.",
        metavar="RUNTIME",
        shell_complete=_installed_runtimes,
    ),
    click.option(
        "-e",
        "--event",
        metavar="JSON",
        help=f"The event; - reads it from standard input.  [default: {describe.PLATFORM_TEST_EVENT}]",
    ),
    click.option("--event-file", type=_FILE, metavar="FILE", help="A file with the event."),
    _of_function("memory_mb", "-m --memory", "Memory limit, with all it starts.", metavar="MB", kind=int),
    _of_function("timeout_s", "-t --timeout", "Longest run of one invocation.", metavar="SECONDS", kind=float),
    _of_function("initializer", "--initializer", "Called once for each instance.", metavar="FILE.FUNCTION"),
    _of_function("initializer_timeout_s", "--initializer-timeout", "Its longest run.", metavar="SECONDS", kind=float),
    _of_function("load_timeout_s", "--load-timeout", "Longest import of the code.", metavar="SECONDS", kind=float),
    _of_function("max_processes", "--max-processes", "Processes and threads, at most.", metavar="N", kind=int),
    _of_function("max_open_files", "--max-open-files", "Descriptors of a process, at most.", metavar="N", kind=int),
    _of_function("tmp_mb", "--tmp", "Space in its temporary folder.", metavar="MB", kind=int),
    _of_function("address_space_mb", "--address-space", "Past it a MemoryError.", metavar="MB", kind=int),
    _repeatable("user_data_pairs", "--env", "User data; KEY alone is read from the environment.", metavar="KEY=VALUE"),
    _repeatable("user_data_files", "--env-file", "User data, a KEY=VALUE a line.", metavar="FILE", type=_FILE),
    _repeatable(
        "dependencies", "-d --dependency", "A folder or .zip archive, importable after the code.", metavar="PATH"
    ),
    click.option(
        "--credentials-file",
        type=_FILE,
        metavar="FILE",
        help="JSON: access_key, secret_key, security_access_key, security_secret_key, security_token, token. "
        "Or set FGENGINE_ACCESS_KEY and so on.",
    ),
    click.option(
        "--start-method",
        type=click.Choice(get_args(StartMethod)),
        default=None,
        help="Fork a warmed interpreter, or spawn a fresh one.  [default: fork]",
    ),
    _repeatable("preload", "--preload", "A library's module, imported before the fork.", metavar="MODULE"),
    _of_function("name", "--name", "What getFunctionName() returns."),
    _of_function("package", "--package", "What getPackage() returns."),
    _of_function("version", "--version", "What getVersion() returns."),
    _of_function("alias", "--alias", "What getAlias() returns."),
    _of_function("project_id", "--project-id", "What getProjectID() returns."),
    click.option("--main-thread", is_flag=True, help="Run the code on the main thread; production does not."),
    _repeatable("interpreters", "--python", "Interpreter of a runtime.", metavar="RUNTIME=PATH"),
    click.option(
        "--billing-step-ms",
        type=click.Choice(["1", "100", "1000"]),
        default="1",
        help="Bills are whole steps of this.  [default: 1]",
    ),
    click.option(
        "--memory-enforcement",
        type=click.Choice(get_args(MemoryEnforcement)),
        default="auto",
        help="Who keeps the memory limit: control groups as well, or samples alone.  [default: auto]",
    ),
    click.option(
        "--isolation",
        type=click.Choice(get_args(Isolation)),
        help="How much of the machine the function sees: see docs/security.md.  [default: process]",
    ),
    click.option("--network", is_flag=True, help="Let a function in a container have the host's network."),
    _number("--log-bytes", "How much of the log is kept, the newest.", metavar="BYTES", default=4096),
    click.option("--request-id", metavar="TEXT", help="Id of the invocation.  [default: a new UUID]"),
    _number("--repeat", "Invoke it this often; all but the first start warm.", metavar="N", default=1),
    click.option(
        "--plot",
        type=click.Path(dir_okay=False, writable=True, allow_dash=True),
        metavar="FILE",
        help="Draw memory over time into FILE (.svg or .png), or with - into the terminal.",
    ),
    click.option("--json", "as_json", is_flag=True, help="One JSON object a line for each result, for machines."),
)


def _with_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.command(epilog=EXAMPLES, short_help="Invoke a function, and print what it gave back.")
@click.argument("code", type=click.Path(exists=True))
@_with_options
def invoke(code: str, **options: Any) -> int:
    """Invoke the function in CODE: a folder, a .zip archive, or one .py file.

    Prints its return, its execution summary and the newest 4 KB of its log. The exit status is 0 for success,
    1 when the function failed, 2 for wrong use or engine trouble.
    """
    if options["request_id"] is not None and (options["repeat"] > 1 or len(options["runtimes"]) > 1):
        raise click.UsageError("--request-id is the id of one invocation: not with --repeat or several --runtime")
    painter = _painter(options)
    try:
        event = describe.read_event(options["event"], options["event_file"])
        functions = _functions(code, options)
        engine = Engine(
            runtimes=describe.read_interpreters(options["interpreters"]),
            billing_step_ms=int(options["billing_step_ms"]),
            log_bytes=options["log_bytes"],
            memory_enforcement=options["memory_enforcement"],
            spare_instances=0,  # for whom? an instance or two are all that is ever needed here
        )
    except InvalidFunctionError as error:
        raise describe.wrong_use(error) from None
    with engine, signals_ignored_at_the_end():
        return _run(engine, functions, event, options, painter)


def _painter(options: dict[str, Any]) -> plot.Painter | None:
    if options["plot"] is None:
        return None
    if options["plot"] == plot.TERMINAL and options["as_json"]:
        raise click.UsageError("--plot - and --json exclude each other: both are written to standard output")
    return plot.painter_for(options["plot"])


def _functions(code: str, options: dict[str, Any]) -> list[Function]:
    """One description for each runtime asked for, in that order, each once."""
    given = {name: options[name] for name in describe.OPTION_OF_FIELD if options.get(name) is not None}
    given.setdefault("handler", describe.default_handler(code))
    given["code"] = code
    given["user_data"] = describe.read_user_data(options["user_data_pairs"], options["user_data_files"])
    given["credentials"] = describe.read_credentials(options["credentials_file"])
    runtimes = options["runtimes"] or [describe.DEFAULTS["runtime"]]
    return list(dict.fromkeys(Function(runtime=runtime, **given) for runtime in runtimes))


def _run(
    engine: Engine,
    functions: list[Function],
    event: bytes,
    options: dict[str, Any],
    painter: plot.Painter | None,
) -> int:
    """Invoke and show everything; one runtime that cannot run does not keep the others from it."""
    status = 0
    runs: list[show.Run] = []
    view = show.View(as_json=options["as_json"], several=len(functions) * options["repeat"] > 1)
    for function in functions:
        try:
            for result in _results(engine, function, event, options):
                runs.append(show.Run(function.runtime, result))
                view.show(runs[-1])
                status = max(status, 0 if result.ok else EXIT_FUNCTION_FAILED)
        except InvalidFunctionError as error:  # about the code itself: the same on every runtime
            raise describe.wrong_use(error) from None
        except (RuntimeNotFoundError, InstanceError) as error:
            if len(functions) == 1:
                raise
            click.echo(f"fgengine: {function.runtime}: {error}", err=True)
            status = EXIT_TROUBLE
    view.compare(runs)
    if painter is not None and runs:
        painter(chart_of(functions[0], runs))  # they differ in nothing but the runtime
    return status


def _results(engine: Engine, function: Function, event: bytes, options: dict[str, Any]) -> Iterator[Result]:
    for _ in range(options["repeat"]):
        # submit(), not invoke(): an interrupt then hits this thread in a plain wait, never in the middle of the engine.
        future: Future[Result] = engine.submit(
            function, event, request_id=options["request_id"], timeline=options["plot"] is not None
        )
        yield future.result()
