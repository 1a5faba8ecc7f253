"""How often the garbage collector looks through all there is: it holds everybody up meanwhile."""

from __future__ import annotations

import gc

# A thousand connections are 170,000 objects, and a look through those of five thousand takes 0.3 s. By the defaults
# (700, 10, 10) there are a dozen such looks while they connect. Objects that are let go are freed without one, all but
# those in cycles, some 35 of a closed connection: there is a look after two million more objects than were let go.
THRESHOLDS = (5_000, 10, 40)


def settle() -> None:
    """What is loaded by now stays, and is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
