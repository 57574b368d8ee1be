"""What is told of an exception, and what its class can do about it: nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sandbox.conftest import Trial

START = """
import io
from sandbox.failures import describe, describe_syntax_error, print_to_log, MAX_MESSAGE_CHARS

def failed(act, roots=()):
    try:
        act()
    except:  # on 2.7 anything can be raised
        kind, error, trace = sys.exc_info()
        return describe(kind, error, trace, [str(root) for root in roots])
    raise AssertionError("it did not fail")

def thrown(error):
    def act():
        raise error
    return failed(act)

"""


def test_message_and_class_are_those_of_the_exception(trial: Trial) -> None:
    """As str() has them; 2.7's bytes become text, and its KeyError shows the key as 3.x does."""
    trial(
        START
        + """
told = [(each.message, each.type_name) for each in map(thrown, [
    ValueError("no"), ValueError(), ValueError("é界"), KeyError(str("k")), SystemExit(), SystemExit(3),
    KeyboardInterrupt(), GeneratorExit(), ValueError("\\ud800"),
])]
assert told == [
    ("no", "ValueError"), ("", "ValueError"), ("é界", "ValueError"), ("'k'", "KeyError"),
    ("user code called sys.exit()", "SystemExit"), ("user code called sys.exit(3)", "SystemExit"),
    ("", "KeyboardInterrupt"), ("", "GeneratorExit"), ("\\ud800", "ValueError"),
], told
if PY2:
    assert thrown(ValueError("é".encode("utf-8"))).message == "é"
    assert thrown(ValueError(b"\\xff")).message == "\\ufffd"
"""
    )


def test_hostile_class_is_told_all_the_same(trial: Trial) -> None:
    """Methods that raise, lie, or give something else than text: the message is text and its length is bounded."""
    trial(
        START
        + """
class Raising(Exception):
    def __str__(self): raise SystemExit("from __str__")
    __unicode__ = __repr__ = __str__

class Wrong(Exception):
    def __str__(self): return 5
    __unicode__ = __repr__ = __str__

class Lying(Exception):
    __class__ = property(lambda self: SystemExit)
    code = property(lambda self: 1 // 0)
    def __str__(self): return str("told")

class Text(str if not PY2 else unicode):
    def __getitem__(self, index): raise RuntimeError("from the text")
    __len__ = __getslice__ = __getitem__

class Giving(Exception):
    def __str__(self): return Text("given")
    __unicode__ = __str__

class Meta(type):
    __name__ = property(lambda cls: 1 // 0)

Masked = Meta(str("Masked"), (Exception,), {})

class Bomb(object):
    def __repr__(self): raise RuntimeError("from repr")

assert thrown(Raising()).message == "<unprintable Raising object>"
assert thrown(Wrong()).message == "<unprintable Wrong object>"
assert (thrown(Lying()).message, thrown(Lying()).type_name) == ("told", "Lying")
assert thrown(Giving()).message == "given" and type(thrown(Giving()).message) is type("")
assert (thrown(Masked("m")).message, thrown(Masked("m")).type_name) == ("m", "Masked")
assert thrown(SystemExit(Bomb())).message == "<unprintable SystemExit object>"
assert len(thrown(ValueError("x" * 10 ** 7)).message) == MAX_MESSAGE_CHARS
assert len(thrown(type(str("N" * 10 ** 6), (Exception,), {})()).type_name) == MAX_MESSAGE_CHARS
if PY2:
    class Old:
        pass
    assert thrown(Old()).type_name == "Old"
"""
    )


FUNCTION = """\
def deep(depth):
    if depth:
        deep(depth - 1)
    else:
        raise ValueError("at the bottom")


def through(act):
    act()
"""


def test_only_frames_of_the_function_are_told(trial: Trial, tmp_path: Path) -> None:
    """With the path as the platform shows it, and the source line; what lies between them is left out."""
    (tmp_path / "own.py").write_text(FUNCTION, encoding="utf-8")
    trial(
        START
        + """
root = sys.argv[2]
sys.path.insert(0, root)
import own
failure = failed(lambda: own.through(lambda: own.deep(1)), [root])
assert failure.frames == [
    'File "./own.py", line 9, in through', "    act()",
    'File "./own.py", line 3, in deep', "    deep(depth - 1)",
    'File "./own.py", line 5, in deep', '    raise ValueError("at the bottom")',
], failure.frames
assert failed(lambda: own.deep(1), [root + "/other"]).frames == []
assert failed(lambda: own.deep(1), [root[:-1]]).frames == []
""",
        str(tmp_path),
    )


def test_trace_of_a_recursion_is_cut_in_the_middle(trial: Trial, tmp_path: Path) -> None:
    """Its beginning and its end are what helps."""
    (tmp_path / "own.py").write_text(FUNCTION, encoding="utf-8")
    trial(
        START
        + """
root = sys.argv[2]
sys.path.insert(0, root)
import own
frames = failed(lambda: own.deep(199), [root]).frames
assert len(frames) == 50 * 2 + 1
assert frames[50] == "[150 frames left out]"
assert frames[-1] == '    raise ValueError("at the bottom")'
assert len(failed(lambda: own.deep(49), [root]).frames) == 100
""",
        str(tmp_path),
    )


def test_syntax_error_is_told_in_the_words_of_the_platform(trial: Trial, tmp_path: Path) -> None:
    """Module, file and line, and the line itself."""
    (tmp_path / "broken.py").write_text("x = 1\n  y = )\n", encoding="utf-8")
    trial(
        START
        + """
root = str(sys.argv[2])
try:
    with open(root + "/broken.py") as source:
        compile(source.read(), root + "/broken.py", "exec")
except SyntaxError as error:
    failure = describe_syntax_error(error, [root])
assert failure.type_name in ("IndentationError", "SyntaxError"), failure.type_name
assert failure.message.startswith("Syntax error in module 'broken'("), failure.message
assert failure.frames == ['File "./broken.py", line 2', "    y = )"], failure.frames
""",
        str(tmp_path),
    )


def test_log_has_the_whole_story(trial: Trial, tmp_path: Path) -> None:
    """From the function's first frame on, with what 3.x knows of causes; the host's own stderr is left as it was."""
    (tmp_path / "own.py").write_text(FUNCTION, encoding="utf-8")
    trial(
        START
        + """
root = str(sys.argv[2])
sys.path.insert(0, root)
import own
log = io.BytesIO() if PY2 else io.StringIO()
before = sys.stderr
try:
    try:
        own.deep(0)
    except ValueError:
        own.through(lambda: {}[str("k")])
except KeyError:
    print_to_log(log, [root])
told = log.getvalue()
assert sys.stderr is before
assert told.rstrip().endswith("KeyError: " + repr(str("k"))), told
assert "own.py\\", line 9, in through" in told
assert PY2 or "During handling of the above exception" in told

class Raising(Exception):
    def __str__(self): raise SystemExit("from __str__")

try:
    raise Raising()
except Raising:
    print_to_log(log, [root])
""",
        str(tmp_path),
    )
