"""How often the garbage collector looks through all there is: it holds everybody up meanwhile."""

from __future__ import annotations

import gc

# A thousand connections are 200,000 objects, and a look through these takes 60 ms. By the defaults (700, 10, 10) there
# are a dozen such looks while 5,000 connect. Objects that are let go are freed without it, all but those in cycles: of
# those a million, about 100 MB, may wait.
THRESHOLDS = (5_000, 10, 20)


def settle() -> None:
    """What is loaded by now stays, and is never looked at again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
