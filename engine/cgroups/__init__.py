"""Control groups (cgroups(7)): memory and process limits that the kernel keeps, where it lets us.

``controller`` finds out what there is and makes groups, ``limits`` is the group of one instance, ``mounts`` says
where this process is, ``owner`` whose a group is and which are left over, ``files`` writes and reads.
"""
