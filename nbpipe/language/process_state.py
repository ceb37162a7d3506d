"""Calls that change what a process has once, such as its working folder, for all code that runs in it afterwards."""

from __future__ import annotations

from nbpipe.language.object_effects import NOTHING, Origin, Origins

FOLDER: Origin = ("process", "working folder")
# The settings of the table are reported apart.
_CALLS = frozenset(
    {"signal.signal", "signal.alarm", "signal.setitimer", "gc.disable", "gc.enable", "gc.freeze", "gc.set_threshold",
     "os.umask", "os.nice", "os.setpriority", "atexit.register", "faulthandler.enable", "resource.setrlimit",
     "codecs.register", "codecs.register_error", "copyreg.pickle", "mimetypes.add_type", "time.tzset", "sys.settrace",
     "sys.setprofile", "sys.setswitchinterval", "threading.settrace", "threading.setprofile", "threading.stack_size",
     "asyncio.set_event_loop_policy", "asyncio.set_event_loop", "builtins.setattr", "importlib.reload",
     "importlib.invalidate_caches", "random.setstate"}
)  # fmt: skip

# What a kernel has once, and code can replace: each is shown or read by whatever runs afterwards.
_REPLACED = ("sys.stdout", "sys.stderr", "sys.stdin", "sys.displayhook", "sys.excepthook")


def replaced_state(name: str) -> Origins:
    """Return the origin of what an assignment to an attribute, by its full name, replaces in its process."""
    return frozenset(("process", each) for each in _REPLACED if name == each or name.startswith(f"{each}."))


def process_state(name: str) -> Origins:
    """Return the origins of what a call of a function, by its full name, changes in its process."""
    if name == "os.chdir":
        return frozenset([FOLDER])
    return frozenset([("module", name.partition(".")[0])]) if name in _CALLS else NOTHING
