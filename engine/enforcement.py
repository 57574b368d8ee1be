"""Who keeps the memory limit: the kernel by control groups where it lets us, and sampling in any case.

The verdict is the engine's own, by resident memory (``engine/guard.py``). A group bounds what no sample is fast
enough for, and limits processes and threads so that a fork fails as it does on the platform. Its memory limit is
set a little above the function's, because it counts page tables, pipes and the like as well: a function just below
its limit must not be killed for them.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from contextlib import suppress
from typing import Final, Literal

from engine.cgroups import mounts
from engine.cgroups.controller import Controller, probe
from engine.cgroups.limits import Group
from engine.errors import InstanceStartError, UnsupportedPlatformError
from engine.guard import Limits
from engine.memory import BYTES_PER_MB
from engine.scratch import Scratch, is_in_memory
from engine.workspace import Workspace

MemoryEnforcement = Literal["auto", "cgroup", "sample"]

DELEGATED_GROUP_VARIABLE: Final = "FGENGINE_CGROUP"
"""Names a control group that was delegated to the user. Version 2 lets no group but the root have both processes and
limits below it, so the engine's own group will not do there. Without it, groups are made below the own one alone."""

_KERNEL_SLACK_BYTES: Final = 8 * BYTES_PER_MB


class Enforcement:
    """Makes a control group for each instance of an engine, where that is wanted and possible. Thread-safe.

    Args:
        wanted: ``cgroup`` or nothing; ``sample``; or ``auto``, the first where the kernel lets us.
        workspace: Where temporary files of instances are; in memory, they are charged to a group as well.

    Raises:
        UnsupportedPlatformError: ``cgroup`` is wanted and cannot be had; the text says why.
    """

    def __init__(self, wanted: MemoryEnforcement, workspace: Workspace) -> None:
        self._wanted = wanted
        self._workspace = workspace
        self._lock = threading.Lock()
        self._probed = wanted == "sample"
        self._controller: Controller | None = None
        self._scratch_is_in_memory = False
        self._retired: deque[tuple[Group | None, Scratch | None]] = deque()
        if wanted == "cgroup":
            self._probe()

    def confine(self, pid: int, limits: Limits) -> Group | None:
        """Put the instance *pid*, which runs nothing of its function yet, into a group; None where sampling is all.

        Raises:
            InstanceStartError: ``cgroup`` is wanted, and the kernel refused.
        """
        controller = self._probe()
        if controller is None:
            return None
        group = None
        try:
            group = controller.create(self._limit_bytes(limits), limits.processes)
            group.add(pid)
        except OSError as error:
            if group is not None:
                self.retire(group)
            if self._wanted == "cgroup":
                raise InstanceStartError(f"no control group for instance {pid}: {error}") from error
            return None
        return group

    def change(self, group: Group, limits: Limits) -> None:
        """Give a group other limits than it was made for.

        Raises:
            OSError: The kernel refused.
        """
        group.change_limits(self._limit_bytes(limits), limits.processes)

    def retire(self, group: Group | None, scratch: Scratch | None = None) -> None:
        """Take back the group and the temporary files of a dead instance; sweep() removes them.

        Not on the way to a result: an empty folder takes 0.2 ms, 20,000 files half a second, a group milliseconds.
        """
        if group is not None:
            group.forget()
        self._retired.append((group, scratch))

    def sweep(self) -> None:
        """Remove what was taken back. A group that is not empty yet is left for the next time."""
        left = []
        while (retired := self._next_retired()) is not None:
            group, scratch = retired
            if scratch is not None:
                scratch.remove()
            if group is not None and not group.remove(0):
                left.append((group, None))
        self._retired.extend(left)

    def close(self) -> None:
        """Kill what is in groups of this engine, and remove them all. Files go with the engine's folder."""
        with self._lock:
            self._retired.clear()
            if self._controller is not None:
                self._controller.close()
                self._controller = None

    def _limit_bytes(self, limits: Limits) -> int:
        files_bytes = limits.memory_files_bytes or (limits.scratch_bytes if self._scratch_is_in_memory else 0)
        return limits.memory_bytes + _KERNEL_SLACK_BYTES + files_bytes

    def _next_retired(self) -> tuple[Group | None, Scratch | None] | None:
        try:
            return self._retired.popleft()  # not "while there are any": two threads may sweep at once
        except IndexError:
            return None

    def _probe(self) -> Controller | None:
        """Find out, once, whether the kernel lets us: some milliseconds, so not before the first instance."""
        if self._probed:
            return self._controller
        with self._lock:
            if not self._probed:
                delegated = os.environ.get(DELEGATED_GROUP_VARIABLE)
                trees = mounts.trees()
                self._workspace.note_groups([tree.own for tree in trees] + ([delegated] if delegated else []))
                found = probe(delegated, trees)
                if isinstance(found, Controller):
                    self._controller = found
                    with suppress(OSError):
                        self._scratch_is_in_memory = is_in_memory(self._workspace.root)
                elif self._wanted == "cgroup":
                    raise UnsupportedPlatformError(f"no control groups for memory here: {found.reason}")
                self._probed = True
        return self._controller


def describe(group: Group | None) -> Literal["cgroup", "sample"]:
    """Return the word for who keeps the memory limit of an instance."""
    return "sample" if group is None else "cgroup"
