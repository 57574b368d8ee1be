"""Memory over time, drawn: what is on the drawing, into a file and into the terminal."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

import pytest

from engine.cli.chart import chart_of
from engine.cli.plot import painter_for
from engine.cli.show import Run
from engine.model import Function, Status, Summary
from engine.result import Result

ROOT: Final = Path(__file__).resolve().parent.parent
AT_HAND: Final = "python{}.{}".format(*sys.version_info[:2])
PATIENCE_S: Final = 60
"""The first picture on a machine has to wait for matplotlib's list of fonts."""

SVG: Final = "{http://www.w3.org/2000/svg}"
QUICK: Final = "def handler(event, context):\n    return event\n"
ENDLESS: Final = "def handler(event, context):\n    while True:\n        pass\n"
GREEDY: Final = (
    "def handler(event, context):\n    kept = []\n    while len(kept) < 256:\n        kept.append(bytearray(1 << 20))\n"
)
FULL: Final = (
    "import os\n"
    "def handler(event, context):\n"
    "    with open(os.environ['TMPDIR'] + '/file', 'wb') as stream:\n"
    "        stream.write(b'x' * (4 << 20))\n"
    "    while True:\n"
    "        pass\n"
)


def run(source: str, folder: Path, *arguments: str | Path, **variables: str | Path) -> subprocess.CompletedProcess[str]:
    """Run ``fgengine invoke`` on the function *source*, with 0.3 s if it is the endless one."""
    code = folder / "index.py"
    code.write_text(source)
    dropped = {"NO_COLOR", "FORCE_COLOR", "COLUMNS", "PYTHONIOENCODING", "PYTHONUTF8", "MPLBACKEND"}
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    timeout_s = "0.3" if source == ENDLESS else "30"
    return subprocess.run(
        [sys.executable, "-m", "engine", "invoke", str(code), "--timeout", timeout_s, *map(str, arguments)],
        capture_output=True,
        check=False,
        encoding="utf-8",
        env={**kept, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **{k: str(v) for k, v in variables.items()}},
        timeout=PATIENCE_S,
    )


def texts_of(picture: Path) -> list[str]:
    """Every text in an SVG, in its order."""
    return [each.text or "" for each in ElementTree.parse(picture).iter(f"{SVG}text")]


def groups_of(picture: Path) -> dict[str, ElementTree.Element]:
    """The groups of an SVG by their ids."""
    return {each.attrib.get("id", ""): each for each in ElementTree.parse(picture).iter(f"{SVG}g")}


def result(
    status: Status = Status.SUCCESS,
    *timeline: tuple[float, float],
    peak_mb: float = 10.0,
    message: str = "",
    duration_ms: float | None = None,
) -> Result:
    """A result that ended when its timeline did, unless *duration_ms* says when."""
    if duration_ms is None:
        duration_ms = timeline[-1][0] if timeline else 0.0
    return Result(
        status=status,
        summary=Summary(
            request_id="id", memory_size_mb=128, duration_ms=duration_ms, memory_used_mb=peak_mb, billed_duration_ms=1
        ),
        error={"errorMessage": message, "errorType": status.value, "stackTrace": []} if message else None,
        timeline=timeline,
    )


def function(tmp_path: Path, **description: Any) -> Function:
    return Function(**{"code": tmp_path, "handler": "index.handler", **description})


# --- what is on it ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeline", "limit", "deadline"),
    [
        (((1000.0, 10.0),), (128, "limit 128 MB"), (3000.0, "deadline 3 s")),
        (((1.0, 10.0),), (128, "limit 128 MB"), (None, "deadline 3 s \N{RIGHTWARDS ARROW}")),
        (((1000.0, 7.0),), (None, "limit 128 MB \N{UPWARDS ARROW}"), (3000.0, "deadline 3 s")),
        ((), (128, "limit 128 MB"), (3000.0, "deadline 3 s")),
    ],
)
def test_limit_and_deadline_are_drawn_unless_they_would_flatten_the_curve(
    tmp_path: Path, timeline: tuple[tuple[float, float], ...], limit: object, deadline: object
) -> None:
    """A drawing of 1 ms that ends at 3 s shows nothing: then an arrow says where to look for the deadline."""
    chart = chart_of(function(tmp_path), [Run("python3.9", result(Status.SUCCESS, *timeline))])

    assert limit == (chart.limit.at, chart.limit.label)
    assert deadline == (chart.deadline.at, chart.deadline.label)
    assert all(ms < chart.right_ms and mb < chart.top_mb for ms, mb in timeline)
    assert (chart.limit.at or 0) < chart.top_mb
    assert (chart.deadline.at or 0) < chart.right_ms


@pytest.mark.parametrize(
    ("status", "at_mb"), [(Status.OUT_OF_MEMORY, 130.5), (Status.TIMEOUT, 127.0), (Status.EXITED, 127.0)]
)
def test_kill_is_drawn_when_it_came_and_where_the_memory_was(tmp_path: Path, status: Status, at_mb: float) -> None:
    """Not where the instance alone was when all was over: a child of it may have held the memory."""
    timeline = ((1.0, 9.0), (2.0, 127.0), (4.5, 9.0))
    ended = result(status, *timeline, peak_mb=130.5, duration_ms=3.0)
    (curve,) = chart_of(function(tmp_path), [Run("python3.9", ended)]).curves

    assert ((1.0, 9.0), (2.0, 127.0), (3.0, at_mb)) == curve.points
    assert curve.ended_early


@pytest.mark.parametrize(
    ("status", "message", "end", "ended_early"),
    [
        (Status.SUCCESS, "", "success after 5.000 ms, peak 10.0 MB", False),
        (Status.FUNCTION_ERROR, "x", "function_error after 5.000 ms, peak 10.0 MB", False),
        (Status.TIMEOUT, "x", "killed (timeout) at 5.000 ms, peak 10.0 MB", True),
        (Status.DISK_FULL, "x", "killed (disk_full) at 5.000 ms, peak 10.0 MB", True),
        (
            Status.EXITED,
            "runtime process is exited, signal SIGSEGV",
            "exited (signal SIGSEGV) at 5.000 ms, peak 10.0 MB",
            True,
        ),
    ],
)
def test_label_tells_how_it_ended(tmp_path: Path, status: Status, message: str, end: str, *, ended_early: bool) -> None:
    """In the words of the status; only an end before the reply is marked."""
    ended = result(status, (1.0, 9.0), (5.0, 10.0), message=message)
    (curve,) = chart_of(function(tmp_path), [Run("python3.9", ended)]).curves

    assert f"python3.9, warm start: {end}" == curve.label
    assert ended_early == curve.ended_early


def test_handler_that_was_not_reached_has_a_label_alone(tmp_path: Path) -> None:
    """There is nothing to draw when the import failed, and the drawing says so."""
    (curve,) = chart_of(function(tmp_path), [Run("python3.9", result(Status.LOAD_TIMEOUT, message="x"))]).curves

    assert "python3.9, warm start: load_timeout, the handler was not reached" == curve.label
    assert ((), False) == (curve.points, curve.ended_early)


def test_results_of_one_runtime_are_numbered(tmp_path: Path) -> None:
    """Where a runtime has only one, its name is enough."""
    runs = [Run(runtime, result(Status.SUCCESS, (1.0, 9.0))) for runtime in ("python2.7", "python3.9", "python3.9")]
    labels = [curve.label.partition(",")[0] for curve in chart_of(function(tmp_path), runs).curves]

    assert ["python2.7", "python3.9 #1", "python3.9 #2"] == labels


# --- into a file ------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "options", "end"),
    [
        (ENDLESS, ("--memory", "64"), "killed (timeout) at 300.000 ms, peak "),
        (GREEDY, ("--memory", "64", "--timeout", "9"), "killed (out_of_memory) at "),
        (FULL, ("--memory", "64", "--timeout", "9", "--tmp", "1"), "killed (disk_full) at "),
    ],
)
def test_svg_shows_limit_deadline_and_kill(
    tmp_path: Path, runtime: str, source: str, options: tuple[str, ...], end: str
) -> None:
    """All of it as text, on every runtime and for every kill."""
    picture = tmp_path / "memory.svg"

    done = run(source, tmp_path, "-r", runtime, *options, "--plot", picture)

    texts = texts_of(picture)
    assert (1, "") == (done.returncode, done.stderr)
    assert "index.handler: memory over time" in texts
    assert 1 == sum(text == "limit 64 MB" for text in texts)
    assert 1 == sum(text.startswith(f"deadline {'0.3' if source == ENDLESS else '9'} s") for text in texts)
    assert 1 == sum(text.startswith(f"{runtime}, cold start: {end}") for text in texts)


@pytest.mark.slow
def test_moment_of_the_kill_is_marked(tmp_path: Path, runtime: str) -> None:
    """A timeout is on the deadline's line."""
    picture = tmp_path / "memory.svg"
    done = run(ENDLESS, tmp_path, "-r", runtime, "--plot", picture)
    assert (1, "") == (done.returncode, done.stderr)
    groups = groups_of(picture)
    (mark,) = groups["curve-0"].iter(f"{SVG}use")
    (deadline,) = groups["deadline"].iter(f"{SVG}path")

    assert float(deadline.attrib["d"].split()[1]) == pytest.approx(float(mark.attrib["x"]), abs=1)


@pytest.mark.slow
def test_png_is_one(tmp_path: Path) -> None:
    """Whatever the case of the suffix, and whichever window system matplotlib is told to use."""
    picture = tmp_path / "memory.PNG"

    done = run(ENDLESS, tmp_path, "-r", AT_HAND, "--plot", picture, MPLBACKEND="nonsense")
    signature, _, kind, width, height = struct.unpack(">8sI4sII", picture.read_bytes()[:24])

    assert (1, "") == (done.returncode, done.stderr)
    assert (b"\x89PNG\r\n\x1a\n", b"IHDR") == (signature, kind)
    assert width > height > 500


@pytest.mark.slow
def test_each_result_is_a_line_with_a_name_and_a_crowd_is_counted(tmp_path: Path, runtime: str) -> None:
    """Of two runtimes each has its own; ten is as many as can be told apart."""
    picture = tmp_path / "memory.svg"
    done = run(QUICK, tmp_path, "-r", runtime, "-r", AT_HAND, "--repeat", "6", "--plot", picture)
    assert (0, "") == (done.returncode, done.stderr)
    named = [text for text in texts_of(picture) if text.startswith("python")]

    assert [f"{runtime} #{number}" for number in range(1, 7)] == [text.partition(",")[0] for text in named[:6]]
    assert [f"{AT_HAND} #{number}" for number in range(1, 5)] == [text.partition(",")[0] for text in named[6:]]
    assert "2 more" in texts_of(picture)


@pytest.mark.slow
def test_name_that_no_font_has_is_drawn_without_a_complaint(tmp_path: Path) -> None:
    """Nor is a name a formula."""
    picture = tmp_path / "memory.svg"
    source = "# -*- coding: utf-8 -*-\ndef handler(event, context):\n    pass\nglobals()[u'$\\u4e2d$'] = handler\n"

    done = run(source, tmp_path, "-r", AT_HAND, "--handler", "index.$\u4e2d$", "--plot", picture)

    assert (0, "") == (done.returncode, done.stderr)
    assert "index.$\\u4e2d$: memory over time" in texts_of(picture)


@pytest.mark.slow
def test_json_has_the_timeline_that_was_drawn(tmp_path: Path) -> None:
    """For who wants to draw it otherwise; and what is for machines stays free of drawings."""
    done = run(ENDLESS, tmp_path, "-r", AT_HAND, "--json", "--plot", tmp_path / "memory.svg")
    (told,) = [json.loads(line) for line in done.stdout.splitlines()]
    times = [ms for ms, _ in told["timeline"]]

    assert sorted(times) == times
    assert times[-1] >= 300
    assert all(1 < mb < 128 for _, mb in told["timeline"])


# --- into the terminal ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_terminal_drawing_is_plain_when_piped(tmp_path: Path, runtime: str) -> None:
    """No colours, no blanks that look like characters, and not wider than 80 columns."""
    done = run(ENDLESS, tmp_path, "-r", runtime, "--plot", "-")
    drawing = done.stdout.partition("index.handler: memory over time\n")[2]

    assert (1, "") == (done.returncode, done.stderr)
    assert "- limit 128 MB ---" in drawing
    assert " deadline 0.3 s |\n" in drawing
    assert f"a X {runtime}, cold start: killed (timeout) at 300.000 ms, peak " in drawing.splitlines()[-1]
    assert 1 == sum(line.endswith("X") for line in drawing.splitlines())
    assert not {"\x1b", "\N{BRAILLE PATTERN BLANK}"} & set(drawing)
    assert max(map(len, drawing.splitlines())) <= 80


@pytest.mark.slow
def test_terminal_drawing_does_without_braille_where_it_must(tmp_path: Path) -> None:
    """An old locale has stars for dots, and > for an arrow."""
    source = "import time\n" + GREEDY.replace("256", "32") + "    time.sleep(0.02)\n"
    done = run(source, tmp_path, "-r", AT_HAND, "--timeout", "60", "--plot", "-", PYTHONIOENCODING="ascii")
    drawing = done.stdout.partition("index.handler: memory over time\n")[2]

    assert drawing.isascii()
    assert "*****" in drawing
    assert " deadline 60 s >\n" in drawing
    assert "\\u" not in drawing


def curves_of(text: str) -> list[str]:
    """What is inside the frame, row by row."""
    return [line.partition(" | ")[2] for line in text.splitlines() if " | " in line]


def paint_in_terminal(tmp_path: Path, results: list[Result], monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    painter_for("-")(chart_of(function(tmp_path), [Run("python3.9", each) for each in results]))


def test_lines_in_the_terminal_are_told_apart_by_letters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where they are the same line, and where they are a point."""
    flat = [(float(ms), 60.0) for ms in range(100)]
    paint_in_terminal(tmp_path, [result(Status.SUCCESS, *flat)] * 3, monkeypatch)
    lines = capsys.readouterr().out.splitlines()

    assert {"a", "b", "c"} <= set("".join(curves_of("\n".join(lines))))
    assert ["a", "b", "c"] == [line.split()[0] for line in lines[-3:]]

    paint_in_terminal(tmp_path, [result(Status.SUCCESS, (1.0, 60.0)), result(Status.LOAD_ERROR)], monkeypatch)

    assert {"a"} == set("".join(curves_of(capsys.readouterr().out))) & {"a", "b"}


def test_terminal_drawing_has_colours_where_there_are_any(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the curve and in its name below."""
    paint_in_terminal(tmp_path, [result(Status.SUCCESS, (1.0, 9.0), (2.0, 9.0))], monkeypatch, FORCE_COLOR="1")
    shown = capsys.readouterr().out

    assert "\x1b[36m" in "".join(curves_of(shown))
    assert shown.splitlines()[-1].startswith("\x1b[36ma\x1b[0m")


@pytest.mark.parametrize(("columns", "width"), [("10", 40), ("80", 60), ("100", 80), ("500", 100)])
def test_terminal_drawing_is_as_wide_as_the_terminal(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    columns: str,
    width: int,
) -> None:
    """Within reason."""
    paint_in_terminal(tmp_path, [result(Status.SUCCESS, (2000.0, 90.0))], monkeypatch, COLUMNS=columns)

    (limit,) = [row for row in curves_of(capsys.readouterr().out) if row.startswith("- limit")]

    assert width == len(limit)


# --- what is refused --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--plot", "memory.pdf"), "--plot: 'memory.pdf' must end in .svg or .png, or be -"),
        (("--plot", ""), "--plot: '' must end in"),
        (("--plot", "missing/memory.svg"), "--plot: there is no folder 'missing'"),
        (("--plot", "."), "'.' is a directory"),
        (("--plot", "-", "--json"), "--plot - and --json exclude each other"),
    ],
)
def test_wrong_target_is_told_before_anything_runs(tmp_path: Path, options: tuple[str, ...], complaint: str) -> None:
    """Exit status 2, and no minute of waiting for a picture that cannot be."""
    done = run(f"open({str(tmp_path / 'ran')!r}, 'w')\n{QUICK}", tmp_path, "-r", AT_HAND, *options)

    assert (2, "") == (done.returncode, done.stdout)
    assert complaint.lower() in " ".join(done.stderr.split()).lower()
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
@pytest.mark.parametrize(("target", "library"), [("memory.svg", "matplotlib"), ("-", "plotille")])
def test_missing_library_is_told_before_anything_runs(tmp_path: Path, target: str, library: str) -> None:
    """In one paragraph: what is missing, and how to get it; and without --plot nobody misses it."""
    missing = f"raise ModuleNotFoundError({f'No module named {library!r}'!r}, name={library!r})\n"
    (tmp_path / f"{library}.py").write_text(missing)
    hidden: Mapping[str, str] = {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    source = f"open({str(tmp_path / 'ran')!r}, 'w')\n{QUICK}"

    done = run(source, tmp_path, "-r", AT_HAND, "--plot", target, **hidden)

    assert (2, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith(f"Error: --plot draws with {library}, which cannot be imported here (No module named")
    assert "pip install 'fgengine[plot]'" in done.stderr
    assert 1 == len(done.stderr.splitlines())
    assert not (tmp_path / "ran").exists()
    assert 0 == run(source, tmp_path, "-r", AT_HAND, **hidden).returncode
