"""Figures that are shown: documents made of results alone, a chart, no trace of a machine, and the check by ratios."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import chart, check, document, questions, results_io, stats
from benchmarks.harness import CALL, ROOT, Skipped
from benchmarks.install import requirements
from benchmarks.stats import Measurement, Setting

PINNED = Setting("python3.9", pinned=True)
BOUNDS = {"warm_invoke": {"python3.9": 2.0}}


def a_result(name: str, p50_by_contender: dict[str, float], **changes: Any) -> dict[str, Any]:
    """A question's result on one Python, pinned, its first contender being the base."""
    setting = Setting("python3.11", pinned=True)
    measurements = [
        Measurement(contender, setting, 0, {CALL: [value]}) for contender, value in p50_by_contender.items()
    ]
    rows = stats.make_rows(measurements, base=next(iter(p50_by_contender)), targets=())
    machine = {
        "host_python": "3.11.7",
        "date": "2026-01-01T00:00:00+00:00",
        "cpu": "a CPU",
        "cpus_allowed": 2,
        "kernel": "Linux",
        "load_average": [0.0],
    }
    made = results_io.to_json(questions.load(name), rows, [], machine=machine, quick=False)
    return {**made, "base": next(iter(p50_by_contender)), **changes}


def peers(folder: Path, **changes: Any) -> dict[str, dict[str, Any]]:
    """Results of both questions about peers, written to *folder*."""
    results = {
        "peers_warm": a_result("peers_warm", {"engine": 50.0, "execnet": 100.0, "loky": 200.0}, **changes),
        "peers_cold": a_result("peers_cold", {"engine, fork": 3000.0, "loky": 120_000.0}, **changes),
    }
    for each in results.values():
        results_io.write(each, folder)
    return results


@pytest.mark.parametrize("path", document.DOCUMENTS, ids=lambda path: path.name)
def test_documents_show_the_recorded_results_and_nothing_else(path: Path) -> None:
    """Whoever changes a figure by hand, or measures and does not render, is told: python -m benchmarks --render."""
    text = path.read_text(encoding="utf-8")
    results = results_io.read_all(results_io.FOLDER, questions.NAMES)
    assert "<!-- figures: " in text
    assert document.filled(text, results) == text


def test_every_question_has_a_place_in_the_document() -> None:
    """A question without one would be measured, and nobody would see it."""
    text = document.DOCUMENTS[0].read_text(encoding="utf-8")
    missing = [
        name for name in questions.NAMES if f"<!-- figures: {name} -->" not in text or f"| `{name}` |" not in text
    ]
    assert [] == missing


def test_recorded_results_tell_nothing_about_where_they_were_measured() -> None:
    """No folder and no name of a machine goes into version control."""
    found = [
        path.name
        for path in sorted((ROOT / "benchmarks").rglob("*"))
        if path.suffix in {".json", ".svg"}
        and path.parent != results_io.QUICK_FOLDER
        and any(trace in path.read_text(encoding="utf-8") for trace in ("/root", "/home", "/tmp", os.uname().nodename))
    ]
    assert [] == found


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("No module in python3.9", "No module in /home/somebody/.pyenv/bin/python3.9"),
        ('File "engine.py", line 1', 'File "/opt/fgengine/engine.py", line 1'),
        ("1/2 of a/b, and /", "1/2 of a/b, and /"),
    ],
)
def test_reasons_lose_their_folders(expected: str, text: str) -> None:
    """What remains of a path is what a reader can use."""
    assert expected == results_io.scrubbed(text)


def test_reasons_lose_the_name_of_the_machine() -> None:
    """Connection errors tell it."""
    assert "no route to localhost" == results_io.scrubbed(f"no route to {os.uname().nodename}")


def test_a_block_is_made_anew_and_the_rest_is_left_alone() -> None:
    """Old figures go, words around them stay, and doing it twice changes nothing."""
    results = {"peers_warm": a_result("peers_warm", {"engine": 50.0, "loky": 200.0})}
    text = "before\n<!-- figures: peers_warm -->\nold\n<!-- end of figures -->\nafter\n"
    once = document.filled(text, results)
    assert once.startswith("before\n<!-- figures: peers_warm -->\n| setting |")
    assert once.endswith("<!-- end of figures -->\nafter\n")
    assert "| python3.11, pinned | loky | its own | 200 us | 200 us | 4.00 |" in once
    assert "old" not in once
    assert once == document.filled(once, results)


def test_a_question_without_results_says_how_to_get_them() -> None:
    """An empty block would look like a mistake."""
    assert "make bench" in document.filled("<!-- figures: deadline -->\n<!-- end of figures -->", {})


def test_a_quick_run_is_marked_in_the_document() -> None:
    """Whoever quotes a figure has to see that it is none."""
    result = a_result("peers_warm", {"engine": 50.0}, quick=True)
    shown = document.filled("<!-- figures: peers_warm -->\n<!-- end of figures -->", {"peers_warm": result})
    assert "not to quote" in shown


def test_every_promise_is_listed_with_what_was_measured_of_it() -> None:
    """In a line of its own; one that was not kept stands out, and says by how much."""
    result = a_result("warm_invoke", {"bare echo": 10.0, "engine": 25.0})
    kept = {"statistic": "ratio", "against": "bare echo", "sense": "at most", "bound": 3, "value": 2.5, "met": True}
    result["rows"][1]["targets"] = [kept, {**kept, "bound": 2, "met": False}]
    shown = document.filled("<!-- figures: targets -->\n<!-- end of figures -->", {"warm_invoke": result})
    assert [
        "| `warm_invoke` | python3.11, pinned | engine | &lt;= 3 x bare echo | 2.50 met |",
        "| `warm_invoke` | python3.11, pinned | engine | &lt;= 2 x bare echo | **2.50 missed by 25%** |",
    ] == [line for line in shown.splitlines() if line.startswith("|")][2:]


def test_peers_stand_in_one_table_with_the_fastest_first(tmp_path: Path) -> None:
    """Warm and cold beside each other; who has one of them alone has the other empty."""
    shown = document.filled("<!-- figures: peers -->\n<!-- end of figures -->", peers(tmp_path))
    rows = [line for line in shown.splitlines() if line.startswith("|")][2:]
    assert [
        "| **engine** | another | 50.0 us | 1.00 | 3.00 ms | 1.00 |",
        "| execnet | another | 100 us | 2.00 |  |  |",
        "| loky | its own | 200 us | 4.00 | 120 ms | 40.00 |",
    ] == rows


def test_rendering_writes_documents_that_have_changed(tmp_path: Path) -> None:
    """And leaves alone, with their time of change, those that have not."""
    peers(tmp_path)
    path, other = tmp_path / "some.md", tmp_path / "other.md"
    path.write_text("<!-- figures: peers -->\n<!-- end of figures -->\n", encoding="utf-8")
    other.write_text("no figures\n", encoding="utf-8")
    assert [path] == document.render(tmp_path, [path, other])
    assert [] == document.render(tmp_path, [path, other])


def rendered(folder: Path) -> str:
    """The chart that the command draws of the results in *folder*; matplotlib keeps fonts open, so not in here."""
    command = [sys.executable, "-m", "benchmarks", "--render", "--results", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return (folder / chart.NAME).read_text(encoding="utf-8")


@pytest.mark.slow
def test_chart_shows_every_contender_with_its_figure(tmp_path: Path) -> None:
    """As text in the picture, on a ground of its own, and the same for the same results."""
    pytest.importorskip("matplotlib")
    peers(tmp_path)
    first = rendered(tmp_path)
    texts = {"".join(each.itertext()).strip() for each in ElementTree.fromstring(first).findall(".//{*}text")}
    assert {"engine", "execnet", "loky", "warm call", "50.0 us", "100 us  2.00 x engine", "3.00 ms"} <= texts
    assert first == rendered(tmp_path)


def test_results_of_an_older_version_are_left_out(tmp_path: Path) -> None:
    """They have not what is needed to show them: measuring again is the way."""
    result = a_result("peers_warm", {"engine": 50.0})
    results_io.write({**result, "schema": results_io.SCHEMA - 1}, tmp_path)
    assert {} == results_io.read_all(tmp_path, questions.NAMES)


def test_chart_needs_both_questions(tmp_path: Path) -> None:
    """Half a picture would be taken for a whole one."""
    results_io.write(a_result("peers_warm", {"engine": 50.0}), tmp_path)
    assert chart.draw(tmp_path) is None


def engine_against_echo(*engine_rounds: list[float]) -> list[Measurement]:
    """Rounds of the engine, each beside one of an echo that takes 10."""
    made = []
    for number, values in enumerate(engine_rounds):
        made.append(Measurement("bare echo", PINNED, number, {CALL: [10.0] * len(values)}))
        made.append(Measurement("engine", PINNED, number, {CALL: values}))
    return made


def beyond(measurements: list[Measurement], factor: float = 1.6) -> list[bool]:
    ratios = check.ratios("warm_invoke", measurements)
    return [each.is_beyond(factor) for each in check.findings("warm_invoke", ratios, BOUNDS, ["python3.9"])]


def test_check_fails_when_every_call_takes_twice_as_long() -> None:
    """A regression of two times is what it is for."""
    assert [True] == beyond(engine_against_echo([40.0] * 20, [41.0] * 20, [39.0] * 20))


def test_check_passes_what_was_recorded() -> None:
    """With the noise of a machine at rest."""
    assert [False] == beyond(engine_against_echo([20.0] * 20, [23.0] * 20, [19.0] * 20))


def test_check_is_not_disturbed_by_slow_calls_or_by_a_slow_round() -> None:
    """Other work on the machine makes most calls of a round, or all calls of one, several times slower."""
    mostly_slow = [20.0] * 3 + [90.0] * 17
    assert [False] == beyond(engine_against_echo(mostly_slow, mostly_slow, [90.0] * 20))


def test_check_fails_when_something_recorded_was_not_measured() -> None:
    """A contender that no longer runs must not pass for one that is fast enough."""
    assert [True] == beyond([])


def test_check_leaves_runtimes_alone_that_are_not_installed() -> None:
    """A machine without one of them can still check the others."""
    assert [] == check.findings("warm_invoke", {}, BOUNDS, ["python2.7"])


def test_bounds_are_recorded_for_each_runtime_of_each_checked_question(tmp_path: Path) -> None:
    """What is measured takes the place of what was there, and the rest stays."""
    path = tmp_path / "bounds.json"
    check.record("warm_invoke", {"python3.9": 2.0, "python2.7": 3.0}, path)
    check.record("warm_invoke", {"python3.9": 1.504}, path)
    assert {"warm_invoke": {"python3.9": 1.5, "python2.7": 3.0}} == json.loads(path.read_text())
    assert set(check.NAMES) == set(check.read_bounds())
    assert all({"python2.7", "python3.6", "python3.9"} == set(each) for each in check.read_bounds().values())


def test_check_measures_the_engine_and_its_floor_alone() -> None:
    """Pinned, and nothing that CI does not need to wait for."""
    narrowed = check.narrowed(questions.load("cold_start"))
    assert ["bare zygote", "engine, fork, none ahead"] == [each.name for each in narrowed.contenders]
    assert [Setting("python3.9", pinned=True)] == narrowed.settings(["python3.9"], quick=True)


def test_extra_is_read_from_the_metadata() -> None:
    """Without our own package, and without what other extras bring."""
    lines = [
        "psutil>=5.9",
        'execnet<2,>=1.9; extra == "benchmarks"',
        "ray; extra == 'benchmarks'",
        'fgengine[plot]; extra == "benchmarks"',
        'pytest; extra == "test"',
    ]
    assert ["execnet<2,>=1.9", "ray"] == requirements(lines)


def test_skipped_contenders_are_in_the_json_with_their_reason() -> None:
    """Of one who is not there, the reason is all there is."""
    (made,) = results_io.skipped_json([Skipped("Ray actor", PINNED, "not installed: no module 'ray'")])
    assert ("Ray actor", "not installed: no module 'ray'", False) == (
        made["contender"],
        made["reason"],
        made["failed"],
    )
