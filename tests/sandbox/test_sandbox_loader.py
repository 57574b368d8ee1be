"""Finding and importing the handler's file, and checking what it offers, in the words of the platform."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.sandbox.conftest import Trial

START = """
import textwrap
from sandbox.loader import Loader, LoadError, module_name
root = sys.argv[2]
sys.path.insert(0, root)
loader = Loader(str(root))

def load(entry, role="handler", arity=2):
    return loader.load(str(entry), role, arity)

def refusal(*arguments):
    error = raised(load, *arguments)
    assert type(error) is LoadError, error
    return error.message, error.type_name

"""


def write(root: Path, sources: dict[str, str]) -> str:
    """Write modules below *root*, by their paths."""
    for name, source in sources.items():
        path = root / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# coding: utf-8\n" + source, encoding="utf-8")
    return str(root)


def test_entry_is_split_into_module_and_attribute(trial: Trial) -> None:
    """Slashes and dots between folders are the same."""
    trial(
        START
        + """
assert ["index", "src.index", "src.index", "a.b.c"] == [
    module_name(each) for each in ("index.handler", "src/index.handler", "src.index.handler", "a/b/c.run")
]
""",
        "/",
    )


PARAMETERS = """
import functools

def fits(event, context): pass
def default(event, context, more=1): pass
def anything(*arguments): pass
def some(event, *rest): pass
def words(event, context, **words): pass
def two_defaults(event=1, context=2): pass
def generator(event, context): yield 1
def one(event): pass
def three(event, context, more): pass
def none(): pass

class Class(object):
    def __init__(self, event, context): pass

class Callable(object):
    def __call__(self, event): pass
    def method(self, event, context): pass
    def short(self, event): pass

instance = Callable()
method, short = instance.method, instance.short
partial = functools.partial(three, 1)
builtin = divmod
sneaky = lambda event, context: None
number = 5
"""


def test_what_can_be_called_with_event_and_context_is_taken(trial: Trial, tmp_path: Path) -> None:
    """Whatever kind it is; of what only a call can tell, nothing is asked."""
    trial(
        START
        + """
names = "fits default anything some words two_defaults generator Class instance method partial builtin sneaky"
for name in names.split():
    assert load("index." + name) is getattr(sys.modules["index"], name), name
""",
        write(tmp_path, {"index": PARAMETERS}),
    )


def test_wrong_number_of_parameters_is_told(trial: Trial, tmp_path: Path) -> None:
    """How many are expected and how many there are, for a handler and for an initializer."""
    trial(
        START
        + """
for name, count in (("one", 1), ("three", 3), ("none", 0), ("short", 1)):
    message = "handler expect to have 2 parameters, but received %d" % count
    assert refusal("index." + name) == (message, "FunctionLoadError"), refusal("index." + name)
message = "initializer expect to have 1 parameter, but received 2"
assert refusal("index.fits", "initializer", 1) == (message, "FunctionConfigError")
assert load("index.one", "initializer", 1)
assert load("index.anything", "initializer", 1)
""",
        write(tmp_path, {"index": PARAMETERS}),
    )


def test_what_is_not_there_is_told(trial: Trial, tmp_path: Path) -> None:
    """The file, the name in it, and something that cannot be called: each with its own message."""
    trial(
        START
        + """
assert refusal("src/missing.handler") == ("not found module './src/missing.py'", "FunctionLoadError")
assert refusal("index.missing") == ("handler 'missing' not found in module './index.py'", "FunctionConfigError")
assert refusal("index.number") == ("handler 'number' in module './index.py' is not callable", "FunctionConfigError")
""",
        write(tmp_path, {"index": PARAMETERS}),
    )


def test_handler_of_3_that_would_never_run_is_told(trial: Trial, tmp_path: Path) -> None:
    """A coroutine function would return at once without having done anything; and nobody gives it a keyword."""
    source = """
async def coroutine(event, context): pass
async def stream(event, context): yield 1
def needs(event, context, *, word): pass
def offers(event, context, *, word=1): pass
"""
    trial(
        START
        + """
if not PY2:
    for name in ("coroutine", "stream"):
        assert refusal("index." + name)[0].startswith("handler '%s' is a coroutine function" % name)
    assert refusal("index.needs")[1] == "FunctionLoadError"
    assert load("index.offers")
""",
        write(tmp_path, {"index": source}),
    )


def test_each_file_is_imported_once(trial: Trial, tmp_path: Path) -> None:
    """Handler and initializer of one file share its globals; a file that the other one imported is that same one."""
    trial(
        START
        + """
handler, initializer = load("index.handler"), load("index.prepare", "initializer", 1)
initializer(None)
assert handler(None, None) == ["index", "prepared"]
assert load("helper.prepare", "initializer", 1).__module__ == "helper"
assert load("index.handler").__globals__["helper"].__dict__ is load("helper.prepare", "initializer", 1).__globals__
""",
        write(
            tmp_path,
            {
                "index": "import helper\ntold = [__name__]\ndef prepare(context): told.append('prepared')\n"
                "def handler(event, context): return told\n",
                "helper": "def prepare(context): pass\n",
            },
        ),
    )


def test_folders_are_packages_with_or_without_an_init_file(trial: Trial, tmp_path: Path) -> None:
    """Relative imports work, and the module is where import statements find it."""
    trial(
        START
        + """
assert load("a/b/index.handler")(None, None) == ["a.b.index", "a.b.part", "a.top"]
assert load("shop.index.handler")(None, None) == "ready"
import a.b.index
assert a.b.index.handler is load("a.b.index.handler")
""",
        write(
            tmp_path,
            {
                "a/b/index": "from . import part\nfrom .. import top\n"
                "def handler(event, context): return [__name__, part.__name__, top.__name__]\n",
                "a/b/part": "",
                "a/top": "",
                "shop/__init__": "READY = 'ready'\n",
                "shop/index": "from shop import READY\ndef handler(event, context): return READY\n",
            },
        ),
    )


def test_file_may_have_a_name_of_the_standard_library(trial: Trial, tmp_path: Path) -> None:
    """It is imported by its file, and the real one stays what it is for those who have it."""
    trial(
        START
        + """
real = sys.modules["json"]
assert load("json.handler")(None, None) == "mine"
assert real.dumps([1]) == "[1]"
""",
        write(tmp_path, {"json": "def handler(event, context): return 'mine'\n"}),
    )


def test_module_that_fails_is_not_kept(trial: Trial, tmp_path: Path) -> None:
    """Half of a module is no module; its exception is the function's own."""
    trial(
        START
        + """
assert str(raised(load, "index.handler")) == "no"
assert "index" not in sys.modules
assert type(raised(load, "broken.handler")) is SyntaxError
""",
        write(
            tmp_path,
            {"index": "def handler(event, context): pass\nraise ValueError('no')\n", "broken": "def :\n"},
        ),
    )
