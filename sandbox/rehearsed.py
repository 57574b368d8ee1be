"""A function of our own: what an instance that nobody waits for rehearses with."""

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any


def handler(event, _context):
    # type: (Any, Any) -> Any
    """Echo."""
    return event
