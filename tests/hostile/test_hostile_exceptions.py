"""Functions whose exceptions fight back: what can be told is told, and the instance serves on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from engine import Status

if TYPE_CHECKING:
    from tests.hostile.conftest import Aftermath, Arena, ImportArena

INVOKE_PREFIX = "function invocation exception, error: "
UNPRINTABLE = "<unprintable Evil object>"


def _assert_told(aftermath: Aftermath, kind: str, message: str) -> None:
    """A plain function error of this class and message, and the same instance afterwards."""
    result = aftermath.result
    assert (Status.FUNCTION_ERROR, 4002, None) == (result.status, result.error_code, result.value)
    assert result.error is not None
    assert (kind, INVOKE_PREFIX + message) == (result.error["errorType"], result.error["errorMessage"])
    assert any(line.startswith('File "./index.py", line ') for line in result.error["stackTrace"])
    assert aftermath.instance_survived


EVIL = {
    "__str__ raises": ("def __str__(self): raise RuntimeError('never')", UNPRINTABLE),
    "__str__ raises what is no Exception": ("def __str__(self): raise SystemExit(3)", UNPRINTABLE),
    "__str__ raises itself": ("def __str__(self): raise self", UNPRINTABLE),
    "__str__ returns no text": ("def __str__(self): return Mute()", UNPRINTABLE),
    "__repr__ raises": ("def __repr__(self): raise RuntimeError('never')", "evil"),
    "__str__ recurses": ("def __str__(self): return str(self)", UNPRINTABLE),
    "__str__ exits": ("def __str__(self): sys.exit('bye')", UNPRINTABLE),
    "__getattribute__ raises": ("def __getattribute__(self, name): raise RuntimeError(name)", "evil"),
    "__class__ raises": ("__class__ = property(lambda self: 1 / 0)", "evil"),
    "__class__ lies": ("__class__ = property(lambda self: SyntaxError)", "evil"),
    "__class__ pretends an exit": ("__class__ = SystemExit", "evil"),
    "__reduce__ raises": ("def __reduce__(self): raise RuntimeError('never')", "evil"),
    "__eq__ and __hash__ raise": ("def __eq__(self, other): 1 / 0\n    def __hash__(self): 1 / 0", "evil"),
    "__del__ raises": ("def __del__(self): raise RuntimeError('never')", "evil"),
    "__unicode__ raises": ("def __unicode__(self): raise RuntimeError('never')", "evil"),
    "args is no tuple": ("args = property(lambda self: 1 / 0)", "evil"),
    "it cannot be copied": ("lock = threading.Lock()", "evil"),
    "its traceback raises": ("__traceback__ = property(lambda self: 1 / 0)", "evil"),
    "its text is a hostile text": ("def __str__(self): return Text('evil')", "evil"),
}


@pytest.mark.parametrize(("members", "message"), EVIL.values(), ids=EVIL)
def test_hostile_exception_is_a_function_error(arena: Arena, members: str, message: str) -> None:
    """Its class is told whatever it does, and its text where it has one."""
    more = f"""
import sys, threading

class Text(type(u"")):
    def __getitem__(self, index):
        raise RuntimeError("never")
    __add__ = __radd__ = __format__ = __mod__ = __rmod__ = __iter__ = __str__ = __getitem__

class Mute(object):
    def __str__(self):
        raise RuntimeError("never")
    __unicode__ = __repr__ = __str__

class Evil(Exception):
    {members}
"""
    _assert_told(arena("raise Evil('evil')", more), "Evil", message)


METACLASSES = {
    "__name__ raises": "__name__ = property(lambda cls: 1 / 0)",
    "__instancecheck__ raises": "def __instancecheck__(cls, instance): raise RuntimeError('never')",
    "__getattribute__ raises": "def __getattribute__(cls, name): raise RuntimeError(name)",
    "__module__ raises": "__module__ = property(lambda cls: 1 / 0)",
    "mro() lies": "def mro(cls): return [cls] + list(type.mro(cls))[1:]",
    "__call__ raises": "def __call__(cls, *args): raise cls.__new__(cls, 'evil')",
}


@pytest.mark.parametrize("members", METACLASSES.values(), ids=METACLASSES)
def test_exception_of_a_hostile_metaclass_is_a_function_error(arena: Arena, members: str) -> None:
    """The name of a class is read from the class itself, past its metaclass."""
    more = f"""
class Meta(type):
    {members}

Evil = Meta("Evil", (Exception,), {{}})
"""
    _assert_told(arena("raise type.__call__(Evil, 'evil')", more), "Evil", "evil")


def test_exception_named_without_end_is_cut(arena: Arena) -> None:
    """Neither a name nor a message of a megabyte fills the result."""
    aftermath = arena("raise type('E' * 10 ** 6, (Exception,), {})('m' * 10 ** 6)")

    _assert_told(aftermath, "E" * 65536, "m" * 65536)


def test_text_that_json_or_utf8_cannot_carry_is_told_all_the_same(arena: Arena, runtime: str) -> None:
    """Control characters, NUL and lone surrogates."""
    text = "u'\\x00\\x1b[2J\\ud800'"
    aftermath = arena(f"raise ValueError({text})")

    assert aftermath.result.error is not None
    assert Status.FUNCTION_ERROR is aftermath.result.status
    assert aftermath.result.error["errorMessage"].startswith(INVOKE_PREFIX + "\x00\x1b[2J")
    assert aftermath.instance_survived


@pytest.mark.slow
@pytest.mark.parametrize("method", ["__str__", "__repr__"])
def test_text_of_a_hundred_megabytes_is_cut(arena: Arena, method: str) -> None:
    """What memory permits is a function error with the first 64 Ki characters."""
    more = f"class Evil(Exception):\n    def {method}(self): return 'x' * 10 ** 8\n"
    aftermath = arena("raise Evil()", more, memory_mb=2048, timeout_s=20.0)

    _assert_told(aftermath, "Evil", "x" * 65536 if method == "__str__" else "")


@pytest.mark.slow
def test_text_of_a_gigabyte_is_out_of_memory(arena: Arena) -> None:
    """What memory does not permit ends as that."""
    more = "class Evil(Exception):\n    def __str__(self): return 'x' * 2 ** 30\n"
    aftermath = arena("raise Evil()", more, memory_mb=128, timeout_s=20.0)

    assert (Status.OUT_OF_MEMORY, 4205) == (aftermath.result.status, aftermath.result.error_code)
    assert not aftermath.instance_survived


@pytest.mark.slow
@pytest.mark.parametrize("method", ["__str__", "__del__", "__getattribute__"])
def test_exception_that_loops_is_a_timeout(arena: Arena, method: str, runtime: str) -> None:
    """Telling of an error is the function's own time, and ends with it."""
    more = f"""
class Evil(Exception):
    def {method}(self, *args):
        spin()
"""
    attack = "raise Evil()"
    if method == "__getattribute__":
        attack = "try:\n    raise Evil()\nexcept Evil as error:\n    error.gone"
    aftermath = arena(attack, more, timeout_s=0.5)

    assert (Status.TIMEOUT, 500.0) == (aftermath.result.status, aftermath.result.summary.duration_ms)
    assert not aftermath.instance_survived


def test_thousands_of_exceptions_that_fight_their_end(arena: Arena) -> None:
    """Finalizers that raise, print and bring themselves back cost the function its log and nobody else anything."""
    more = """
class Undead(Exception):
    graves = []
    def __del__(self):
        Undead.graves.append(self)
        raise RuntimeError("never")
"""
    attack = """
        for number in range(2000):
            try:
                raise Undead(number)
            except Undead:
                pass
        raise Undead("last")
    """
    _assert_told(arena(attack, more), "Undead", "last")


CHAINS = {
    "a cycle of causes": "a.__cause__, b.__cause__ = b, a",
    "a cycle of contexts": "a.__context__ = b; b.__context__ = a",
    "ten thousand causes": "chain(10000, '__cause__')",
    "ten thousand contexts": "chain(10000, '__context__')",
}


@pytest.mark.slow
@pytest.mark.parametrize("linking", CHAINS.values(), ids=CHAINS)
def test_chain_of_exceptions_without_end_is_told_by_its_first(arena: Arena, runtime: str, linking: str) -> None:
    """Neither a cycle nor a long chain loops or overflows the stack while it is printed."""
    if runtime == "python3.6" and "a.__context__" in linking:
        pytest.skip("3.6 itself does not come out of such a cycle; that is a timeout like any other")
    more = """
a, b = ValueError("a"), ValueError("b")

def chain(length, attribute):
    last = a
    for number in range(length):
        following = ValueError(number)
        setattr(last, attribute, following)
        last = following
"""
    _assert_told(arena(f"{linking}\nraise a", more), "ValueError", "a")


def test_instance_of_an_old_style_class_is_a_function_error(arena: Arena, runtime: str) -> None:
    """2.7 raises instances of classes that derive from nothing; no `except BaseException` catches them."""
    if runtime != "python2.7":
        pytest.skip("classes of 3.x derive from object")
    more = "class Old:\n    def __str__(self): return 'old'\n"

    _assert_told(arena("raise Old()", more), "Old", "old")


def test_frames_that_lie_about_their_file_are_told(arena: Arena) -> None:
    """Code compiled under a name in the function's folder, of a line that no file has."""
    attack = """
        where = os.path.join(os.path.dirname(os.path.abspath(__file__)), "nowhere.py")
        exec(compile("\\n" * 10 ** 6 + "raise ValueError('far')", where, "exec"), {})
    """
    aftermath = arena(attack)

    _assert_told(aftermath, "ValueError", "far")
    assert aftermath.result.error is not None
    assert ['File "./nowhere.py", line 1000001, in <module>'] == aftermath.result.error["stackTrace"][-1:]


def test_syntax_error_of_a_hostile_class_is_a_load_error(import_arena: ImportArena) -> None:
    """Whatever its attributes do while it is described."""
    aftermath = import_arena(
        """
        class Evil(SyntaxError):
            filename = lineno = text = property(lambda self: 1 / 0)
        raise Evil("evil")
        """
    )

    assert (Status.LOAD_ERROR, 4001) == (aftermath.result.status, aftermath.result.error_code)
    assert aftermath.result.error is not None
    assert "Evil" == aftermath.result.error["errorType"]
