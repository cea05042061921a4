# SPDX-License-Identifier: Apache-2.0
"""The name somebody probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# Below this a suggestion is a guess: "chunksize" scores 0.95 against "chunk_size", "port" 0.4
# against "ttl".
_LIKENESS = 0.7


def near_miss(written: str, known: Iterable[str], likeness: float = _LIKENESS) -> str:
    """Return `; did you mean "x"?` for the closest known name, or nothing if none is close."""
    by_lower_case = {name.lower(): name for name in known}
    plain = written.lower().replace("-", "_")
    found = difflib.get_close_matches(plain, by_lower_case, n=1, cutoff=likeness)
    return f'; did you mean "{by_lower_case[found[0]]}"?' if found else ""
