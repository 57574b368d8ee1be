"""How long until a program that has just started holds its first result? Nothing is warm, nothing was looked up."""

from __future__ import annotations

from typing import Final

from benchmarks.harness import Effort, Question
from benchmarks.import_time import Snippet, measure
from benchmarks.promises import median_at_most

_FIRST: Final = "import, Engine(), invoke"

# The engine finds its interpreter by itself here: the search is a part of what a user waits for.
_CODE: Final = """\
from engine import Engine, Function
engine = Engine()
function = Function(code={job.code!r}, handler='{job.module}.{job.function}', runtime='{job.setting.runtime}')
assert engine.invoke(function, [1]).value == [1]
"""

QUESTION: Final = Question(
    name="first_invoke",
    title="From the first line of a program to its first result",
    contenders=(Snippet(_FIRST, _CODE, needs_engine=True),),
    full=Effort(rounds=2, calls=6, warm_up=1),
    quick=Effort(rounds=1, calls=3, warm_up=1),
    quick_pinnings=(False,),
    measure=measure,
    targets=(median_at_most(150_000, _FIRST, pinned=False),),
)
