# coding: utf-8
"""The second argument of a handler: FunctionGraph's Context and its logger.

Method names and meanings: "Developing an event function (Python)", table 1, edition of 2023-12-29.
getProjectID is not in that table; deployed handlers call it.
"""

import math

from sandbox.compat import as_native, monotonic_ns
from sandbox.logger import make_logger

MYPY = False  # mypy takes it for True; 2.7 has no typing to import
if MYPY:
    from typing import Any

_NS_PER_MS = 1000000


class FunctionSettings(object):
    """What stays the same for every invocation of one instance. Never printed: it holds the secrets."""

    def __init__(self, settings):
        # type: (dict[str, Any]) -> None
        settings = as_native(settings)
        self.name = settings["name"]
        self.package = settings["package"]
        self.version = settings["version"]
        self.alias = settings["alias"]
        self.project_id = settings["project_id"]
        self.memory_mb = settings["memory_mb"]
        self.cpu_millicores = settings["cpu_millicores"]
        self.timeout_s = settings["timeout_s"]
        self.user_data = settings["user_data"]
        self.credentials = settings["credentials"]
        self.request_id = ""  # of the invocation that runs now
        self.logger = None  # type: Any  # a logging.Logger, once it was asked for


class Context(object):
    """What a handler learns about its invocation. Secrets that were not configured are ``""``, never None."""

    def __init__(self, settings, request_id, deadline_ns):
        # type: (FunctionSettings, str, int) -> None
        self.__settings = settings
        self.__request_id = request_id
        self.__deadline_ns = deadline_ns
        self.__warned = ()  # type: tuple[str, ...]

    def getRequestID(self):
        # type: () -> str
        """The id of this invocation."""
        return self.__request_id

    def getRemainingTimeInMilliSeconds(self, _now_ns=monotonic_ns):
        # type: (Any) -> int
        """Whole milliseconds until the engine's deadline, never below 0; a set wall clock changes nothing."""
        return max(0, (self.__deadline_ns - _now_ns()) // _NS_PER_MS)

    def getRunningTimeInSeconds(self):
        # type: () -> int
        """The function's configured timeout in seconds, rounded up to a whole one."""
        return int(math.ceil(self.__settings.timeout_s))  # noqa: RUF046  # 2.7's ceil gives a float

    def getAccessKey(self):
        # type: () -> str
        """Deprecated by the platform: getSecurityAccessKey takes its place."""
        self.__warn_deprecated("getAccessKey", "getSecurityAccessKey")
        return self.__secret("access_key")

    def getSecretKey(self):
        # type: () -> str
        """Deprecated by the platform: getSecuritySecretKey takes its place."""
        self.__warn_deprecated("getSecretKey", "getSecuritySecretKey")
        return self.__secret("secret_key")

    def getSecurityAccessKey(self):
        # type: () -> str
        """The temporary access key of the function's agency."""
        return self.__secret("security_access_key")

    def getSecuritySecretKey(self):
        # type: () -> str
        """The temporary secret key of the function's agency."""
        return self.__secret("security_secret_key")

    def getSecurityToken(self):
        # type: () -> str
        """The temporary security token of the function's agency."""
        return self.__secret("security_token")

    def getToken(self):
        # type: () -> str
        """The token of the function's agency."""
        return self.__secret("token")

    def getUserData(self, key, default=None):
        # type: (str, Any) -> Any
        """The configured value of *key*, or *default*."""
        return self.__settings.user_data.get(key, default)

    def getFunctionName(self):
        # type: () -> str
        """The function's name."""
        return self.__settings.name

    def getVersion(self):
        # type: () -> str
        """The function's version, ``latest`` unless one was published."""
        return self.__settings.version

    def getMemorySize(self):
        # type: () -> int
        """The configured memory, in MB."""
        return self.__settings.memory_mb

    def getCPUNumber(self):
        # type: () -> int
        """The share of CPU that the platform gives with this memory, in millicores."""
        return self.__settings.cpu_millicores

    def getPackage(self):
        # type: () -> str
        """The group (package) that the function belongs to."""
        return self.__settings.package

    def getAlias(self):
        # type: () -> str
        """The alias that the function was called by."""
        return self.__settings.alias

    def getProjectID(self):
        # type: () -> str
        """The id of the project that the function belongs to."""
        return self.__settings.project_id

    def getLogger(self, _make=make_logger):
        # type: (Any) -> Any
        """A ``logging.Logger`` at INFO whose lines carry the time, the request id and the level."""
        if self.__settings.logger is None:
            self.__settings.logger = _make(self.__settings)
        return self.__settings.logger

    def __secret(self, name):
        # type: (str) -> str
        return self.__settings.credentials.get(name) or ""

    def __warn_deprecated(self, name, successor):
        # type: (str, str) -> None
        if name not in self.__warned:
            self.__warned += (name,)
            self.getLogger().warning("%s() is deprecated and no longer maintained; use %s()", name, successor)
