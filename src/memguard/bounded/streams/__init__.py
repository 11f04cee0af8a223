"""
Streams: page by page, batch by batch, line by line, and never all of it in memory.

Functions over iterators, for threads and for asyncio; they keep what one step needs and no more.
"""

from memguard import lazy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from memguard.bounded.streams.batches import ain_batches as ain_batches
    from memguard.bounded.streams.batches import in_batches as in_batches
    from memguard.bounded.streams.lines import astream_lines as astream_lines
    from memguard.bounded.streams.lines import stream_lines as stream_lines
    from memguard.bounded.streams.pages import apaginate as apaginate
    from memguard.bounded.streams.pages import apaginate_after as apaginate_after
    from memguard.bounded.streams.pages import paginate as paginate
    from memguard.bounded.streams.pages import paginate_after as paginate_after
    from memguard.bounded.streams.stages import apipeline as apipeline
    from memguard.bounded.streams.stages import pipeline as pipeline
else:
    __getattr__, __dir__ = lazy.exports(
        __name__,
        {
            "memguard.bounded.streams.batches": "ain_batches in_batches",
            "memguard.bounded.streams.lines": "astream_lines stream_lines",
            "memguard.bounded.streams.pages": "apaginate apaginate_after paginate paginate_after",
            "memguard.bounded.streams.stages": "apipeline pipeline",
        },
    )
