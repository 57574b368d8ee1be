"""The command line, ``fgengine``. Nothing of it is imported before it is used: a library user does not pay for it."""
