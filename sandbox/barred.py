"""The system calls that no function needs and that weaknesses of the kernel are found in: refused by a filter.

Not a list of what is allowed: programs of twenty years and any library run inside, and the namespaces are the wall.
This takes the tools away that walls are climbed with: mounts, namespaces, keyrings, tracing, bpf, io_uring, modules.

And sockets of all families but four. A network namespace holds what belongs to the internet and to unix sockets; a
vsock passes it, and reaches the host's host and its virtual machines.
"""

import ctypes
import errno
import platform
import struct

from sandbox import namespaces

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_* of linux/audit.h

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
_CLONE, _CLONE3 = (56, 220), 435
_SOCKETS = ((41, 198), (53, 199))  # socket, socketpair
_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK: getaddrinfo(3) asks it for addresses
_FCNTL, _F_SETLEASE = (72, 25), 1024  # whoever opens a file with a lease on it waits, 45 s by default
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEW*, all that clone(2) knows
_X32_BIT = 0x40000000

_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _JUMP_ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_NUMBER_AT, _MACHINE_AT, _FIRST_ARGUMENT_AT, _SECOND_ARGUMENT_AT = 0, 4, 16, 24


def bar():
    # type: () -> None
    """Install the filter on this process and whatever it starts."""
    code = b"".join(struct.pack("=HBBI", *each) for each in program(platform.machine()))
    held = ctypes.create_string_buffer(code, len(code))
    whole = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(held)))
    namespaces.install_filter(ctypes.addressof(whole))


def program(machine):
    # type: (str) -> list[tuple[int, int, int, int]]
    """The filter for a machine of this name, instruction by instruction."""
    column = 0 if machine == "x86_64" else 1
    numbers = sorted(each[column] for each in _BARRED.values())
    refuse, unknown = (_RETURN, 0, 0, _REFUSE | errno.EPERM), (_RETURN, 0, 0, _REFUSE | errno.ENOSYS)
    steps = [(_LOAD, 0, 0, _MACHINE_AT), (_JUMP_EQUAL, 1, 0, _MACHINES[machine]), unknown, (_LOAD, 0, 0, _NUMBER_AT)]
    steps += [(_JUMP_AT_LEAST, 0, 1, _X32_BIT), unknown]  # other numbers for the same calls
    steps += [(_JUMP_EQUAL, 0, 1, _CLONE3), unknown]  # its flags cannot be seen; libc goes back to clone
    for number in numbers:
        steps += [(_JUMP_EQUAL, 0, 1, number), refuse]
    allow, no_family = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE | errno.EAFNOSUPPORT)
    for each in _SOCKETS:
        steps += [(_JUMP_EQUAL, 0, 2 * len(_FAMILIES) + 2, each[column]), (_LOAD, 0, 0, _FIRST_ARGUMENT_AT)]
        for family in _FAMILIES:
            steps += [(_JUMP_EQUAL, 0, 1, family), allow]
        steps += [no_family]
    steps += [(_JUMP_EQUAL, 0, 4, _FCNTL[column]), (_LOAD, 0, 0, _SECOND_ARGUMENT_AT)]
    steps += [(_JUMP_EQUAL, 0, 1, _F_SETLEASE), refuse, allow]
    steps += [(_JUMP_EQUAL, 0, 3, _CLONE[column]), (_LOAD, 0, 0, _FIRST_ARGUMENT_AT)]
    steps += [(_JUMP_ANY_BIT, 0, 1, _NEW_NAMESPACES), refuse]
    return steps + [allow]  # noqa: RUF005  # 2.7 has no other way
