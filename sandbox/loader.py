"""From ``src/index.handler`` to a callable: finding the file, importing it, checking what it offers.

Texts and error types follow the platform's V2 runtimes (functiongraph.md, section 3.1), which were published
for Node.js; those of Python are inferred from them.
"""

import os
import sys
import types

from sandbox.compat import PY2

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

if PY2:
    import imp
else:
    try:
        # What importlib.util takes them from. The package itself costs 5 to 10 ms in a fresh interpreter.
        from _frozen_importlib import module_from_spec
        from _frozen_importlib_external import spec_from_file_location
    except ImportError:
        from importlib.util import module_from_spec, spec_from_file_location

_CO_VARARGS = 0x04
_CO_COROUTINE = 0x80 | 0x100 | 0x200  # coroutine, iterable coroutine, async generator (inspect, "CO_*")


class LoadError(Exception):
    """The entry cannot be had from the code as it is. Carries the platform's error type."""

    def __init__(self, message, type_name):
        # type: (str, str) -> None
        Exception.__init__(self, message)
        self.message = message
        self.type_name = type_name


class Loader(object):
    """Imports the modules of one function from its code root, each file once."""

    def __init__(self, root):
        # type: (str) -> None
        self._root = root
        self._modules = {}  # type: dict[str, types.ModuleType]

    def load(self, entry, role, arity):
        # type: (str, str, int) -> Any
        """Return the callable that *entry* names, importing its module if that is not done yet.

        Args:
            entry: ``[file].[function]``, the file part with ``/`` or ``.`` between folders.
            role: ``handler`` or ``initializer``, for messages.
            arity: How many arguments it will be called with.

        Raises:
            LoadError: No such file or attribute, or nothing that can be called like that.
            BaseException: Whatever the module raised while it was imported.
        """
        name, attribute = module_name(entry), entry.rpartition(".")[2]
        shown = "./%s.py" % name.replace(".", "/")
        module = self._modules.get(name)
        if module is None:
            path = os.path.join(self._root, *name.split(".")) + ".py"
            if not os.path.isfile(path):
                raise LoadError("not found module '%s'" % shown, "FunctionLoadError")
            known = sys.modules.get(name)  # the handler's module may have imported the initializer's by name
            same = known is not None and getattr(known, "__file__", None) in (path, path + "c")
            module = self._modules[name] = known if known and same else _import_file(name, path)
        try:
            target = getattr(module, attribute)
        except AttributeError:
            raise LoadError("%s '%s' not found in module '%s'" % (role, attribute, shown), "FunctionConfigError")
        _check_callable(target, attribute, shown, role, arity)
        return target


def module_name(entry):
    # type: (str) -> str
    """The dotted module name in *entry*: ``src.index`` for ``src/index.handler``."""
    return entry.rpartition(".")[0].replace("/", ".")


def _import_file(name, path):
    # type: (str, str) -> types.ModuleType
    """Import *path* as *name*, whatever other module of that name the interpreter knows.

    By its file and not by its name, so that a function may be called json, types or bootstrap.
    """
    # All imports of ours are done at the top: our package has left sys.modules by the time this runs.
    parent, _, leaf = name.rpartition(".")
    if parent:
        _import_package(parent, os.path.dirname(path))
    if PY2:
        module = imp.load_source(name, path)  # type: types.ModuleType
    else:
        spec = spec_from_file_location(name, path)  # type: Any
        module = module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
    if parent:
        setattr(sys.modules[parent], leaf, module)
    return module


def _import_package(name, folder):
    # type: (str, str) -> None
    """Make the folders above a handler's file importable, with or without an ``__init__.py`` in them."""
    parent, _, leaf = name.rpartition(".")
    if parent:
        _import_package(parent, os.path.dirname(folder))
    if os.path.isfile(os.path.join(folder, "__init__.py")):
        __import__(name)
        return
    package = types.ModuleType(name)  # 2.7 knows no namespace packages
    package.__path__ = [folder]
    package.__package__ = name
    sys.modules[name] = package
    if parent:
        setattr(sys.modules[parent], leaf, package)


def _check_callable(target, attribute, shown, role, arity):
    # type: (Any, str, str, str, int) -> None
    if not callable(target):
        raise LoadError("%s '%s' in module '%s' is not callable" % (role, attribute, shown), "FunctionConfigError")
    # type() and not isinstance(), which asks an object of the function's own making for its __class__.
    function = target.__func__ if type(target) is types.MethodType else target
    if type(function) is not types.FunctionType:
        return  # a class, a partial, a C function: only a call can tell
    code = function.__code__
    if code.co_flags & _CO_COROUTINE:
        message = "%s '%s' is a coroutine function: define it with def and run the coroutine inside it"
        raise LoadError(message % (role, attribute), "FunctionLoadError")
    bound = 0 if function is target else 1
    most = code.co_argcount - bound
    least = most - len(function.__defaults__ or ())
    keyword_only = getattr(code, "co_kwonlyargcount", 0) - len(getattr(function, "__kwdefaults__", None) or ())
    type_name = "FunctionLoadError" if role == "handler" else "FunctionConfigError"
    if keyword_only:
        raise LoadError("%s '%s' has keyword-only parameters that nobody gives it" % (role, attribute), type_name)
    if not (least <= arity and (arity <= most or code.co_flags & _CO_VARARGS)):
        plural = "" if arity == 1 else "s"
        message = "%s expect to have %d parameter%s, but received %d" % (role, arity, plural, most)
        raise LoadError(message, type_name)
