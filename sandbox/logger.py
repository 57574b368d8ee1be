# coding: utf-8
"""The logger of a Context: its lines carry the time, the request id and the level.

The module ``logging`` costs 3 to 12 ms to import, so an interpreter that was started for one function imports it when
the function asks for its logger. A zygote has it before it forks.
"""

import time

from sandbox.compat import import_later, text_type, write_all

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

_logger_class = []  # type: list[Any]  # once it was made


def make_logger(settings, _known=_logger_class):
    # type: (Any, list[Any]) -> Any
    """A ``logging.Logger`` that writes to descriptor 2, and stamps its lines with ``settings.request_id``."""
    if not _known:
        prepare_logger()
    return _known[0](settings)


def prepare_logger(_import=import_later, _known=_logger_class):
    # type: (Any, list[Any]) -> None
    """Have the class ready."""
    _known.append(_make_class(_import("logging")))


def _as_text(text):
    # type: (Any) -> str
    return text if isinstance(text, text_type) else text.decode("utf-8", "replace")


def _make_class(logging):
    # type: (Any) -> Any
    class FreeLogger(logging.Logger):  # type: ignore[misc]  # logging is imported late, so it is Any
        """A logger outside the logging tree: from 3.7 on, only the tree's loggers clear their cache of levels."""

        def isEnabledFor(self, level):
            # type: (int) -> bool
            """Ask anew each time: setLevel and logging.disable may have changed since."""
            if getattr(self, "disabled", False) or self.manager.disable >= level:
                return False
            return bool(level >= self.getEffectiveLevel())

        def getChild(self, suffix):
            # type: (str) -> Any
            """The one logger of this name below this one; the tree's own would put it below the root logger."""
            children = self.__dict__.setdefault("children", {})
            if suffix not in children:
                child = children[suffix] = FreeLogger("%s.%s" % (self.name, suffix))
                child.parent = self
            return children[suffix]

        def warn(self, message, *args, **kwargs):
            # type: (Any, *Any, **Any) -> None
            """The old name of warning(), which 3.x deprecates and handlers use all the same."""
            self.warning(message, *args, **kwargs)

    class DescriptorHandler(logging.Handler):  # type: ignore[misc]  # likewise
        """Writes to descriptor 2 itself: the logger works on when a function replaces or closes sys.stderr."""

        def __init__(self, settings):
            # type: (Any) -> None
            logging.Handler.__init__(self)
            self._settings = settings
            self.setFormatter(logging.Formatter())

        def emit(self, record, _write=write_all, _strftime=time.strftime, _gmtime=time.gmtime, _as_text=_as_text):
            # type: (Any, Any, Any, Any, Any) -> None
            """Write one record; a message that cannot be formatted is reported by logging, never raised."""
            try:
                stamp = _strftime("%Y-%m-%dT%H:%M:%SZ", _gmtime(record.created))
                text = self.format(record)
                line = u"%s %s %s %s\n" % (stamp, _as_text(self._settings.request_id), record.levelname, _as_text(text))
                _write(2, line.encode("utf-8", "replace"))
            except Exception:  # noqa: BLE001  # logging's own contract for handlers
                self.handleError(record)

    class RequestLogger(FreeLogger):
        """A logger of its own outside the logging tree: ``<UTC time> <request id> <level> <message>`` on stderr.

        One for each instance, so that a logger kept in a module's global stamps the invocation it is used in.
        It is in no registry and has no parent: the root logger never hears of it, nor doubles its lines.
        """

        def __init__(self, settings):
            # type: (Any) -> None
            FreeLogger.__init__(self, "context", logging.INFO)  # type: ignore[call-arg]  # likewise
            self.propagate = False
            self.addHandler(DescriptorHandler(settings))

    return RequestLogger
