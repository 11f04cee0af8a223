"""
What to do about growth: one table for kinds of growth, one for what a holder is and holds. Pure.

The first row of ``HOLDERS`` that fits decides. Rows that recognise a cause (a cache of a method, a
stored exception, a backlog) stand before those that only know the type of a container.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from memguard.leaks.evidence.gathered import HolderEvidence
from memguard.leaks.report import NO_LIMIT, Holder, VerdictKind

LIVE_WITHOUT_HOLDER = (
    "Objects stay alive, and nothing with a name was found to hold them: the lines and the types "
    "that grow are what is known. Look at what those lines hand out, or give the search more time "
    "(retention_seconds)."
)

KINDS: dict[str, str] = {
    "live_objects": "Objects are alive because something holds them: bound the holders named here "
    "(memguard.BoundedCache), or remove entries when their owner is done.",
    "cycles": "Garbage in reference cycles waits for the collector: call gc.enable() if it is "
    "off, lower gc.set_threshold() if it was raised, call gc.collect() when the process is idle, "
    "or break the cycles (weakref for parent links).",
    "extension": "No object of Python holds these: an extension written in C does, or has lost "
    "count of its references. Look at the call into C on the allocating lines, update that "
    "package, or report a reference leak to it.",
    "interpreter": "Other interpreters run in this process, and their objects cannot be seen from "
    "here: run a LeakDetector inside of them, or give their work to processes.",
    "fragmentation": "Memory was freed but the allocator keeps it: set MALLOC_ARENA_MAX=2, try "
    "jemalloc (LD_PRELOAD), or return it with malloc_trim when the process is idle.",
    "native": "Most of the growth is outside Python's allocators: suspect C extensions and "
    "libraries called through ctypes or cffi; a native profiler (memray --native, heaptrack) "
    "names them.",
    "threads": "Threads are started and do not end: let what they wait for happen (a flag, a "
    "timeout, a closed queue), shut down executors when their work is done, or use one pool of "
    "fixed size.",
    "tasks": "Tasks are created and do not finish: await or cancel them, put a timeout around what "
    "they wait for (asyncio.timeout), or spawn them in a memguard.TaskRegistry or TaskGroup.",
    "sockets": "Sockets are opened and not closed: use them in a with block, close sessions and "
    "clients when they are done, or share one client with a bounded connection pool.",
    "files": "File descriptors are opened and not closed: use with blocks, or contextlib.closing, "
    "and close processes, loops and selectors when they are done.",
    "unknown": "Not enough evidence could be taken; see what this report could not see.",
    "none": "Nothing to do yet: watch longer, or keep a LeakDetector running.",
}
"""For each kind of growth; of live objects with a holder, what the holder is says more."""


def of_verdict(kind: VerdictKind, holders: Sequence[Holder]) -> str:
    """
    Return what to do about growth of *kind* that *holders*, the heaviest first, account for.

    The advice for the first holder about which there is something to say, where objects are alive.
    """
    if kind == "native":
        owner = next((h for h in holders if h.advice in OWN_MEMORY_OF_C), None)
        return KINDS[kind] if owner is None else _of_owner(owner)
    if kind == "extension":  # or C code of Python itself
        context = next((h for h in holders if h.advice == OF_A_CONTEXT), None)
        return KINDS[kind] if context is None else f"{context.path}: {context.advice}."
    if kind != "live_objects":
        return KINDS[kind]
    said = next((f"{h.path}: {h.advice}." for h in holders if h.advice is not None), None)
    if said is not None:
        return said
    return KINDS[kind] if any(holder.anchored for holder in holders) else LIVE_WITHOUT_HOLDER


def _of_owner(holder: Holder) -> str:
    return (
        f"{holder.path}: {holder.advice}. Each keeps memory outside Python's allocators, which may "
        "be this growth; if it is not, a native profiler (memray --native, heaptrack) names it."
    )


def of_holder(evidence: HolderEvidence) -> str | None:
    """Return what to do about a holder, a clause without a full stop; None for nothing to say."""
    clue = _Clue.of(evidence)
    for row in HOLDERS:
        if row.fits(clue):
            return row.advice.format(owner=clue.class_named, bound=f"{clue.bound or 0:,}") or None
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clue:
    """What is known of a holder, as far as advice depends on it."""

    path: str
    type: str
    unit: str
    is_ours: bool
    anchored: bool
    in_user_code: bool
    bound: int | None
    kinds: frozenset[str]
    """Types of at least half of the sampled entries, base types included."""
    keeps: frozenset[str]
    """Likewise, what the entries keep alive."""
    through: tuple[str, ...]
    owner: tuple[str, ...]

    @classmethod
    def of(cls, evidence: HolderEvidence) -> _Clue:
        sample = evidence.sample
        entries = max(1, sample.entries)
        common = [name for name, _ in sample.types.most_common() if name not in _PLAIN]
        return cls(
            path=evidence.path,
            type=evidence.type,
            unit=evidence.unit,
            is_ours=evidence.inventory_name is not None,
            anchored=evidence.anchored,
            in_user_code=evidence.in_user_code,
            bound=None if (evidence.bound or NO_LIMIT) >= NO_LIMIT else evidence.bound,
            kinds=frozenset(common[:1]) | _of_half(sample.kinds, entries),
            keeps=_of_half(sample.keeps, entries),
            through=evidence.through,
            owner=evidence.owner,
        )

    @property
    def class_named(self) -> str:
        """The last name but one before what has none: ``Shop`` of ``app.Shop.price<…>``."""
        return self.path.partition("<")[0].rpartition(".")[0].rpartition(".")[2]

    def holds(self, *names: str) -> bool:
        """Return True where entries are of one of the types, or of a type derived from it."""
        return not self.kinds.isdisjoint(names)

    def reaches(self, *names: str) -> bool:
        """Return True where entries are of one of the types, or keep one alive."""
        return self.holds(*names) or not self.keeps.isdisjoint(names)

    def owned_by(self, *names: str) -> bool:
        """Return True where what holds the container is of one of the types, or derived."""
        return not set(self.owner).isdisjoint(names)

    def begins(self, *prefixes: str) -> bool:
        """Return True where the path is one of the names, or leads on from it."""
        return any(
            self.path == prefix or self.path.startswith((f"{prefix}.", f"{prefix}[", f"{prefix}<"))
            for prefix in prefixes
        )


_PLAIN = {"str", "int", "float", "bytes", "bool", "NoneType", "tuple"}
"""Types of keys and small change: they do not show what a container is for."""


def _of_half(counted: Counter[str], entries: int) -> frozenset[str]:
    return frozenset(name for name, count in counted.items() if count * 2 >= entries)


@dataclass(frozen=True, slots=True)
class Row:
    """A kind of holder and what to do about it."""

    name: str
    fits: Callable[[_Clue], bool]
    advice: str


_LRU = "functools._lru_cache_wrapper"
_QUEUES = (
    "asyncio.queues.Queue",
    "queue.Queue",
    "queue.SimpleQueue",
    "_queue.SimpleQueue",
    "multiprocessing.queues.Queue",
    "anyio.streams.memory.MemoryObjectStreamState",
    "trio._channel.MemoryChannelState",
)
_TABLES = (
    "pandas.core.frame.DataFrame",
    "pandas.DataFrame",
    "pandas.core.series.Series",
    "pandas.Series",
    "polars.dataframe.frame.DataFrame",
    "pyarrow.lib.Table",
    "pyarrow.lib.RecordBatch",
    "numpy.ndarray",
    "torch.Tensor",
    "PIL.Image.Image",
)
_FILES = (
    "_socket.socket",
    "socket.socket",
    "_io._IOBase",
    "http.client.HTTPConnection",
    "subprocess.Popen",
    "sqlite3.Connection",
    "requests.sessions.Session",
    "httpx.Client",
    "aiohttp.client.ClientSession",
    "asyncio.transports.BaseTransport",
)
_CALLABLES = ("function", "method", "builtin_function_or_method", "functools.partial")
_MODELS = ("sqlalchemy.orm.state.InstanceState", "django.db.models.base.Model", "peewee.Model")
_SESSIONS = (
    "sqlalchemy.orm.session.Session",
    "sqlalchemy.orm.identity.IdentityMap",
    "sqlalchemy.orm.identity.WeakInstanceDict",
)


_THREADS = (
    "threads pile up: let what they wait for happen (a flag, a timeout), join() and drop those "
    "that have ended, or use a pool of fixed size"
)
_TASKS = (
    "tasks pile up; await or cancel them, put a timeout around what they wait for, or spawn them "
    "in a memguard.TaskRegistry"
)


def _is_cache_of_a_method(clue: _Clue) -> bool:
    """Return True for ``lru_cache`` in a class whose instances are in the keys of the entries."""
    if _LRU not in clue.through or "class" not in clue.through:
        return False
    below = clue.kinds | clue.keeps
    return any(name.rpartition(".")[2] == clue.class_named for name in below)


def _is_local(clue: _Clue, *kinds: str) -> bool:
    """Return True for a variable, or what is in its entries; not for an object's attribute."""
    found = _LOCAL.match(clue.path)
    return found is not None and found["kind"] in kinds


_LOCAL = re.compile(r"local '[^']*' of (?P<kind>[a-z ]+) \S+ \(line \d+\)(?:\[[^\]]*\])*$")


def _is_handler_list(clue: _Clue) -> bool:
    return clue.path.endswith(".handlers") and clue.owned_by("logging.Logger")


HOLDERS: tuple[Row, ...] = (
    Row(
        "one of ours",
        lambda clue: clue.is_ours,
        "a container of memguard: lower its bound, or remove its entries sooner",
    ),
    Row(
        "a cache of a method",
        _is_cache_of_a_method,
        "the cache keeps every {owner} alive that the method was called on: use memguard.cached, "
        "whose entries end with their instance, functools.cached_property, or key it by plain "
        "values in a function outside the class",
    ),
    Row(
        "a bounded container",
        lambda clue: clue.bound is not None,
        "it is bounded, at {bound} entries; a smaller bound ends its growth sooner",
    ),
    Row(
        "a cache of a function",
        lambda clue: _LRU in clue.through or f"<{_LRU}>" in clue.path,
        "give the functools cache a maxsize, or use memguard.cached(maxsize=...)",
    ),
    # -- what the standard library keeps ----------------------------------------------------------
    Row(
        "patterns",
        lambda clue: clue.begins("re._cache", "re._cache2", "re", "sre_compile", "fnmatch"),
        "a cache of re, which bounds itself: build patterns once, not from data",
    ),
    Row(
        "source lines",
        lambda clue: clue.begins("linecache.cache", "linecache._interactive_cache"),
        "source lines kept for tracebacks: code made at run time gets new file names each time; "
        "use one name, or call linecache.clearcache()",
    ),
    Row(
        "loggers",
        lambda clue: (
            clue.begins("logging.root.manager", "logging.Logger.manager")
            or ".loggerDict" in clue.path
            or clue.holds("logging.Logger", "logging.PlaceHolder")
        ),
        "loggers are never deleted: use one name for each module and put what varies (a request, "
        "a user) in extra= or a LoggerAdapter",
    ),
    Row(
        "handlers of logging",
        lambda clue: clue.holds("logging.Handler", "logging.Filterer") or _is_handler_list(clue),
        "logging handlers pile up, and each writes every line again: add one once, at start, or "
        "take it away with removeHandler() and close()",
    ),
    Row(
        "exit callbacks",
        lambda clue: clue.begins("atexit", "weakref.finalize._registry", "multiprocessing.util"),
        "callbacks registered for the end of an object or of the process keep their arguments: "
        "detach or unregister them when they are not needed any more",
    ),
    Row(
        "warnings seen",
        lambda clue: "__warningregistry__" in clue.path or clue.begins("warnings.onceregistry"),
        "each text that was warned of is kept once: leave what varies out of the text of warnings",
    ),
    Row(
        "imported modules",
        lambda clue: clue.begins("sys.modules", "sys.path_importer_cache", "importlib"),
        "modules are kept once imported: use fixed names, and delete from sys.modules what was "
        "made at run time",
    ),
    Row(
        "a cache of the standard library",
        lambda clue: clue.begins(
            "functools",
            "typing",
            "abc",
            "copyreg",
            "encodings._cache",
            "_strptime",
            "struct",
            "urllib.parse",
            "mimetypes",
            "locale",
            "inspect",
            "tokenize",
            "enum",
            "dataclasses",
            "collections",
            "decimal",
            "email",
            "gettext",
        ),
        "the standard library keeps it, with bounds of its own or once for each class or name: "
        "look for classes, names or formats that the program makes again and again",
    ),
    # -- what entries are, by cause ---------------------------------------------------------------
    Row(
        "stored exceptions",
        lambda clue: (
            clue.reaches("BaseException", "traceback")
            or clue.holds("frame", "traceback.StackSummary")
        ),
        "the traceback of each kept exception keeps the locals of every frame it passed: keep "
        "str(error) or traceback.format_exception(error), or call error.with_traceback(None)",
    ),
    Row(
        "timers",
        lambda clue: clue.holds("threading.Timer"),
        "timers pile up; cancel them, or start them in a memguard.TimerRegistry",
    ),
    Row(
        "threads",
        lambda clue: (
            clue.holds("threading.Thread")
            or clue.begins("threading._active", "threading._dangling", "threading._limbo")
        ),
        _THREADS,
    ),
    Row(
        "tasks",
        lambda clue: clue.holds("_asyncio.Task", "asyncio.tasks.Task"),
        _TASKS,
    ),
    Row(
        "scheduled calls",
        lambda clue: clue.holds("asyncio.events.TimerHandle", "asyncio.events.Handle"),
        "scheduled calls pile up; cancel those that are not needed",
    ),
    Row(
        "work handed to an executor",
        lambda clue: (
            "._work_queue" in clue.path
            or "._pending_work_items" in clue.path
            or clue.holds("concurrent.futures.thread._WorkItem")
        ),
        "work is submitted faster than the executor does it: submit in batches, or behind a "
        "semaphore that is released when a future is done",
    ),
    Row(
        "a backlog",
        lambda clue: clue.owned_by(*_QUEUES) or clue.type in _QUEUES,
        "a backlog: the consumer is slower than the producer. Give the queue a maxsize, so that "
        "producers wait, add consumers, or refuse work while it is full",
    ),
    Row(
        "futures",
        lambda clue: clue.holds("_asyncio.Future", "concurrent.futures._base.Future"),
        "futures keep their results: drop each when it is done (as_completed, "
        "add_done_callback), or cancel those nobody waits for",
    ),
    Row(
        "suspended functions",
        lambda clue: clue.holds("coroutine", "generator", "async_generator"),
        "suspended functions keep their locals: await, exhaust or close() them",
    ),
    # -- what entries keep ------------------------------------------------------------------------
    Row(
        "queries of Django",
        lambda clue: "queries_log" in clue.path,
        "Django keeps every query while DEBUG is on: DEBUG = False, or django.db.reset_queries()",
    ),
    Row(
        "a session of an ORM",
        lambda clue: (
            clue.owned_by(*_SESSIONS)
            or not set(clue.through).isdisjoint(_SESSIONS)
            or clue.path.endswith((".identity_map", "._result_cache"))
        ),
        "the session of the ORM keeps what it has loaded (its identity map): one session for each "
        "request or batch, closed at its end, expunge_all() or expire_all() after a batch, "
        "yield_per() or iterator() for long results",
    ),
    Row(
        "rows of an ORM",
        lambda clue: clue.reaches(*_MODELS),
        "each object of an ORM keeps its attributes, what it is related to, and its session's "
        "state: keep plain values or keys, and load objects for each request anew",
    ),
    Row(
        "tables and arrays",
        lambda clue: clue.reaches(*_TABLES),
        "tables and arrays are kept whole, and a slice keeps all of what it is cut from: keep "
        "results or aggregates, copy() small slices, write the rest out",
    ),
    Row(
        "open files and sockets",
        lambda clue: clue.reaches(*_FILES),
        "open files, sockets or connections are kept: close them (with, contextlib.closing), or "
        "share one client with a bounded pool",
    ),
    Row("threads of entries", lambda clue: clue.reaches("threading.Thread"), _THREADS),
    Row(
        "tasks of entries", lambda clue: clue.reaches("_asyncio.Task", "asyncio.tasks.Task"), _TASKS
    ),
    Row(
        "watchers of what others hold",
        lambda clue: clue.owned_by("_weakrefset.WeakSet", "weakref.WeakValueDictionary"),
        "it follows objects that others hold, and shrinks with them: look at the other holders",
    ),
    Row(
        "weak references",
        lambda clue: clue.holds("weakref.ReferenceType", "weakref.ref", "weakref.weakref"),
        "weak references stay after what they refer to is gone: use weakref.WeakSet or "
        "WeakValueDictionary, or remove each in its callback",
    ),
    Row(
        "callbacks",
        lambda clue: clue.holds(*_CALLABLES, "weakref.WeakMethod"),
        "callbacks pile up; disconnect them, or register them with an owner in a "
        "memguard.ListenerRegistry",
    ),
    Row(
        "classes",
        lambda clue: clue.holds("type") or ".__subclasses__" in clue.path,
        "classes are made again and again: make each once, when its module is imported, or keep "
        "the made ones by what they are made from",
    ),
    # -- where it is held -------------------------------------------------------------------------
    Row(
        "a context",
        lambda clue: (
            not {"_contextvars.Context", "_contextvars.ContextVar", "hamt"}.isdisjoint(clue.through)
            or "ContextVar" in clue.path
            or "<_contextvars.Context>" in clue.path
        ),
        "a context variable keeps it as long as its context lives: reset(token) when the request "
        "is done, and set a new value for each request instead of adding to one",
    ),
    Row(
        "held by nothing",
        lambda clue: not clue.anchored and "held by nothing" in clue.path,
        "no name leads to it: garbage in a cycle, which gc.collect() frees, or objects that an "
        "extension holds",
    ),
    Row("not found in time", lambda clue: not clue.anchored, ""),
    Row(
        "thread-local",
        lambda clue: "_thread._local" in clue.through or "_thread._local" in clue.path,
        "a value of a thread lives as long as the thread: clear it when a piece of work is done",
    ),
    Row(
        "a local of a running function",
        lambda clue: _is_local(clue, "running function", "frame"),
        "a local of a function that runs: work in batches, hand results on as they come (yield), "
        "or clear it within the loop",
    ),
    Row(
        "a local of a suspended function",
        lambda clue: _is_local(clue, "coroutine", "generator", "async generator"),
        "a local of a suspended function: it lives until that goes on and ends. Clear it within "
        "the loop, or put a timeout around what it waits for",
    ),
    Row(
        "a default argument",
        lambda clue: clue.through[-2:] in (("function", "tuple"), ("function", "dict")),
        "a mutable default argument is one for all calls: use None and make it in the function",
    ),
    Row(
        "a closure",
        lambda clue: "<closure " in clue.path,
        "a closure keeps it as long as the function made with it: drop that function "
        "(unsubscribe), or pass the data in and bound it",
    ),
    Row(
        "an attribute of a class",
        lambda clue: "class" in clue.through[:1],
        "an attribute of a class is one for all its instances and never ends: make it in __init__, "
        "take entries out when they are done, or hold them weakly (weakref.WeakSet)",
    ),
    # -- what it is -------------------------------------------------------------------------------
    Row(
        "instances",
        lambda clue: clue.unit == "instances",
        "find out what makes and keeps each of them: the path leads to one",
    ),
    Row(
        "a value that a larger one replaces",
        lambda clue: clue.type in ("str", "bytes", "tuple", "numpy.ndarray"),
        "a larger one takes its place each time, with all that was in it: write the parts out, or "
        "keep a fixed number of them",
    ),
    Row(
        "a buffer",
        lambda clue: clue.unit == "bytes",
        "it is only added to: write it out and truncate it, in pieces of fixed size",
    ),
    Row(
        "of a library",
        lambda clue: not clue.in_user_code,
        "it belongs to a library: look for what the program hands to it and does not take back "
        "(close, unsubscribe, clear)",
    ),
    Row(
        "a mapping",
        lambda clue: clue.type.rpartition(".")[2] in ("dict", "OrderedDict", "defaultdict"),
        "if it is a cache, replace it with memguard.BoundedCache(maxsize, ttl=...)",
    ),
    Row(
        "a counter",
        lambda clue: clue.type == "collections.Counter",
        "an entry for each distinct key: count fewer kinds (a route, not a URL), or keep the most "
        "common",
    ),
    Row(
        "a list",
        lambda clue: clue.type in ("list", "collections.deque"),
        "remove entries that are done; collections.deque(maxlen=...) keeps only the newest",
    ),
    Row("a set", lambda clue: clue.type == "set", "remove entries that are done"),
)
"""The first that fits is what is said; an empty advice says nothing."""

OWN_MEMORY_OF_C = frozenset(
    row.advice
    for row in HOLDERS
    if row.name in {"threads", "tables and arrays", "open files and sockets"}
)
"""For entries that keep more outside Python's allocators than in them: stacks, buffers."""
OF_A_CONTEXT = next(row.advice for row in HOLDERS if row.name == "a context")
"""A context that runs is held by C code of Python, which nothing can see into."""
