"""The command line as its users meet it: a process with arguments, streams, signals and an exit status."""

from __future__ import annotations

import configparser
import importlib
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

import click
import pytest

from engine.cli import describe, show
from engine.cli.invoke import invoke
from engine.cli.main import cli, main
from engine.model import Credentials, Function
from engine.runtimes import Runtimes

ROOT: Final = Path(__file__).resolve().parent.parent
AT_HAND: Final = "python{}.{}".format(*sys.version_info[:2])
COMMAND: Final = (sys.executable, "-m", "engine")
PATIENCE_S: Final = 30

ECHO: Final = "def handler(event, context):\n    print('in the log')\n    return event\n"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """One file that gives back its event."""
    path = tmp_path / "echo.py"
    path.write_text(ECHO)
    return path


def environment(**variables: str) -> dict[str, str]:
    """The environment of this process, without what would change the output, and with *variables*."""
    dropped = {"NO_COLOR", "FORCE_COLOR", "TERM", "PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONUTF8"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "PYTHONPATH": str(ROOT), **variables}


def run(
    *arguments: str | Path, stdin: str = "", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
        encoding="utf-8",
        env=env or environment(),
        timeout=PATIENCE_S,
    )


def results_of(*arguments: str | Path, env: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """What ``invoke --json`` with *arguments* printed."""
    done = run("invoke", *arguments, "--json", env=env)
    assert "" == done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@contextmanager
def started(
    *arguments: str | Path, env: Mapping[str, str] | None = None, **streams: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process group of its own, as a shell would start it, and gone at the end."""
    command = [*COMMAND, *map(str, arguments)]
    with subprocess.Popen(command, start_new_session=True, env=env or environment(), **streams) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


# --- what is typed ----------------------------------------------------------------------------------------------


def test_every_field_of_function_has_an_option() -> None:
    """Nothing that the library can describe is out of reach of the command line."""
    hints = {option for parameter in invoke.params for option in (*parameter.opts, parameter.human_readable_name)}

    assert {each.name for each in fields(Function)} == set(describe.OPTION_OF_FIELD)
    assert [] == [option for option in describe.OPTION_OF_FIELD.values() if option not in hints]


@pytest.mark.slow
def test_options_reach_the_function(tmp_path: Path) -> None:
    """Every option ends up where FunctionGraph's field of that name would."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "helper.py").write_text("NAME = 'helped'\n")
    (tmp_path / "main.py").write_text(
        "import resource, sys, threading\n"
        "import helper\n"
        "started = []\n"
        "def start(context):\n"
        "    started.append(context.getFunctionName())\n"
        "def run(event, context):\n"
        "    return [helper.NAME, started, context.getFunctionName(), context.getPackage(), context.getVersion(),\n"
        "            context.getAlias(), context.getProjectID(), context.getMemorySize(),\n"
        "            context.getRunningTimeInSeconds(), context.getUserData('A'), context.getUserData('B'),\n"
        "            context.getUserData('C'), context.getSecurityAccessKey(), context.getToken(),\n"
        "            threading.current_thread() is threading.main_thread(), context.getRequestID(),\n"
        "            resource.getrlimit(resource.RLIMIT_NOFILE)[0], resource.getrlimit(resource.RLIMIT_AS)[0] >> 20,\n"
        "            'decimal' in sys.modules, open('/proc/self/cmdline').read().split('\\0')[4]]\n"
    )
    (tmp_path / "data").write_text("# a comment\n\nA=file\nB=file=with=signs\n")
    (tmp_path / "keys.json").write_text(json.dumps({"security_access_key": "of the file"}))
    secrets = environment(
        FGENGINE_SECURITY_ACCESS_KEY="of the environment", FGENGINE_TOKEN="of the environment", C="taken over"
    )

    options = (
        f"--handler main.run -r {AT_HAND} --initializer main.start --memory 256 --timeout 7 --name n --package p "
        f"--version v2 --alias a --project-id i --env A=option --env C --env-file {tmp_path}/data --main-thread "
        f"--credentials-file {tmp_path}/keys.json --dependency {tmp_path}/library --request-id the-id "
        "--initializer-timeout 9 --load-timeout 9 --billing-step-ms 1000 --log-bytes 100 --max-processes 77 "
        "--max-open-files 300 --tmp 9 --address-space 4000 --memory-enforcement sample --start-method fork "
        "--preload decimal"
    )
    (result,) = results_of(tmp_path, *options.split(), env=secrets)

    seen = ["helped", ["n"], "n", "p", "v2", "a", "i", 256, 7, "option", "file=with=signs", "taken over"]
    assert [*seen, "of the file", "of the environment", True, "the-id", 300, 4000, True, "zygote"] == result["value"]
    assert 1000 == result["summary"]["billed_duration_ms"]
    assert "sample" == result["memory_enforcement"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "stdin", "event"),
    [
        ((), "", {"key": "value"}),
        (("--event", '{"typed": "\u00e9"}'), "", {"typed": "\u00e9"}),
        (("--event", "-"), '["piped"]', ["piped"]),
        (("--event-file", "FILE"), "", {"from": "a file"}),
    ],
)
def test_event_comes_from_where_it_was_said(
    code: Path, tmp_path: Path, arguments: tuple[str, ...], stdin: str, event: object
) -> None:
    """An option, standard input or a file; the platform's test event when nothing is said."""
    (tmp_path / "event.json").write_text('{"from": "a file"}')
    paths = [argument.replace("FILE", str(tmp_path / "event.json")) for argument in arguments]

    done = run("invoke", code, "-r", AT_HAND, "--json", *paths, stdin=stdin)

    assert event == json.loads(done.stdout)["value"]


def test_handler_of_one_file_has_its_name(code: Path, tmp_path: Path) -> None:
    """index.handler is the platform's default, and makes no sense for hello.py."""
    assert "echo.handler" == describe.default_handler(str(code))
    assert "index.handler" == describe.default_handler(str(tmp_path))


def test_credentials_come_from_the_environment_and_a_file_overrides_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Secrets have no option of their own: a command line is public."""
    monkeypatch.setenv("FGENGINE_ACCESS_KEY", "one")
    monkeypatch.setenv("FGENGINE_SECRET_KEY", "two")
    (tmp_path / "keys.json").write_text('{"secret_key": "three"}')

    assert Credentials(access_key="one", secret_key="three") == describe.read_credentials(str(tmp_path / "keys.json"))


@pytest.mark.parametrize("content", ['{"password": "hush"}', '["hush"]', "hush"])
def test_wrong_credentials_file_is_not_quoted(tmp_path: Path, content: str) -> None:
    """A complaint about secrets does not print them."""
    (tmp_path / "keys.json").write_text(content)

    with pytest.raises(click.BadParameter) as caught:
        describe.read_credentials(str(tmp_path / "keys.json"))

    assert "hush" not in caught.value.format_message()


# --- what comes out ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_piped_output_is_the_rendered_result(code: Path) -> None:
    """Plain text in three parts, the same as Result.render()."""
    done = run("invoke", code, "-r", AT_HAND, "--event", "[1, 2]", "--request-id", "the-id")
    lines = done.stdout.splitlines()

    assert (0, "") == (done.returncode, done.stderr)
    assert ["Function return", "[1, 2]", "", "Execution summary"] == lines[:4]
    assert "in the log" in lines
    assert lines[-1].endswith("billing memory: 128MB")
    assert "\x1b" not in done.stdout


@pytest.mark.slow
def test_repeat_starts_cold_once(code: Path) -> None:
    """The invocations share an instance, and the comparison counts them."""
    assert [True, False, False] == [result["cold_start"] for result in results_of(code, "-r", AT_HAND, "--repeat", "3")]

    last = run("invoke", code, "-r", AT_HAND, "--repeat", "3").stdout.splitlines()[-1]

    assert [AT_HAND, "1 cold, 2 warm", "success"] == last.split("  ")[:3]


@pytest.mark.slow
def test_several_runtimes_are_compared(tmp_path: Path) -> None:
    """Each runs the function once, and one that returns something else is named."""
    others = [interpreter.runtime for interpreter in Runtimes().installed() if interpreter.runtime != AT_HAND]
    if not others:
        pytest.skip("only one Python is installed")
    (tmp_path / "index.py").write_text("import sys\ndef handler(event, context):\n    return sys.version_info[:2]\n")

    shown = run("invoke", tmp_path, "-r", AT_HAND, "-r", others[0], "-r", AT_HAND).stdout.splitlines()

    titles = [f"=== {AT_HAND}, cold start ===", f"=== {others[0]}, cold start ==="]
    assert titles == [line for line in shown if line.startswith("===")]
    assert [AT_HAND, others[0]] == [line.split()[0] for line in shown[-2:]]
    assert [False, True] == [line.endswith(f"differs from {AT_HAND}") for line in shown[-2:]]


@pytest.mark.slow
def test_missing_runtime_does_not_keep_the_others_from_running(code: Path) -> None:
    """What can run is shown; what cannot is explained on stderr; the exit status tells that something is wrong."""
    given = ("--python", "python3.98=/nonexistent/python")
    done = run("invoke", code, "-r", "python3.98", "-r", AT_HAND, "--json", *given)

    assert 2 == done.returncode
    assert [AT_HAND] == [json.loads(line)["runtime"] for line in done.stdout.splitlines()]
    assert done.stderr.startswith("fgengine: python3.98: no interpreter found for python3.98")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("no_color", ["", "1"])
def test_terminal_gets_colour_unless_no_color_is_set(tmp_path: Path, no_color: str) -> None:
    """What a function prints cannot steer the terminal either way."""
    (tmp_path / "index.py").write_text("def handler(event, context):\n    print('\\x1b]0;title\\x07 \\x9b2J')\n")
    controller, terminal = pty.openpty()
    variables = environment(TERM="xterm-256color", NO_COLOR=no_color)
    with started("invoke", tmp_path, "-r", AT_HAND, env=variables, stdin=terminal, stdout=terminal) as process:
        os.close(terminal)
        shown = read_to_end(controller).decode()
        assert 0 == process.wait(PATIENCE_S)

    assert bool(no_color) == ("\x1b[" not in shown)
    assert "\\x1b]0;title\\x07 \\x9b2J" in shown
    assert not {"\x1b]", "\x07", "\x9b"} & set(shown)


def test_control_characters_are_spelt_out() -> None:
    """Newlines and tabs stay, text in any language stays."""
    assert "a\tb\n\\x00\\x1b[2J\\x7f\\x85\u00e9\u4e2d" == show.for_terminal("a\tb\n\x00\x1b[2J\x7f\x85\u00e9\u4e2d")


@pytest.mark.slow
def test_output_that_the_encoding_cannot_express_is_shown(tmp_path: Path) -> None:
    """An old locale is no reason to fail, and for machines everything is ASCII anyway."""
    (tmp_path / "index.py").write_text("def handler(event, context):\n    print(u'\\u4e2d')\n    return u'\\ud800'\n")
    narrow = environment(PYTHONIOENCODING="latin-1")

    assert "\\u4e2d" in run("invoke", tmp_path, "-r", AT_HAND, env=narrow).stdout
    assert "\ud800" == results_of(tmp_path, "-r", AT_HAND, env=narrow)[0]["value"]


# --- how it ends ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_failed_function_is_exit_status_1(tmp_path: Path) -> None:
    """A failure of the function is a result like any other: on stdout, with a status of its own."""
    (tmp_path / "index.py").write_text("def handler(event, context):\n    raise KeyError('tea')\n")

    done = run("invoke", tmp_path, "-r", AT_HAND)

    assert (1, "") == (done.returncode, done.stderr)
    assert '"errorType": "KeyError"' in done.stdout
    assert "(invoke Failed)" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ("invoke /nonexistent", "'/nonexistent' does not exist"),
        ("invoke CODE --memory 0", "--memory: 0 must be a whole number"),
        ("invoke CODE --timeout nan", "--timeout: nan must be a number of seconds"),
        ("invoke CODE --handler index", "--handler: 'index' must have the form [file].[function]"),
        ("invoke CODE --runtime ruby", "--runtime: 'ruby' must be python2.7"),
        ("invoke CODE --event {", "event"),
        ("invoke CODE --event 1 --event-file CODE", "--event and --event-file exclude each other"),
        ("invoke CODE --event-file /nonexistent", "does not exist"),
        ("invoke CODE --env MISSING_FROM_THE_ENVIRONMENT", "has no value"),
        ("invoke CODE --env RUNTIME_X=1", "--env: "),
        ("invoke CODE --python python3.9", "must have the form RUNTIME=PATH"),
        ("invoke CODE --python ruby=/usr/bin/ruby", "--python"),
        ("invoke CODE --repeat 2 --request-id x", "--request-id is the id of one invocation"),
        ("invoke CODE --repeat 0", "--repeat"),
        ("invoke CODE -r python3.98 --python python3.98=/nonexistent", "no interpreter found for python3.98"),
        ("frobnicate", "No such command"),
    ],
)
def test_wrong_use_is_exit_status_2_and_told_in_words(code: Path, arguments: str, complaint: str) -> None:
    """What is wrong, in the words of the command line, on stderr, without a traceback and without output."""
    at_hand = ["-r", AT_HAND] if "invoke CODE" in arguments and "-r" not in arguments.split("CODE", 1)[1] else []
    done = run(*arguments.replace("CODE", str(code)).split(), *at_hand)

    assert (2, "") == (done.returncode, done.stdout)
    assert complaint in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 1_000_000])
def test_reader_that_leaves_is_no_error(tmp_path: Path, size: int) -> None:
    """As with any other program in front of head: the status of SIGPIPE, and not a word."""
    (tmp_path / "index.py").write_text("def handler(event, context):\n    return 'x' * event\n")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "bufsize": 0}
    with started("invoke", tmp_path, "-r", AT_HAND, "-e", str(size), **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()

        assert b"" == process.stderr.read()
        assert 141 == process.wait(PATIENCE_S)


@pytest.mark.slow
def test_full_disk_is_trouble() -> None:
    """A result that could not be written was not delivered."""
    with open("/dev/full", "wb") as full, started("runtimes", stdout=full, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        complaint = process.stderr.read()

        assert 2 == process.wait(PATIENCE_S)
    assert b"No space left on device" in complaint
    assert b"Traceback" not in complaint


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("phase", ["load", "initializer", "handler"])
def test_interrupt_ends_everything(tmp_path: Path, number: signal.Signals, phase: str) -> None:
    """Ctrl-C: status 130 (128 + signal for the others), no process, no temporary file and no traceback left."""
    announcements = tmp_path / "announcements"
    os.mkfifo(announcements)
    (tmp_path / "temporary").mkdir()
    (tmp_path / "index.py").write_text(
        "import os, signal, subprocess\n"
        "def announce(phase):\n"
        f"    if phase == {phase!r}:\n"
        "        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])\n"
        f"        fifo = os.open({str(announcements)!r}, os.O_WRONLY)\n"
        "        os.set_inheritable(fifo, True)\n"
        "        subprocess.Popen(['sleep', '300'], close_fds=False, start_new_session=True)\n"
        "        os.write(fifo, b'here')\n"
        "        while True: pass\n"
        "announce('load')\n"
        "def start(context): announce('initializer')\n"
        "def handler(event, context): announce('handler')\n"
    )
    options = ("-r", AT_HAND, "--timeout", "300", "--initializer", "index.start", "--initializer-timeout", "300")
    temporary = environment(TMPDIR=str(tmp_path / "temporary"))
    with started("invoke", tmp_path, *options, env=temporary, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        # Not blocking, or a command that ends too early would hang this test instead of failing it.
        with open(os.open(announcements, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0) as fifo:
            assert b"here" == read_when_ready(fifo)
            os.killpg(process.pid, number)

            assert 128 + number == process.wait(PATIENCE_S)
            # Whoever still lives holds the other end open: the end of the file is the end of them all.
            assert b"" == read_when_ready(fifo)
        assert b"" == process.stderr.read()
    assert [] == list((tmp_path / "temporary").iterdir())


# --- the other commands -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_runtimes_lists_what_was_found_and_what_was_not(tmp_path: Path) -> None:
    """A machine reads the same facts as a person."""
    given = ("runtimes", "--python", f"{AT_HAND}={sys.executable}", "--python", f"python3.98={tmp_path}/python")
    told = [json.loads(line) for line in run(*given, "--json").stdout.splitlines()]
    by_runtime = {each["runtime"]: each for each in told}
    missing = by_runtime["python3.98"]

    assert "{}.{}.{}".format(*sys.version_info[:3]) == by_runtime[AT_HAND]["version"]
    assert (True, "caller") == (by_runtime[AT_HAND]["found"], by_runtime[AT_HAND]["source"])
    assert {"python2.7", "python3.6", "python3.9"} <= by_runtime.keys()
    assert missing["found"] is False
    assert str(tmp_path) in missing["tried"][0]
    assert missing["advice"]

    table = run(*given).stdout

    assert [] == [each for each in told if each["found"] and each["executable"] not in table]
    assert "no interpreter found for python3.98" in table


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_is_for_the_shell(shell: str) -> None:
    """It is printed for each shell that click knows."""
    done = run("completion", shell)

    assert (0, "") == (done.returncode, done.stderr)
    assert f"_FGENGINE_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.slow
def test_completion_offers_the_runtimes_of_this_machine() -> None:
    """The answer that the script of bash asks for."""
    asked = environment(_FGENGINE_COMPLETE="bash_complete", COMP_WORDS="fgengine invoke . --runtime py", COMP_CWORD="4")

    assert f"plain,{AT_HAND}" in run(env=asked).stdout.splitlines()


@pytest.mark.parametrize("command", [cli, *cli.commands.values()], ids=lambda command: command.name)
def test_help_has_examples(command: click.Command) -> None:
    """An example says more than a list of options."""
    assert "Examples:\n  " in command.get_help(click.Context(command, info_name="fgengine"))


def test_installed_command_is_this_one() -> None:
    """The entry point of the distribution is what these tests run as python -m engine."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    name, _, target = setup["options.entry_points"]["console_scripts"].strip().partition(" = ")
    module, _, attribute = target.partition(":")

    assert "fgengine" == name
    assert main is getattr(importlib.import_module(module), attribute)


@pytest.mark.slow
def test_import_of_the_library_does_not_load_the_command_line() -> None:
    """Library users do not pay for click and rich."""
    program = "import sys, engine; print([name for name in ('click', 'rich', 'engine.cli') if name in sys.modules])"

    assert b"[]\n" == subprocess.check_output([sys.executable, "-c", program], cwd=ROOT)


def read_when_ready(fifo: io.FileIO) -> bytes | None:
    """What comes next, b"" at the end, None when nothing comes."""
    ready, _, _ = select.select([fifo], [], [], PATIENCE_S)
    return fifo.read(1024) if ready else None


def read_to_end(controller: int) -> bytes:
    """Everything that a terminal was sent: its end is an EIO."""
    shown = b""
    while True:
        try:
            shown += os.read(controller, 65536)
        except OSError:
            os.close(controller)
            return shown
