"""What an instance gives up before the first line of the function runs: the resource limits."""

import resource


def lower_limit(which, value):
    # type: (int, int) -> None
    """Lower the soft and the hard limit to *value*; a limit that is lower already stays."""
    hard = resource.getrlimit(which)[1]
    if hard == resource.RLIM_INFINITY or hard > value:
        hard = value
    resource.setrlimit(which, (hard, hard))


def apply_limits(limits):
    # type: (dict[str, int]) -> None
    """Set the limits that the engine named: ``nofile``, ``core`` and the like, as in ``resource``."""
    for name, value in limits.items():
        lower_limit(getattr(resource, "RLIMIT_" + name.upper()), value)
