# SPDX-License-Identifier: Apache-2.0
"""The latest requests of a segment, each with the reason for what it got."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lmcache import _native
from lmcache.cli.explain.reasons import Reason, reason_of, request_reason
from lmcache.cli.explain.spaces import Space, differences, spaces_of, tell_differences
from lmcache.cli.node import ago

# What a trace has that is of no use outside.
_INTERNAL = ("opening", "missing_key", "namespace_incarnation", "whole_chunks_only")


@dataclass(frozen=True)
class Explained:
    """A request and the reason for what it got."""

    trace: Mapping[str, Any]
    space: Space | None  # None: it had none, or the segment has given its number to another
    reason: Reason

    @property
    def lost_tokens(self) -> int:
        """Tokens that could have come from the cache and had to be computed."""
        have = max(int(self.trace["computed_tokens"]), _end(self.trace))
        return max(0, int(self.trace["limit_tokens"]) - have)

    def as_dict(self) -> dict[str, Any]:
        """Return it for `--json`."""
        return {
            **{name: value for name, value in self.trace.items() if name not in _INTERNAL},
            "model": self.space.model if self.space else None,
            "made_of": dict(self.space.made_of) if self.space else None,
            "reason": self.reason.as_dict(),
        }


class RequestHistory:
    """What a segment knows of its latest requests."""

    def __init__(self, path: str, status: Mapping[str, Any]) -> None:
        self.path = path
        self.spaces = spaces_of(status)
        self._capacity_bytes = int(status["capacity_bytes"])
        self._traces = _native.read_requests(path)  # latest first

    def __len__(self) -> int:
        return len(self._traces)

    def latest(self, count: int) -> list[Explained]:
        """Return the latest requests, latest first."""
        return [self._explain(trace) for trace in self._traces[:count]]

    def named(self, request_id: str) -> list[Explained]:
        """Return a request by its name, latest admission first.

        vLLM appends to the name that its caller knows: `cmpl-1` is `cmpl-1-0-89abcdef` inside.
        """
        exact = [trace for trace in self._traces if trace["request_id"] == request_id]
        longer = [
            trace for trace in self._traces if trace["request_id"].startswith(f"{request_id}-")
        ]
        return [self._explain(trace) for trace in exact or longer]

    def space_of(self, trace: Mapping[str, Any]) -> Space | None:
        """Return the namespace of a request, if the segment still has it."""
        space = self.spaces.get(trace["namespace_id"])
        known = space is not None and space.incarnation == trace["namespace_incarnation"]
        return space if known else None

    def latest_space(self) -> Space | None:
        """Return the namespace of the latest request that has one."""
        return next(filter(None, map(self.space_of, self._traces)), None)

    def _explain(self, trace: Mapping[str, Any]) -> Explained:
        space = self.space_of(trace)
        chunk_tokens = space.chunk_tokens if space else 0
        reason = request_reason(
            trace, chunk_tokens, self._capacity_bytes, lambda: self._nothing(trace, space)
        )
        return Explained(trace, space, reason)

    def _nothing(self, trace: Mapping[str, Any], space: Space | None) -> Reason:
        """Say why not even the beginning of a prompt was there."""
        alike = [
            other
            for other in self._traces
            if other["number"] < trace["number"]
            and other["opening"] == trace["opening"]
            and other["request_id"] != trace["request_id"]
        ]
        own = next((other for other in alike if _same_space(other, trace)), None)
        if own is not None:
            return reason_of(
                "not_stored",
                f"{_named(own, trace)} began with the same tokens, but was not stored yet",
            )
        for other in alike:
            theirs = self.space_of(other)
            if space is not None and theirs is not None:
                return _elsewhere(
                    space, theirs, f"{_named(other, trace)} began with the same tokens"
                )
        if space is not None:
            for number in _native.find_opening(self.path, trace["opening"]):
                if number != space.id and number in self.spaces:
                    theirs = self.spaces[number]
                    return _elsewhere(space, theirs, "a stored prompt begins with the same tokens")
        return reason_of(
            "new",
            f"no prompt that begins like this was stored, nor asked for in the {len(self._traces)} "
            "requests that are remembered: its first tokens are new",
        )


def summary(explained: Iterable[Explained]) -> dict[str, Any]:
    """Return what some requests came to together, and the reasons by the tokens they cost."""
    requests: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    asked = loaded = 0
    for one in explained:
        requests[one.reason.code] += 1
        lost[one.reason.code] += one.lost_tokens
        asked += max(0, one.trace["limit_tokens"] - one.trace["computed_tokens"])
        loaded += one.trace["loaded_tokens"]
    reasons = [
        {"code": code, "requests": count, "lost_tokens": lost[code]}
        for code, count in sorted(requests.items(), key=lambda item: (-lost[item[0]], -item[1]))
    ]
    return {
        "requests": requests.total(),
        "asked_tokens": asked,
        "loaded_tokens": loaded,
        "hit_rate": loaded / asked if asked else 0.0,
        "reasons": reasons,
    }


def _elsewhere(ours: Space, theirs: Space, what: str) -> Reason:
    return reason_of(
        "other_namespace",
        f"{what}, but in another namespace, which differs in: "
        f"{tell_differences(differences(ours, theirs))}",
        "KV is shared only where all of this is equal",
    )


def _end(trace: Mapping[str, Any]) -> int:
    """Up to which token a request had something loaded."""
    loaded = int(trace["loaded_tokens"])
    return int(trace["computed_tokens"]) + loaded if loaded else 0


def _same_space(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    names = ("namespace_id", "namespace_incarnation")
    return all(one[name] == other[name] for name in names)


def _named(other: Mapping[str, Any], trace: Mapping[str, Any]) -> str:
    return f"request {other['request_id']}, {ago(trace['unix_s'] - other['unix_s'])} before,"
