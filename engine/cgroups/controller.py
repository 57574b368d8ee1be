"""Memory and process limits that the kernel keeps: a control group for each instance (cgroups(7)).

Theory of operation
-------------------
Groups are made below the group that this process is in, and nowhere else: for each engine a parent group, in it
one group for each instance. Nothing is written to a group that is not ours, with one exception on version 2: there
a controller must be allowed by the group above, so it is, and is forbidden again at the end.

On version 1 memory and pids are trees of their own, on version 2 one tree has both, and a machine may mix the two.
So an instance's group is up to three directories: for memory, for pids, and in the tree of version 2, which kills a
group as a whole (cgroup.kill), whatever forks in it meanwhile. The last two are used where they can be had.

The next engine in the same group kills and removes what dead owners have left there (``engine/cgroups/owner.py``).
"""

from __future__ import annotations

import errno
import itertools
import os
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from engine.cgroups import files, mounts, owner
from engine.cgroups.limits import REMOVE_WITHIN_NS, Group, Places
from engine.cgroups.mounts import V1, V2, Tree
from engine.clock import monotonic_ns


@dataclass(frozen=True)
class Unavailable:
    """Why the kernel does not keep limits for this process, in words."""

    reason: str


class _Parent:
    """This engine's group in one tree; the groups of its instances are made in it."""

    def __init__(self, base: str, version: int, name: str) -> None:
        owner.sweep(base)
        self.version = version
        self.path = os.path.join(base, name)
        self._base = base
        self._allowed: list[tuple[str, str]] = []
        files.make(self.path)

    def allow(self, controller: str) -> None:
        """Let the groups of instances have *controller*, on version 2."""
        for group in (self._base, self.path):
            if controller not in files.read(group, "cgroup.subtree_control").split():
                files.write(group, "cgroup.subtree_control", f"+{controller}")
                self._allowed.append((group, controller))

    def close(self) -> None:
        """Remove what is left, and forbid again what was allowed: the kernel refuses while another engine needs it."""
        files.destroy(self.path, monotonic_ns() + REMOVE_WITHIN_NS)
        for group, controller in reversed(self._allowed):
            with suppress(OSError):
                files.write(group, "cgroup.subtree_control", f"-{controller}")


class Controller:
    """Makes groups for the instances of one engine. ``create`` is thread-safe.

    Attributes:
        version: Of the memory controller: 1 or 2.
        counts_swap: Whether what is swapped out is limited too. Otherwise a function may be swapped out instead of
            killed, where the machine has swap; version 1 is asked not to (memory.swappiness).
        limits_tasks: Whether ``max_tasks`` holds.
        kills_at_once: Whether the kernel kills a group as a whole; otherwise it is one process after the other.
        missing: What of these cannot be had here, and why; for people.
    """

    def __init__(self, memory: _Parent, pids: _Parent | str, killer: _Parent | str) -> None:
        """Take the parents that there are; what there is not comes as the reason for it."""
        self._memory = memory
        self._pids = None if isinstance(pids, str) else pids
        self._killer = None if isinstance(killer, str) else killer
        self._parents = tuple(dict.fromkeys(each for each in (self._killer, self._pids, memory) if each is not None))
        self._numbers = itertools.count()
        self.version = memory.version
        self.limits_tasks = self._pids is not None
        self.kills_at_once = self._killer is not None
        self.missing = tuple(each for each in (pids, killer) if isinstance(each, str))
        trial = self.create(limit_bytes=1024**2, max_tasks=1)
        self.counts_swap = trial.counts_swap
        trial.remove()

    def create(self, limit_bytes: int, max_tasks: int | None = None) -> Group:
        """Make an empty group with its limits.

        Args:
            limit_bytes: What may be charged to it; page cache is taken back before anything is killed.
            max_tasks: Processes and threads together, beyond which fork fails with EAGAIN. None for no limit.

        Raises:
            OSError: The kernel refused; nothing is left.
        """
        name = str(next(self._numbers))
        with ExitStack() as on_failure:
            made = {}
            for parent in self._parents:
                made[parent] = os.path.join(parent.path, name)
                files.make(made[parent])
                on_failure.callback(files.remove, (made[parent],), 0)
            pids = made[self._pids] if self._pids else None
            killer = made[self._killer] if self._killer else None
            group = Group(Places(self.version, made[self._memory], pids, killer), limit_bytes, max_tasks)
            on_failure.pop_all()
        return group

    def close(self) -> None:
        """Kill what is in the engine's groups still, and remove them all. What it cannot, the next engine sweeps."""
        for parent in self._parents:
            parent.close()


def probe(delegated: str | None = None, trees: list[Tree] | None = None) -> Controller | Unavailable:
    """Find out by trying whether the kernel keeps limits for this process: make a group, and remove it.

    What dead engines have left in the same places is killed and removed first.

    Args:
        delegated: A group of version 2 that the user hands over: groups are made below it instead of below our own.
            Version 2 needs that unless our own is the root, since what is in a group with processes has no limits.
        trees: Instead of those that /proc tells.
    """
    search = _Search(mounts.trees() if trees is None else trees, delegated)
    with ExitStack() as on_failure:
        on_failure.callback(search.close)
        # In this order, so that leftovers are killed at once where they can be.
        killer = search.for_killing()
        pids = search.for_controller("pids")
        memory = search.for_controller("memory")
        if isinstance(memory, str):
            return Unavailable(memory)
        try:
            controller = Controller(memory, pids, killer)
        except OSError as error:
            return Unavailable(f"a group cannot be given its limits: {_story(error)}")
        on_failure.pop_all()
    return controller


class _Search:
    """Looks for trees in which this engine may have a group, and makes it. A reason stands for what cannot be."""

    def __init__(self, trees: list[Tree], delegated: str | None) -> None:
        self._trees = trees
        self._delegated = delegated
        self._name = owner.own_name()
        self._made: dict[str, _Parent] = {}

    def for_controller(self, controller: str) -> _Parent | str:
        """Return the group below which *controller* limits memory or tasks."""
        reasons = []
        for tree in self._trees:
            try:
                if controller in tree.controllers:
                    return self._in(tree)
                if tree.version == V2 and controller in files.read(self._base(tree), "cgroup.controllers").split():
                    parent = self._in(tree)
                    parent.allow(controller)
                    return parent
            except OSError as error:
                reasons.append(_story(error))
        return f"{controller}: {'; '.join(reasons) or 'no cgroup tree with this controller shows our own group'}"

    def for_killing(self) -> _Parent | str:
        """Return the group below which the kernel kills a whole group at once."""
        reasons = []
        for tree in self._trees:
            if tree.version == V2:
                try:
                    parent = self._in(tree)
                except OSError as error:
                    reasons.append(_story(error))
                    continue
                if os.path.exists(os.path.join(parent.path, "cgroup.kill")):
                    return parent
                reasons.append("not before Linux 5.14")
        return f"cgroup.kill: {'; '.join(reasons) or 'no cgroup tree of version 2 shows our own group'}"

    def close(self) -> None:
        """Remove what was made."""
        for parent in self._made.values():
            parent.close()

    def _base(self, tree: Tree) -> str:
        return self._delegated if tree.version == V2 and self._delegated is not None else tree.own

    def _in(self, tree: Tree) -> _Parent:
        base = self._base(tree)
        parent = self._made.get(base)
        if parent is None:
            _check_use(tree, base)
            parent = self._made[base] = _Parent(base, tree.version, self._name)
        return parent


def _check_use(tree: Tree, base: str) -> None:
    """Raise an OSError when groups could be made in *base*, and would be of no use."""
    if tree.version == V1:
        with suppress(FileNotFoundError):
            if files.read(base, "memory.use_hierarchy").strip() == "0":
                # Before 5.11: whoever is put below such a group is free of the limits above it.
                raise OSError(errno.ENOTSUP, "It does not limit the groups below it", base)
    else:
        procs = os.path.join(os.path.commonpath((tree.own, base)), "cgroup.procs")
        if not os.access(procs, os.W_OK, effective_ids=True):
            # Who moves a process must be allowed to write to the group that both places have in common.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), procs)


def _story(error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return f"the kernel lets a group have processes or limits below it, never both: {error.filename}"
    return f"{error.strerror}: {error.filename}"
