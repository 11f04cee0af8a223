"""
What do objects of other libraries weigh? By the accessor that each library documents for it.

A type is found by module and name where an instance of it was met, and only in a library that the
program has loaded: nothing is imported. What is not listed here, and was written in C by somebody
else, is *opaque*: only its library knows what it owns.
"""

from __future__ import annotations

import gc
import mmap
import sys
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

from memguard.bounded.sizing.kinds import (
    BASICSIZE,
    DICT,
    MRO,
    is_of_python,
    is_written_in_c,
    module_of,
    package_of,
    qualname_of,
    type_in,
)

SURE, ESTIMATED, OPAQUE, ELEMENTS = range(4)
"""How sure a reader is; `ELEMENTS` where there is an object in each element of an array."""


class Found(NamedTuple):
    """What one object of a library weighs."""

    own: int
    """Bytes that no other object shares."""
    key: int = 0
    """
    Names the data that it may share with others: the id of their owner, or less than 0 where that
    is no object; 0 where it has none.
    """
    data: int = 0
    """Bytes of those data."""
    below: tuple[Any, ...] = ()
    """What it keeps alive besides, to be weighed, too."""
    how: int = SURE
    """`OPAQUE` where a part of it is known to its library only."""


Reader = Callable[[Any], Found]
_GC_HEADER = sys.getsizeof([]) - [].__sizeof__()


def _key(address: int) -> int:
    return -address  # an id is never negative


# -- makers of readers: each takes the type as its library has it --------------------------------


def _nothing(_: type) -> Reader:
    """Belongs to the program: a value that refers to it does not own it."""
    nothing = Found(0)
    return lambda _: nothing


def _leaf(kind: type) -> Reader:
    """Of one size, and what it refers to is not its own."""
    leaf = Found(int(BASICSIZE(kind)))
    return lambda _: leaf


def _array(ndarray: Any) -> Reader:
    """Data of an owner; a view has a header, and keeps the owner. Elements are the walk's task."""
    base_of, dtype_of, sizeof = ndarray.base.__get__, ndarray.dtype.__get__, ndarray.__sizeof__
    nbytes = ndarray.nbytes.__get__
    strings = getattr(sys.modules.get("numpy"), "dtypes", None)
    strings = getattr(strings, "StringDType", None)

    def read(array: Any) -> Found:
        size = sizeof(array)
        owner = base_of(array)
        if owner is not None:
            if type(owner) is ndarray:
                if base_of(owner) is None and not dtype_of(array).hasobject:
                    return Found(size, id(owner), sizeof(owner))
            elif not is_weighed(owner):
                return Found(size + nbytes(array), how=ESTIMATED)  # at least what it shows
            return Found(size, below=(owner,))
        dtype = dtype_of(array)
        if strings is not None and type(dtype) is strings:
            return Found(size, how=OPAQUE)  # its texts are elsewhere
        if dtype.hasobject:
            return Found(size, how=ELEMENTS)
        return Found(size)

    return read


def _tensor(tensor: Any) -> Reader:
    """Its storage, which views share; in another memory than the process's: the object alone."""
    storage_of = tensor.untyped_storage
    wrapper, gradient = 480, 170  # what PyTorch 2 allocates for one besides its storage

    def read(obj: Any) -> Found:
        if not obj.is_cpu:
            return Found(wrapper)
        if obj.layout is not strided():
            return Found(wrapper, how=OPAQUE)
        storage = storage_of(obj)
        key, size = _key(storage.data_ptr()), storage.nbytes()
        if not obj.requires_grad:
            return Found(wrapper, key, size)
        if not obj.is_leaf:  # it keeps what it was computed from, for the way back
            return Found(wrapper + gradient, key, size, (), OPAQUE)
        below = obj.grad
        return Found(wrapper + gradient, key, size, () if below is None else (below,))

    def strided() -> Any:
        return sys.modules["torch"].strided

    return read


def _storage(_: type) -> Reader:
    def read(obj: Any) -> Found:
        if obj.device.type != "cpu":
            return Found(100)
        return Found(100, _key(obj.data_ptr()), obj.nbytes())

    return read


_PIXELS = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16L": 2, "I;16B": 2, "I;16N": 2}
"""Bytes of a pixel; of every mode that is not here, four."""


def _pixels(kind: type) -> Reader:
    """Pillow's image in memory: pixels, and a pointer to each line."""
    header = int(BASICSIZE(kind)) + 160

    def read(core: Any) -> Found:
        width, height = core.size
        return Found(header + height * (8 + width * _PIXELS.get(core.mode, 4)))

    return read


def _image(_: type) -> Reader:
    """Its pixels once they are loaded, and what it keeps of its file."""

    def read(image: Any) -> Found:
        size, file = 1100, getattr(image, "fp", None)
        if image.im is not None:
            width, height = image.size
            size += height * (8 + width * _PIXELS.get(image.mode, 4))
        if image.info or file is not None:
            return Found(size, below=(image.info, file))
        return Found(size)

    return read


_ROOM = 0.2
"""Of texts in buffers: what those that were built step by step have room for besides."""

_COLUMN = 470
"""What polars allocates for a column besides its data."""


def _series(series: Any) -> Reader:
    size_of = series.estimated_size

    def read(obj: Any) -> Found:
        more, how = _more_of(obj, size_of)
        return Found(300 + _COLUMN + size_of(obj) + more, how=how)

    return read


def _more_of(series: Any, size_of: Callable[[Any], int]) -> tuple[int, int]:
    """Return what polars does not count: 16 bytes for each text, in which short ones lie."""
    dtype = series.dtype
    name = type(dtype).__name__ if not isinstance(dtype, type) else dtype.__name__
    if name in _TEXTUAL:
        texts, views = size_of(series), 16 * len(series)
        return views + (-texts if texts <= len(series) * 12 else int(texts * _ROOM)), SURE
    if name in _NESTED:
        return 0, ESTIMATED
    return 0, OPAQUE if name == "Object" else SURE


_TEXTUAL = frozenset({"String", "Utf8", "Binary"})
_NESTED = frozenset({"List", "Array", "Struct"})
_UNCOUNTED = _TEXTUAL | _NESTED | {"Object"}


def _frame(frame: Any) -> Reader:
    size_of = frame.estimated_size
    series_size = type_in("polars", "Series").estimated_size

    def read(obj: Any) -> Found:
        size, how = size_of(obj), 0
        kinds = [type(dtype).__name__ for dtype in obj.dtypes]
        if not _UNCOUNTED.isdisjoint(kinds):
            for column in obj.get_columns():
                more, doubt = _more_of(column, series_size)
                size += more
                how = max(how, doubt)
        return Found(300 + _COLUMN * len(kinds) + size, how=how)

    return read


def _texts_of_arrow() -> frozenset[int]:
    lib: Any = sys.modules["pyarrow.lib"]
    return frozenset(
        {lib.Type_STRING, lib.Type_BINARY, lib.Type_LARGE_STRING, lib.Type_LARGE_BINARY}
    )


def _arrow_array(_: type) -> Reader:
    """All of each buffer that it refers to, as a slice keeps all of it."""
    texts = _texts_of_arrow()

    def read(obj: Any) -> Found:
        size = obj.get_total_buffer_size()
        buffer = obj.buffers()[-1] if size else None
        if obj.type.id in texts:
            size += int(size * _ROOM)
        return Found(400, 0 if buffer is None else _key(buffer.address), size)

    return read


def _arrow_chunks(_: type) -> Reader:
    texts = _texts_of_arrow()

    def read(obj: Any) -> Found:
        size = obj.get_total_buffer_size()
        if obj.type.id in texts:
            size += int(size * _ROOM)
        return Found(400, _address_of_chunks(obj), size)

    return read


def _arrow_batch(_: type) -> Reader:
    texts = _texts_of_arrow()

    def read(obj: Any) -> Found:
        size, key = obj.get_total_buffer_size(), 0
        if obj.num_columns and size:
            buffer = obj.column(0).buffers()[-1]
            key = 0 if buffer is None else _key(buffer.address) - 2
        return Found(500, key, size + _room_for_texts(obj, texts))

    return read


def _arrow_table(_: type) -> Reader:
    texts = _texts_of_arrow()

    def read(obj: Any) -> Found:
        size, key = obj.get_total_buffer_size(), 0
        if obj.num_columns and size:
            key = _address_of_chunks(obj.column(0))
        return Found(600, key and key - 2, size + _room_for_texts(obj, texts))

    return read


def _room_for_texts(columns: Any, texts: frozenset[int]) -> int:
    return sum(
        int(columns.column(number).get_total_buffer_size() * _ROOM)
        for number, kind in enumerate(columns.schema.types)
        if kind.id in texts
    )


def _address_of_chunks(chunks: Any) -> int:
    """Return the key of the first chunk that has data."""
    for number in range(min(chunks.num_chunks, 4)):
        buffer = chunks.chunk(number).buffers()[-1]
        if buffer is not None:
            return _key(buffer.address) - 1
    return 0


def _arrow_buffer(_: type) -> Reader:
    """The buffer that owns the memory, of which a slice is a part."""

    def read(obj: Any) -> Found:
        owner = obj
        while (parent := owner.parent) is not None:
            owner = parent
        return Found(120, _key(owner.address), owner.size)

    return read


def _hash_table(_: type) -> Reader:
    """Of a pandas index: built when something is first looked up in it."""
    return lambda table: Found(type(table).sizeof(table))


def _tag(_: type) -> Reader:
    """An element of a parsed page: what is below it, not the page that it refers back to."""

    def read(tag: Any) -> Found:
        how = SURE if tag.parent is None else ESTIMATED
        return Found(-1, below=(tag.contents, tag.attrs, tag.name), how=how)

    return read


def _text_of_page(_: type) -> Reader:
    def read(text: Any) -> Found:
        return Found(-1, how=SURE if text.parent is None else ESTIMATED)

    return read


def _view(kind: Any) -> Reader:
    """What it is a view of, all of which it keeps."""
    sizeof = kind.__sizeof__

    def read(view: Any) -> Found:
        own = sizeof(view) + _GC_HEADER
        try:
            owner = view.obj
        except ValueError:  # released
            return Found(own)
        base = type(owner)
        if base is bytes or base is bytearray:
            return Found(own, id(owner), sys.getsizeof(owner))
        if owner is None or not (is_weighed(owner) or is_of_python(base)):
            return Found(own + view.nbytes, how=ESTIMATED)  # at least what it shows
        return Found(own, below=(owner,))

    return read


def _bytes_io(kind: Any) -> Reader:
    sizeof, header = kind.__sizeof__, int(BASICSIZE(kind))

    def read(buffer: Any) -> Found:
        size = sizeof(buffer)  # first: a list of what it refers to would make its bytes shared
        below = gc.get_referents(buffer)
        if below and size > header:  # its bytes, which some versions show, are counted
            below = [child for child in below if type(child) is not bytes]
        return Found(size + _GC_HEADER, below=tuple(below))

    return read


def _map(kind: type) -> Reader:
    """
    Anonymous memory in full; of a file nothing, for the kernel takes those pages by itself.

    From 3.15 on anonymous memory has a size, as has a whole file: such a map may be either.
    """
    header = int(BASICSIZE(kind))

    def read(obj: Any) -> Found:
        try:
            size = mmap.mmap.size(obj)
        except OSError:  # there is no file
            return Found(header + mmap.mmap.__len__(obj))
        except ValueError:  # closed, or one that did not keep its file
            return Found(header)
        if sys.version_info >= (3, 15) and size == mmap.mmap.__len__(obj):
            return Found(header, how=OPAQUE)
        return Found(header)

    return read


_MAKERS: dict[tuple[str, str], Callable[[Any], Reader]] = {
    ("numpy", "ndarray"): _array,
    ("numpy", "dtype"): _nothing,
    ("torch", "Tensor"): _tensor,
    ("torch.nn.parameter", "Parameter"): _tensor,
    ("torch", "UntypedStorage"): _storage,
    ("torch.storage", "UntypedStorage"): _storage,
    ("torch", "device"): _leaf,
    ("torch", "dtype"): _nothing,
    ("torch", "layout"): _nothing,
    ("torch", "memory_format"): _nothing,
    ("polars.dataframe.frame", "DataFrame"): _frame,
    ("polars.series.series", "Series"): _series,
    ("pyarrow.lib", "Buffer"): _arrow_buffer,
    ("pyarrow.lib", "Array"): _arrow_array,
    ("pyarrow.lib", "ChunkedArray"): _arrow_chunks,
    ("pyarrow.lib", "RecordBatch"): _arrow_batch,
    ("pyarrow.lib", "Table"): _arrow_table,
    ("pyarrow.lib", "DataType"): _nothing,
    ("pyarrow.lib", "Schema"): _nothing,
    ("PIL.Image", "Image"): _image,
    ("pandas._libs.hashtable", "HashTable"): _hash_table,
    ("pandas._libs.internals", "BlockValuesRefs"): _leaf,
    ("bs4.element", "Tag"): _tag,
    ("bs4.element", "NavigableString"): _text_of_page,
    ("sqlalchemy.orm.state", "InstanceState"): _leaf,
    ("sqlalchemy.orm.session", "Session"): _nothing,
    ("sqlalchemy.engine.base", "Engine"): _nothing,
    ("sqlalchemy.orm.mapper", "Mapper"): _nothing,
    ("logging", "Logger"): _nothing,
    ("mmap", "mmap"): _map,
    ("_io", "BytesIO"): _bytes_io,
}
"""Readers by the module and the name of a type."""

_WITHOUT_MODULE = {("ImagingCore", "PIL._imaging"): _pixels}
"""Types whose authors gave them no module, with the module that makes them."""

_TRANSPARENT = ("pandas._libs.",)
"""Modules whose objects own nothing but what the collector sees below them."""
_NOT_TRANSPARENT = ("pandas._libs.parsers", "pandas._libs.hashtable", "pandas._libs.window")

_FOREIGN_RULES = ("__torch_function__", "__torch_dispatch__")


class Traits:
    """What there is to know about a type, found once."""

    __slots__ = ("is_known", "kind", "read", "sizeof")

    def __init__(self, kind: type, read: Reader | None) -> None:
        self.kind = weakref.ref(kind)
        self.read = read
        self.is_known: bool | None = None
        self.sizeof: Any = None
        """What is found by `alone`, or None before."""


_MOST_TRAITS = 4096
_traits: dict[int, Traits] = {}
"""By the id of a type, which is asked for before it is believed: a type may die."""


def traits_of(kind: type) -> Traits:
    """Return what is known about *kind*. Thread-safe: at worst two threads find it out."""
    traits = _traits.get(id(kind))
    if traits is not None and traits.kind() is kind:
        return traits
    traits = Traits(kind, _find(kind))
    if len(_traits) >= _MOST_TRAITS:
        _traits.clear()
    _traits[id(kind)] = traits
    return traits


def reader_of(kind: type) -> Reader | None:
    """Return what reads an instance of *kind*, or None where no library is known for it."""
    return traits_of(kind).read


def _find(kind: type) -> Reader | None:
    """Return the reader of the first base that is listed, if what is above it says the same."""
    between: list[type] = []
    for base in MRO(kind):
        if base is object:
            return None
        make = _maker_of(base)
        if make is not None:
            return _read_with(make, base, kind, between)
        between.append(base)
    return None


def _maker_of(kind: type) -> Callable[[Any], Reader] | None:
    module, name = module_of(kind), qualname_of(kind)
    if kind is memoryview:
        return _view
    if module == "builtins":
        for (named, made_in), make in _WITHOUT_MODULE.items():
            if named == name and made_in in sys.modules:
                return make
        return None
    listed = _MAKERS.get((module, name))
    return listed if listed is not None and type_in(module, name) is kind else None


def _read_with(
    make: Callable[[Any], Reader], base: type, kind: type, between: list[type]
) -> Reader | None:
    package = package_of(base)
    for above in between:
        # Written in C by somebody else, it may own anything.
        if is_written_in_c(above) and package_of(above) != package:
            return None
        if any(rule in DICT(above) for rule in _FOREIGN_RULES) and package == "torch":
            return None
    try:
        read = make(base)
    except Exception:  # noqa: BLE001 - reason: a library of another version than we know
        return None
    # A masked array has its mask there.
    if any(package_of(above) != package or package == "numpy" for above in between):
        return _with_attributes(read, kind)
    return read


def _with_attributes(read: Reader, kind: type) -> Reader:
    def read_all(obj: Any) -> Found:
        found = read(obj)
        return found._replace(below=(*found.below, *_attributes(obj, kind)))

    return read_all


def _attributes(obj: Any, kind: type) -> list[Any]:
    return [child for child in gc.get_referents(obj) if child is not kind]


def read(obj: Any, reader: Reader) -> Found | None:
    """Return what *reader* finds; None where its library refuses, as for a closed or fake one."""
    try:
        return reader(obj)
    except Exception:  # noqa: BLE001 - reason: the library's code; the value is opaque then
        return None


def is_transparent(kind: type) -> bool:
    """Return True for a C type that owns nothing but what the collector sees."""
    module = module_of(kind)
    return module.startswith(_TRANSPARENT) and not module.startswith(_NOT_TRANSPARENT)


def is_weighed(obj: Any) -> bool:
    """Return True for what can own the data of a view, and is weighed as such."""
    kind = type(obj)
    if kind is bytes or kind is bytearray or kind is memoryview or kind is mmap.mmap:
        return True
    return reader_of(kind) is not None
