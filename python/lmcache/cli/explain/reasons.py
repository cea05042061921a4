# SPDX-License-Identifier: Apache-2.0
"""The reason why a request got what it got, in a word for programs, a sentence, and what helps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from lmcache.cli.node import ago, gigabytes

# In the order in which they are listed in docs/cli.md.
CODES = {
    "whole": "all that can be reused was there",
    "engine_had_it": "vLLM's own prefix cache had all of it",
    "new": "no stored prompt began like it",
    "differs": "the prompt goes on differently from what was stored",
    "other_namespace": "the same beginning was there in another namespace",
    "not_stored": "a request with the same beginning came before, but was not stored",
    "evicted": "evicted to make room",
    "expired": "older than ttl",
    "cleared": "cleared",
    "writing": "still being stored",
    "coming": "still on its way from a lower tier",
    "too_late": "stored a moment after the look-up",
    "too_slow": "in a lower tier, but computing is faster",
    "gave_up": "waited for a lower tier in vain",
    "too_short": "shorter than a chunk",
    "too_few": "fewer tokens than min_retrieve_tokens",
    "busy": "a lock was not free in time",
    "load_failed": "found, but the load failed",
    "skipped": "the request does not read the cache",
    "not_cacheable": "the request cannot be cached",
    "paused": "loads had failed, look-ups paused",
    "not_ready": "the engine was not ready to look up",
    "off": "the engine goes on without the cache",
}

_ADVICE = {
    "differs": "what changes (dates, ids, names) belongs near the end of the prompt",
    "not_stored": "requests at the same time share nothing; else `not stored` in `lmcache status`",
    "expired": "raise or remove `ttl`",
    "too_slow": "a faster disk or network; `load_policy: always` loads in any case",
    "gave_up": "`lmcache status` shows the measured speed, `lmcache bench disk` what is possible",
    "too_short": "`save_unfull_chunk: true`, or a smaller `chunk_size`",
    "too_few": "lower `min_retrieve_tokens`",
    "load_failed": "`lmcache status` counts why; the log of the worker has the first of them",
    "paused": "the log of the engine says what failed",
    "off": "the log of the engine says more; it needs a restart",
}


@dataclass(frozen=True)
class Reason:
    """Why, and what helps; `advice` may be empty."""

    code: str
    text: str
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        """Return it for `--json`."""
        return asdict(self)


def reason_of(code: str, text: str, advice: str = "") -> Reason:
    """Return a reason with the advice that goes with its code, unless there is a better one."""
    return Reason(code, text, advice or _ADVICE.get(code, ""))


_NOT_ASKED = ("off", "not_cacheable", "not_ready", "skipped", "paused", "load_failed")


def request_reason(
    trace: Mapping[str, Any],
    chunk_tokens: int,
    capacity_bytes: int,
    if_nothing: Callable[[], Reason],
) -> Reason:
    """Say why a request got what it got.

    `if_nothing` is asked where not even the first tokens were there, and nothing says why.
    """
    outcome = trace["outcome"]
    if outcome in _NOT_ASKED:
        return reason_of(outcome, f"{CODES[outcome]}: {trace['note']}")
    limit, found = trace["limit_tokens"], min(trace["found_tokens"], trace["limit_tokens"])
    if trace["computed_tokens"] >= limit:
        return reason_of("engine_had_it", CODES["engine_had_it"])
    if outcome == "too_few":
        new = found - trace["computed_tokens"]
        return reason_of("too_few", f"only {new} tokens were found: {trace['note']}")
    if found >= limit or trace["missing_place"] == "none":
        return reason_of("whole", CODES["whole"])
    where = chunk_name(found, chunk_tokens)
    return (
        _by_place(trace, where)
        or removal_reason(trace, where, trace["unix_s"], capacity_bytes)
        or _never_there(trace, found, limit, chunk_tokens, where, if_nothing)
    )


def chunk_name(found_tokens: int, chunk_tokens: int) -> str:
    """Name the first chunk that was not found."""
    if not chunk_tokens:
        return f"what follows token {found_tokens}"
    chunk = found_tokens // chunk_tokens
    first = chunk * chunk_tokens
    return f"chunk {chunk} (tokens {first} to {first + chunk_tokens - 1})"


def removal_reason(
    record: Mapping[str, Any], where: str, now_s: float, capacity_bytes: int
) -> Reason | None:
    """Return why a chunk is gone; None if it is not known to have been there."""
    removal = record["removal"]
    if not removal:
        return None
    when = ago(now_s - record["removed_unix_s"]) + " before"
    if removal == "expired":
        return reason_of("expired", f"{where} had expired {when}")
    if removal == "cleared":
        return reason_of(
            "cleared", f"{where} had been cleared {when}, by `lmcache clear` or a reset"
        )
    lower = "; the disk had it then" if removal == "evicted_to_disk" else ""
    return reason_of(
        "evicted",
        f"{where} had been evicted {when} to make room{lower}",
        f"raise `max_local_cpu_size` (the segment has {gigabytes(capacity_bytes)}), or add a disk",
    )


def _by_place(trace: Mapping[str, Any], where: str) -> Reason | None:
    place = trace["missing_place"]
    if place == "writing":
        return reason_of("writing", f"{where} was being stored at that moment, by another request")
    if place == "coming":
        return reason_of("coming", f"{where} was on its way from a lower tier, for another request")
    if place == "ready":
        return reason_of("too_late", f"{where} was stored a moment after the look-up")
    if place == "unknown":
        return reason_of("busy", f"{where}: a lock of the index was not free within 50 ms")
    if place in ("disk", "remote"):
        tier = "disk" if place == "disk" else "the remote store"
        if trace["wait_us"]:
            waited = f"{trace['wait_us'] / 1000:.0f} ms"
            return reason_of(
                "gave_up", f"{where} lies on {tier}: after {waited} computing it was faster"
            )
        return reason_of(
            "too_slow", f"{where} lies on {tier}: computing it was faster than loading"
        )
    return None


def _never_there(
    trace: Mapping[str, Any],
    found: int,
    limit: int,
    chunk_tokens: int,
    where: str,
    if_nothing: Callable[[], Reason],
) -> Reason:
    if trace["whole_chunks_only"] and limit - found < chunk_tokens and found % chunk_tokens == 0:
        return reason_of(
            "too_short",
            f"what follows token {found} is shorter than a chunk of {chunk_tokens} tokens, and "
            "only whole ones are kept",
        )
    if found:
        return reason_of(
            "differs",
            f"the first {found} tokens were there; from token {found} on, in {where}, no stored "
            "prompt goes on like this one",
        )
    return if_nothing()
