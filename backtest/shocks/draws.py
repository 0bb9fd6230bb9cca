"""Random draws of a path as a function of what they are for: the same whoever draws it, and whatever else is drawn.

As ``replay.competition.draws``: Philox (Salmon et al., SC 2011) under a key of the seed and the name of what is drawn,
its counter at the path.
"""

from __future__ import annotations

from zlib import crc32

import numpy as np


def stream(seed: int, what: str, path: int) -> np.random.Generator:
    """The draws of one path for one purpose."""
    key = np.array([seed, crc32(what.encode())], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, 0, path]))
