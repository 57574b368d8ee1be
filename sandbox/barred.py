"""The system calls that no function needs and that weaknesses of the kernel are found in: refused by a filter.

Not a list of what is allowed: programs of twenty years and any library run inside, and the namespaces are the wall.
This takes the tools away that walls are climbed with: mounts, namespaces, keyrings, tracing, bpf, io_uring, modules.

And sockets of all families but four. A network namespace holds what belongs to the internet and to unix sockets; a
vsock passes it, and reaches the host's host and its virtual machines.
"""

import errno

from sandbox import bpf, namespaces
from sandbox.bpf import ALLOW, ANY_BIT, EQUAL, LOW, REFUSE, UNKNOWN, when, when_loaded

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from sandbox.bpf import Block

# name: (x86-64, the generic table)
_BARRED = {
    "acct": (163, 89), "add_key": (248, 217), "bpf": (321, 280), "chroot": (161, 51), "delete_module": (176, 106),
    "finit_module": (313, 273), "fsconfig": (431, 431), "fsmount": (432, 432), "fsopen": (430, 430),
    "fspick": (433, 433), "init_module": (175, 105), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425), "kcmp": (312, 272), "kexec_file_load": (320, 294), "kexec_load": (246, 104),
    "keyctl": (250, 219), "lookup_dcookie": (212, 18), "mount": (165, 40), "mount_setattr": (442, 442),
    "move_mount": (429, 429), "move_pages": (279, 239), "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265), "open_tree": (428, 428), "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241), "pidfd_getfd": (438, 438), "pivot_root": (155, 41),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "ptrace": (101, 117), "quotactl": (179, 60),
    "quotactl_fd": (443, 443), "reboot": (169, 142), "request_key": (249, 218), "setdomainname": (171, 162),
    "sethostname": (170, 161), "setns": (308, 268), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "swapoff": (168, 225), "swapon": (167, 224),
    "syslog": (103, 116), "umount2": (166, 39), "unshare": (272, 97), "userfaultfd": (323, 282),
    "vhangup": (153, 58),
}  # fmt: skip
_SOCKETS = ((41, 198), (53, 199))  # socket, socketpair
_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: getaddrinfo(3) asks it for addresses
_F_SETLEASE = 1024  # whoever opens a file with a lease on it waits, 45 s by default
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEW*, all that clone(2) knows


def bar():
    # type: () -> None
    """Install the filter on this process and whatever it starts.

    Raises:
        Refused: There is none for this machine, or the kernel refused. No function runs without it.
    """
    try:
        bpf.install(program(bpf.machine()))
    except OSError as error:
        raise namespaces.Refused(error.errno or 0, "seccomp")


def program(machine):
    # type: (str) -> Block
    """The filter for a machine of this name, instruction by instruction; none for one that is not known here."""
    if machine not in bpf.MACHINES:
        return []
    steps = bpf.beginning(machine)
    # Its flags cannot be seen; libc goes back to clone.
    steps += when_loaded(EQUAL, bpf.number(bpf.CLONE3, machine), UNKNOWN)
    for number in sorted(bpf.number(each, machine) for each in _BARRED.values()):
        steps += when_loaded(EQUAL, number, REFUSE)
    of_family = bpf.load(LOW[0])
    for family in _FAMILIES:
        of_family += when_loaded(EQUAL, family, ALLOW)
    for each in _SOCKETS:
        steps += when_loaded(EQUAL, bpf.number(each, machine), of_family + bpf.fail(errno.EAFNOSUPPORT))
    steps += when_loaded(EQUAL, bpf.number(bpf.FCNTL, machine), when(LOW[1], EQUAL, _F_SETLEASE, REFUSE) + ALLOW)
    steps += when_loaded(EQUAL, bpf.number(bpf.CLONE, machine), when(LOW[0], ANY_BIT, _NEW_NAMESPACES, REFUSE))
    return steps + ALLOW
