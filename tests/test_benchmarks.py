"""Arithmetic, order and reports of the benchmarks; and that the references do the job they are timed for."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import footprint, lines, machine, questions, report, results_io, stats
from benchmarks.cold_start import QUESTION as COLD_START
from benchmarks.deadline import way_and_timeout_ms
from benchmarks.harness import (
    CALL,
    BenchmarkError,
    Contender,
    Effort,
    Job,
    Plan,
    Question,
    Skipped,
    check_reply,
    environment,
    measure_in_fresh_process,
    run,
    small_event,
    stage_functions,
    time_calls,
)
from benchmarks.large_payload import rows_event
from benchmarks.references import BareEcho, BareZygote, EchoStart, PlainSubprocess
from benchmarks.stats import Measurement, Sense, Setting, Statistic, Target
from benchmarks.throughput import BareEchoAhead

PINNED = Setting("python3.9", pinned=True)
UNPINNED = Setting("python3.9", pinned=False)


def measured(contender: str, *rounds: Sequence[float], setting: Setting = PINNED) -> list[Measurement]:
    """One measurement a round."""
    return [Measurement(contender, setting, number, {CALL: values}) for number, values in enumerate(rounds)]


def target(statistic: Statistic, bound: float, sense: Sense = Sense.AT_MOST, **changes: Any) -> Target:
    """A promise about "ours", by default against "base"."""
    values: dict[str, Any] = {"contender": "ours", "metric": CALL, "against": "base", **changes}
    return Target(statistic=statistic, sense=sense, bound=bound, **values)


class Fake:
    """A contender without a process: answers *reply*, and counts what is done with it."""

    def __init__(self, name: str = "fake", reply: object = "pong", unavailable: str | None = None) -> None:
        self.name = name
        self.calls = 0
        self._reply = reply
        self._unavailable = unavailable

    def unavailable(self, job: Job) -> str | None:
        return self._unavailable

    def start(self, job: Job, event: Any) -> None:
        """Nothing to get ready."""

    def call(self) -> Any:
        self.calls += 1
        return self._reply

    def decoded(self, reply: Any) -> Any:
        return reply

    def close(self) -> None:
        """Nothing to end."""


def a_question(*contenders: Contender, **changes: Any) -> Question:
    values: dict[str, Any] = {
        "name": "no such module",
        "title": "A question",
        "full": Effort(rounds=2, calls=5, warm_up=3),
        "quick": Effort(rounds=1, calls=1),
        "pinnings": (True,),
        **changes,
    }
    return Question(contenders=contenders, **values)


def a_job(contender: str = "fake", **changes: Any) -> Job:
    values: dict[str, Any] = {
        "question": "warm_invoke",
        "setting": PINNED,
        "python": sys.executable,
        "cpu": None,
        "calls": 5,
        "warm_up": 3,
        **changes,
    }
    return Job(contender=contender, **values)


@pytest.mark.parametrize(
    ("expected", "values", "percent"),
    [
        (3, [5, 3, 1, 2, 4], 50),
        (2, [1, 2, 3, 4], 50),
        (4, [1, 2, 3, 4], 99),
        (99, range(1, 101), 99),
        (100, range(1, 101), 99.5),
        (7, [7], 1),
        (9, [9, 1], 100),
    ],
)
def test_percentile_is_the_nearest_rank(expected: float, values: Sequence[float], percent: float) -> None:
    """A percentile is a value that was measured, never one that lies between two."""
    assert expected == stats.percentile(values, percent)


@pytest.mark.parametrize(("values", "percent"), [([], 50), ([1], 0), ([1], 101)])
def test_percentile_refuses_what_has_no_answer(values: Sequence[float], percent: float) -> None:
    """No values, or a percentage that is none, is an error and not a zero."""
    with pytest.raises(ValueError, match="percentile"):
        stats.percentile(values, percent)


def test_ratio_is_taken_within_each_round() -> None:
    """A round on a machine that is slow for a minute changes both sides, and so not the ratio."""
    ours, base = stats.collect(measured("ours", [20], [200], [2000]) + measured("base", [10], [100], [1000]))
    assert 2.0 == stats.ratio(ours, base)


def test_ratio_is_the_median_over_the_rounds() -> None:
    """One bad round of one side does not decide."""
    ours, base = stats.collect(measured("ours", [20], [20], [900]) + measured("base", [10], [10], [10]))
    assert 2.0 == stats.ratio(ours, base)


def test_ratio_needs_a_common_round() -> None:
    """What was not measured in the same round is not compared."""
    ours = stats.Series("ours", PINNED, CALL, {0: [1.0]})
    base = stats.Series("base", PINNED, CALL, {1: [1.0]})
    assert stats.ratio(ours, base) is None


def test_series_percentile_is_the_median_over_the_rounds() -> None:
    """A round with a slow tail does not become the tail of all rounds."""
    (series,) = stats.collect(measured("ours", [1, 9], [1, 2], [1, 3]))
    assert (6, 3) == (series.count, series.percentile(99))


@pytest.mark.parametrize(
    ("promise", "value", "met"),
    [
        (target(Statistic.RATIO, 3), 2.5, True),
        (target(Statistic.RATIO, 2), 2.5, False),
        (target(Statistic.SPEEDUP, 0.5, Sense.AT_LEAST), 0.4, False),
        (target(Statistic.SPEEDUP, 0.4, Sense.AT_LEAST), 0.4, True),
        (target(Statistic.P50, 20, against=None), 25, False),
        (target(Statistic.P99, 50, against=None), 50, True),
        (target(Statistic.SPREAD, 3, against=None), 2, True),
    ],
)
def test_verdicts_say_what_was_measured_of_each_statistic(promise: Target, value: float, *, met: bool) -> None:
    """Each statistic is what its name says, and a bound that is just reached is kept."""
    measurements = measured("base", [10, 10]) + measured("ours", [25, 50])
    rows = stats.make_rows(measurements, base="base", targets=[promise])
    verdicts = [verdict for row in rows for verdict in row.verdicts]
    assert [(value, met)] == [(round(verdict.value, 9), verdict.met) for verdict in verdicts]


@pytest.mark.parametrize(
    ("expected", "restriction"),
    [
        (True, {}),
        (True, {"runtimes": ("python3.9",)}),
        (False, {"runtimes": ("python2.7",)}),
        (True, {"pinned": True}),
        (False, {"pinned": False}),
        (False, {"variants": ("sleep",)}),
    ],
)
def test_target_applies_where_it_was_promised(restriction: dict[str, Any], *, expected: bool) -> None:
    """A promise for one runtime or for pinned calls says nothing about others."""
    assert expected == target(Statistic.RATIO, 2, **restriction).applies_to(PINNED)


def test_rows_have_no_verdict_when_the_other_side_was_skipped() -> None:
    """A comparison with somebody who was not measured is neither met nor missed."""
    (row,) = stats.make_rows(measured("ours", [1]), base="base", targets=[target(Statistic.RATIO, 2)])
    assert (None, []) == (row.ratio_to_base, list(row.verdicts))


def test_rows_are_grouped_by_setting_pinned_first() -> None:
    """Those who are compared stand together, in the order in which they were measured."""
    measurements = [
        *measured("ours", [1], setting=UNPINNED),
        *measured("base", [1]),
        *measured("ours", [1]),
        *measured("base", [1], setting=UNPINNED),
    ]
    rows = stats.make_rows(measurements, base=None, targets=[])
    order = [(row.series.setting.pinned, row.series.contender) for row in rows]
    assert [(True, "base"), (True, "ours"), (False, "ours"), (False, "base")] == order


def test_rounds_are_interleaved() -> None:
    """A B C A B C: both sides of a ratio are measured within the same seconds."""
    order = stats.interleaved(2, [PINNED], ["a", "b", "c"])
    assert [(0, "a"), (0, "b"), (0, "c"), (1, "a"), (1, "b"), (1, "c")] == [(number, name) for number, _, name in order]


def test_calls_are_timed_after_a_checked_call_and_the_warm_up() -> None:
    """One call that is checked, the warm-up, then exactly what is reported."""
    fake = Fake()
    values = time_calls(fake, a_job(calls=5, warm_up=3), "pong")
    assert (1 + 3 + 5, 5) == (fake.calls, len(values[CALL]))


def test_a_wrong_answer_is_no_measurement() -> None:
    """However fast: who does not do the job has no figure."""
    with pytest.raises(BenchmarkError, match="answered 'pong'"):
        check_reply(Fake(), "ping")


def test_a_job_survives_its_command_line() -> None:
    """The fresh process gets the job that was planned."""
    job = a_job(cpu=1, options={"instances": 7}, setting=Setting("python2.7", pinned=False, variant="sleep"))
    assert job == Job.from_json(job.to_json())


def test_plan_takes_what_the_command_line_says_over_what_quick_says() -> None:
    """--quick makes it smaller, an option of its own name decides, and unknown options are for other questions."""
    question = a_question(Fake(), options={"instances": 1000, "lines": 9}, quick_options={"instances": 100})
    plan = Plan(interpreters={"python3.9": "python"}, code="", cpu=0, quick=True)
    asked = Plan(
        interpreters={"python3.9": "python"}, code="", cpu=0, quick=True, options={"instances": 5, "events": 3}
    )
    planned = [dict(job.options) for each in (plan, asked) for _, job in each.jobs(question)]
    assert [{"instances": 100, "lines": 9}, {"instances": 5, "lines": 9}] == planned


def test_plan_pins_where_the_setting_says_so() -> None:
    """Unpinned means that nothing is said about CPUs."""
    plan = Plan(interpreters={"python3.9": "python"}, code="", cpu=3, quick=True)
    jobs = [job for _, job in plan.jobs(a_question(Fake(), pinnings=(True, False)))]
    assert [3, None] == [job.cpu for job in jobs]


def test_who_is_not_available_is_named_with_the_reason() -> None:
    """Never silently: once for each setting, not once for each round."""
    question = a_question(Fake("missing", unavailable="not installed"))
    plan = Plan(interpreters={"python3.9": "python"}, code="", cpu=0)
    assert [Skipped("missing", PINNED, "not installed")] == list(run(question, plan))


def test_who_failed_once_is_not_tried_again() -> None:
    """A failure is reported with what went wrong, and costs one round only."""
    question = a_question(Fake())  # the fresh process finds no module of this question's name
    plan = Plan(interpreters={"python3.9": sys.executable}, code="", cpu=machine.default_cpu())
    (failure,) = run(question, plan)
    assert isinstance(failure, Skipped)
    assert failure.failed
    assert "no such module" in failure.reason


def test_settings_vary_pinning_runtime_and_variant() -> None:
    """Every combination once; --quick may leave variants out."""
    question = a_question(Fake(), pinnings=(True, False), variants=("a", "b"), quick_variants=("a",))
    full = question.settings(["python2.7", "python3.9"], quick=False)
    quick = question.settings(["python2.7", "python3.9"], quick=True)
    assert (8, 8, 4) == (len(full), len(set(full)), len(quick))


def test_environment_of_a_measurement_has_no_python_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of whoever runs the benchmarks must not decide whether bytecode is written."""
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("FGENGINE_PYTHON3_9", "/usr/bin/python3.9")
    assert "PYTHONDONTWRITEBYTECODE" not in environment()
    assert "/usr/bin/python3.9" == environment()["FGENGINE_PYTHON3_9"]


def test_json_has_what_a_reader_needs(tmp_path: Path) -> None:
    """Rows with every round, targets with their verdict, who is missing, and the machine."""
    question = a_question(Fake("ours"), base="base", targets=(target(Statistic.RATIO, 2),))
    rows = report.rows_of(question, measured("base", [10, 20]) + measured("ours", [50, 70]))
    skipped = [Skipped("peer", PINNED, "not installed")]
    made = results_io.to_json(question, rows, skipped, machine={"kernel": "x"}, quick=True)
    read = json.loads(results_io.write(made, tmp_path).read_text())
    assert (2, "no such module", True, {"kernel": "x"}) == (
        read["schema"],
        read["question"],
        read["quick"],
        read["machine"],
    )
    assert {
        "contender": "ours",
        "runtime": "python3.9",
        "pinned": True,
        "variant": "",
        "metric": CALL,
        "count": 2,
        "p50": 50,
        "p99": 70,
        "ratio_to_base": 5.0,
        "rounds": [{"round": 0, "count": 2, "min": 50, "p50": 50, "p99": 70, "max": 70}],
        "targets": [
            {"statistic": "ratio", "against": "base", "sense": "at most", "bound": 2, "value": 5.0, "met": False}
        ],
    } == read["rows"][1]
    assert ["peer"] == [each["contender"] for each in read["skipped"]]


@pytest.mark.parametrize(
    ("expected", "value", "metric"),
    [
        ("1.23 us", 1.234, "call_us"),
        ("12.3 us", 12.34, "call_us"),
        ("123 us", 123.4, "call_us"),
        ("1.23 ms", 1234, "call_us"),
        ("2.00 s", 2e6, "call_us"),
        ("-5.00 us", -5, "overshoot_us"),
        ("1.50 MB", 1.5, "memory_MB"),
    ],
)
def test_values_are_shown_with_their_unit(expected: str, value: float, metric: str) -> None:
    """About three digits, and a unit that keeps them readable."""
    assert expected == lines.human(value, metric)


@pytest.mark.parametrize(
    ("expected", "promise"),
    [
        ("<= 2 x base", target(Statistic.RATIO, 2)),
        (">= 8 times as fast as base", target(Statistic.SPEEDUP, 8, Sense.AT_LEAST)),
        ("<= 2.00 ms", target(Statistic.P50, 2000)),
        ("<= 10.0 ms p99", target(Statistic.P99, 10_000)),
        ("<= 3 x own p50, p99", target(Statistic.SPREAD, 3)),
    ],
)
def test_targets_are_shown_in_words(expected: str, promise: Target) -> None:
    """The promise is read beside the figure, without looking anything up."""
    shown = {"statistic": promise.statistic.value, "sense": promise.sense.value, "bound": promise.bound}
    assert expected == lines.target_text({**shown, "against": promise.against}, promise.metric)


def test_missing_contenders_take_one_line_for_each_reason() -> None:
    """The same reason for two in two settings is one line; a traceback is its last line."""
    skipped = [
        Skipped(name, where, "Traceback\nImportError: no peer", failed=True)
        for name in ("peer", "other")
        for where in (PINNED, UNPINNED)
    ]
    shown = lines.missing_lines(results_io.skipped_json(skipped))
    assert ["failed: peer; other: ImportError: no peer (python3.9, pinned; python3.9, unpinned)"] == shown


@pytest.mark.parametrize(
    ("expected", "promise", "value"),
    [
        ("2.31 missed by 16%", target(Statistic.RATIO, 2), 2.31),
        ("6.00 missed by 25%", target(Statistic.SPEEDUP, 8, Sense.AT_LEAST), 6.0),
        ("1.99 met", target(Statistic.RATIO, 2), 1.99),
        ("5.00 missed, 2.5 times the bound", target(Statistic.RATIO, 2), 5.0),
        ("3.00 ms missed by 50%", target(Statistic.P50, 2000, against=None), 3000.0),
    ],
)
def test_a_missed_target_says_by_how_much(expected: str, promise: Target, value: float) -> None:
    """As a part of the bound, whichever way round the promise is."""
    rows = stats.make_rows(measured("ours", [value]), base=None, targets=[])
    row = stats.Row(rows[0].series, None, [stats.Verdict(promise, value)])
    result = results_io.to_json(a_question(Fake("ours")), [row], [], machine={}, quick=False)
    assert [expected] == [each.measured for line in lines.lines_of(result) for each in line.promises]


@pytest.mark.parametrize("name", questions.NAMES)
def test_questions_promise_things_about_contenders_that_they_have(name: str) -> None:
    """A target with a misspelt contender would never be judged, and nobody would notice."""
    question = questions.load(name)
    names = [each.name for each in question.contenders]
    assert name == question.name
    assert len(names) == len(set(names))
    assert {promise.contender for promise in question.targets} <= set(names)
    assert {promise.against for promise in question.targets} - {None} <= set(names)
    assert question.base is None or question.base in names
    assert {variant for promise in question.targets for variant in promise.variants} <= set(question.variants)


def test_what_is_promised_of_starts_is_asked_of_one_that_nothing_was_done_ahead_of() -> None:
    """A spare instance that was started in the pause before the call is no faster start."""
    cold, peers = questions.load("cold_start"), questions.load("peers_cold")
    spared, plain = (
        [dataclasses.replace(each, contender="") for each in cold.targets if each.contender == name]
        for name in ("engine, fork", "engine, fork, none ahead")
    )

    assert 3 == len(spared)
    assert spared == plain
    assert "engine, fork, none ahead" in [each.name for each in peers.contenders]


def test_events_have_the_size_that_is_promised() -> None:
    """The small one is 100 bytes, the large one just under 6 MB: both as the json module writes them."""
    assert 100 == len(json.dumps(small_event()))
    assert 5_999_000 < len(json.dumps(rows_event())) <= 6_000_000


def test_deadlines_are_named_by_their_variants() -> None:
    """All have the short one, but for the variant that says otherwise."""
    assert ("sleep", 50) == way_and_timeout_ms("sleep")
    assert ("busy loop", 5000) == way_and_timeout_ms("busy loop, 5 s")


def test_parent_is_found_behind_any_name() -> None:
    """A process may call itself ``a) 1 (b``."""
    assert 42 == footprint.parent_of("7 (a) 1 (b) S 42 7 7 0 -1")


def test_proportional_memory_is_the_one_line_of_that_name() -> None:
    """Pss_Anon and SwapPss are other figures."""
    assert 12 == footprint.parse_pss_kb("Rss: 99 kB\nPss:      12 kB\nPss_Anon: 5 kB\nSwapPss: 3 kB\n")


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The measured functions, compiled for the interpreter at hand."""
    return stage_functions([sys.executable], tmp_path_factory.mktemp("staged"))


def test_functions_are_staged_with_bytecode(staged: str) -> None:
    """Nobody's cold start has to compile."""
    compiled = {path.name.partition(".")[0] for path in Path(staged).rglob("*.pyc")}
    assert {path.stem for path in Path(staged).glob("*.py")} == compiled


@pytest.mark.parametrize(
    "contender", [BareEcho(), BareEcho("objects", objects=True), EchoStart(), BareZygote(), PlainSubprocess()]
)
@pytest.mark.slow
def test_references_do_the_job_they_are_timed_for(contender: Contender, staged: str) -> None:
    """Call after call, each gives back the event; the fixtures see that close() leaves nothing behind."""
    contender.start(a_job(code=staged), small_event())
    try:
        replies = [contender.decoded(contender.call()) for _ in range(3)]
    finally:
        contender.close()
    assert [small_event()] * 3 == replies


@pytest.mark.slow
def test_writing_ahead_answers_every_event(staged: str) -> None:
    """More than the pipes can hold at once, and not a multiple of what is in flight."""
    contender = BareEchoAhead()
    contender.start(a_job(code=staged, options={"events": 3001}), small_event())
    try:
        reply = contender.call()
    finally:
        contender.close()
    assert (3001, small_event()) == (reply.count(b"\n"), contender.decoded(reply))


@pytest.mark.slow
def test_a_measurement_comes_back_from_its_fresh_process(staged: str) -> None:
    """The whole way: command line, pinning, contender, values as JSON."""
    job = a_job("bare zygote", question=COLD_START.name, code=staged, cpu=machine.default_cpu(), calls=2, warm_up=1)
    values = measure_in_fresh_process(job)
    assert [CALL] == list(values)
    assert 2 == len(values[CALL])
    assert all(value > 0 for value in values[CALL])
