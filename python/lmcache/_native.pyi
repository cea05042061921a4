# SPDX-License-Identifier: Apache-2.0
# Made by tests/support/native_stub.py. Change the bindings, not this file.
"""
The native library of lmcache. Use the classes of the package lmcache instead.
"""

from __future__ import annotations

import collections.abc
import typing

import typing_extensions

__all__: list[str] = [
    "DiskVolume",
    "Engine",
    "EngineOptions",
    "Fetch",
    "Hit",
    "KvGeometry",
    "KvGroup",
    "Namespace",
    "NamespaceSpec",
    "Prompt",
    "RemoteCall",
    "RemoteCalls",
    "RemoteStore",
    "clear_segment",
    "explain_prompt",
    "find_opening",
    "inspect_segment",
    "list_disk_directories",
    "list_segments",
    "measure_gpu",
    "raw_transfer",
    "read_requests",
    "remove_disk_directory",
    "remove_segment",
    "request_outcomes",
    "segment_path",
    "uring_refusal",
]

class KvGroup:
    """
    Layers that share a block table.
    """
    def __init__(
        self,
        block_tokens: int,
        plane_bytes: collections.abc.Sequence[int],
        window_tokens: int = 0,
        layer_names: collections.abc.Sequence[str] = [],
    ) -> None:
        """
        plane_bytes: bytes of one block's page, per plane; window_tokens: 0 = full attention.
        """
    @property
    def block_tokens(self) -> int: ...
    @property
    def layer_names(self) -> list[str]: ...
    @property
    def plane_bytes(self) -> list[int]: ...
    @property
    def window_tokens(self) -> int: ...

class KvGeometry:
    """
    What a KV cache is made of: declared, never guessed.
    """
    def __init__(
        self, dtype: str, layout: str, groups: collections.abc.Sequence[KvGroup], details: str = ""
    ) -> None: ...
    def describe(self) -> str: ...
    @property
    def details(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    @property
    def groups(self) -> list[KvGroup]: ...
    @property
    def layout(self) -> str: ...

class NamespaceSpec:
    """
    What makes KV interchangeable or not; see lmcache/key/namespace_spec.hpp.
    """
    def __init__(
        self,
        model: str,
        revision: str,
        geometry: KvGeometry,
        chunk_tokens: int,
        world_size: int = 1,
        lora: str = "",
        salt: str = "",
        extra: str = "",
    ) -> None: ...
    def root(self) -> bytes:
        """
        32 bytes: what every chain of keys of the namespace begins with.
        """

class Prompt:
    """
    Token ids of one request and the keys of their chunks, each token hashed once.
    """
    def __init__(self, root: bytes, chunk_tokens: int) -> None: ...
    def add_item(self, offset: int, length: int, item_hash: bytes) -> None:
        """
        A multimodal item over tokens [offset, offset + length), before these are appended.
        """
    def append(self, tokens: typing.Any) -> None:
        """
        Appends ids: a sequence of int or a 1-D integer array.
        """
    def key(self, chunk: int) -> bytes: ...
    def tail_key(self, chunk: int, end_token: int) -> bytes: ...
    @property
    def chunk_count(self) -> int: ...
    @property
    def chunk_tokens(self) -> int: ...
    @property
    def token_count(self) -> int: ...

class _CallBuffer:
    pass

class _LentBuffer:
    pass

class RemoteCall:
    """
    A call to carry out; delivered when it was answered and no view of its buffers is left.
    One that goes without an answer has failed.
    """
    def answer(self, numbers: collections.abc.Sequence[int]) -> None:
        """
        Bytes per key of exists and get_into, 0 or 1 per key of put, one number of remove and
        clear, none of ping.
        """
    def answer_describe(
        self, *, server: str, role: str, used_bytes: int, limit_bytes: int, chunks: int
    ) -> None: ...
    def buffers(self) -> list[list[memoryview]]:
        """
        New views, per key: one to be written of get_into; two of put, one after the other.
        """
    def fail(self, text: str) -> None:
        """
        One line that says why.
        """
    @property
    def delivered(self) -> bool: ...
    @property
    def keys(self) -> list[str]:
        """
        64 hexadecimal digits each.
        """
    @property
    def op(self) -> str:
        """
        exists, get_into, put, remove, clear, describe or ping.
        """
    @property
    def ttl_seconds(self) -> int: ...

class RemoteCalls:
    """
    Calls of one engine, or one RemoteStore, to its remote store.
    """
    def __init__(self, name: str) -> None:
        """
        name: for messages, without a password.
        """
    def close(self) -> None: ...
    def lend_headers(self) -> memoryview:
        """
        The memory that the first buffer of every put lies in.
        """
    def take(self) -> RemoteCall | None:
        """
        The next call; blocks. None: closed.
        """
    @property
    def closed(self) -> bool: ...
    @property
    def name(self) -> str: ...

class EngineOptions:
    """
    See lmcache/engine/engine_options.hpp.
    """
    def __init__(
        self,
        *,
        segment: str = "private",
        capacity_bytes: int,
        keep: bool = False,
        chunk_bytes_hint: int = 0,
        role: str = "engine",
        instance_id: str = "",
        copy_threads: int = 0,
        ttl_seconds: int = 0,
        eviction: str = "lru",
        directory: str = "/dev/shm",
        max_entries: int = 0,
        disk_folders: collections.abc.Sequence[str] = [],
        disk_bytes: int = 0,
        disk_io: str = "auto",
        disk_durability: str = "none",
        write_behind_bytes: int = 268435456,
        disk_bytes_per_second: int = 0,
        disk_memory_folder: str = "/dev/shm",
        always_fetch: bool = False,
        remote_url: str = "",
        remote_user: str = "",
        remote_password: str = "",
        remote_serde: str = "msgpack",
        remote_connections: int = 4,
        remote_lookup_timeout_ms: int = 200,
        remote_timeout_ms: int = 10000,
        remote_lookup_kept_ms: int = 5000,
        remote_calls: RemoteCalls | None = None,
        device_pool_bytes: int = 0,
    ) -> None: ...

class Namespace:
    """
    A namespace that an engine has open.
    """
    @property
    def chunk_tokens(self) -> int: ...
    @property
    def id(self) -> int: ...
    @property
    def lanes(self) -> int: ...
    @property
    def root(self) -> bytes: ...

class Hit:
    """
    A lease on the chunks of a prefix; ends by release() or with the object.
    """
    def __enter__(self) -> Hit: ...
    def __exit__(self, *args: object) -> None: ...
    def refs(self, lane: int) -> list[int]: ...
    def release(self) -> None: ...
    @property
    def chunk_count(self) -> int: ...
    @property
    def prefix_tokens(self) -> int: ...

class Fetch:
    """
    A prefix on its way from disk into memory; what arrived stays leased until release().
    """
    def done(self) -> bool: ...
    def release(self) -> None: ...
    def wait(self, timeout_ms: int) -> bool:
        """
        True when done, False at the deadline.
        """
    @property
    def prefix_tokens(self) -> int: ...

class Engine:
    """
    One process's view of a node's cache; see lmcache/engine/engine.hpp.
    """
    @staticmethod
    def open(options: EngineOptions, log: collections.abc.Callable[[int, str], None]) -> Engine:
        """
        log(level, text): the numbers of the module logging.
        """
    def cancel(self, refs: collections.abc.Sequence[int]) -> None: ...
    def cancel_job(self, job: int) -> None:
        """
        Drops what has not begun; afterwards no thread touches the view for this job.
        """
    def clear(self, namespace: Namespace | None = None) -> int: ...
    def close(self) -> None: ...
    def count_prefill(self, tokens: int, elapsed_ns: int) -> None:
        """
        Prompt tokens that were computed, and what that took.
        """
    def count_request(self, prompt_tokens: int, hit_tokens: int, load_ns: int) -> None:
        """
        A request that was answered; load_ns: what it waited for its hit.
        """
    def declare_lane(self, namespace: Namespace, lane: int, block_bytes: int) -> None: ...
    def drain(self, timeout_ms: int) -> bool:
        """
        Waits until what was stored is on disk; False at the deadline.
        """
    def fetch(
        self,
        namespace: Namespace,
        prompt: Prompt,
        hit_tokens: int,
        limit_tokens: int = -1,
        computed_tokens: int = 0,
    ) -> Fetch | None:
        """
        Brings what follows a hit from disk; None: nothing is there, or computing it is faster.
        """
    def finish(self, job: int) -> list[int]:
        """
        Forgets a job that is done; returns the indices of the items that failed.
        """
    def is_ready(self, ref: int) -> bool: ...
    def lane_block_bytes(self, namespace: Namespace) -> list[int]: ...
    def lend_memory(self) -> memoryview | None:
        """
        The memory that all slots lie in, for whoever serves `remote_calls`; None without them.
        Let go of it before they are closed: `close()` waits 5 s for that.
        """
    def lookup(self, namespace: Namespace, prompt: Prompt, limit_tokens: int = -1) -> Hit: ...
    def new_prompt(self, namespace: Namespace) -> Prompt: ...
    def open_namespace(self, spec: NamespaceSpec) -> Namespace: ...
    def poll(self, job: int) -> bool: ...
    def reach(
        self, namespace: Namespace, prompt: Prompt, hit_tokens: int, limit_tokens: int = -1
    ) -> int:
        """
        How far a prefix reaches with what a fetch would bring.
        """
    def register_view(
        self,
        planes: collections.abc.Sequence[tuple[int, int, int]],
        num_blocks: int,
        group_block_tokens: int,
        cuda_device: int | None = None,
    ) -> int:
        """
        planes: (address, block stride in bytes, page bytes). The memory must outlive the view.
        cuda_device: whose memory it is, None: the host's. The first view of a device starts CUDA.
        """
    def reserve(
        self, namespace: Namespace, prompt: Prompt, first_chunk: int, end_token: int
    ) -> list[list[int]]: ...
    def stats(self) -> dict[str, int]: ...
    def stats_total(self) -> int:
        """
        All of stats() added up: while it stays, none of them grew. A hundredth of the time.
        """
    def status(self) -> dict[str, typing.Any]: ...
    def stream_wait_plane(self, job: int, plane: int, stream: int, timeout_ms: int) -> bool:
        """
        Makes a CUDA stream wait, on the device, for planes 0..plane. False: it does not, since
        the copies were not on their way at the deadline, or never will be.
        """
    def submit_load(
        self,
        view: int,
        items: collections.abc.Sequence[tuple[int, int, collections.abc.Sequence[int]]],
        stream: int | None = None,
    ) -> int:
        """
        items: (ref, first block inside the chunk, destination block ids). stream: as of a store.
        """
    def submit_store(
        self,
        view: int,
        items: collections.abc.Sequence[tuple[int, collections.abc.Sequence[int]]],
        stream: int | None = None,
    ) -> int:
        """
        items: (ref, block ids that hold the chunk). Never blocks on the copy.
        stream: the copies wait for what is on this CUDA stream by now; 0: the default one.
        """
    def trace_request(
        self,
        request_id: str,
        outcome: str,
        namespace: Namespace | None,
        prompt: Prompt | None,
        counts: typing.Annotated[collections.abc.Sequence[int], "FixedSize(7)"],
        preemptions: int = 0,
        whole_chunks_only: bool = False,
        note: str = "",
    ) -> None:
        """
        Writes down what came of a request, for `lmcache explain`. counts: tokens of the prompt,
        asked for at most, computed by the serving engine, found in memory, found at last, loaded;
        microseconds waited.
        """
    def unregister_view(self, view: int) -> None: ...
    def wait(self, job: int, timeout_ms: int) -> bool:
        """
        True when done, False at the deadline.
        """
    def wait_plane(self, job: int, plane: int, timeout_ms: int) -> bool:
        """
        True when planes 0..plane have arrived.
        """
    @property
    def closed(self) -> bool: ...
    @property
    def has_lower_tier(self) -> bool: ...

class DiskVolume:
    """
    A disk cache without an engine.
    """
    @staticmethod
    def open(
        folders: collections.abc.Sequence[str],
        log: collections.abc.Callable[[int, str], None],
        *,
        limit_bytes: int = 0,
        io: str = "auto",
        durability: str = "none",
        memory_folder: str = "/dev/shm",
        depth_bytes: int = 0,
        existing_only: bool = True,
    ) -> DiskVolume: ...
    def clear(self) -> int: ...
    def find(self, keys: bytes) -> int:
        """
        How many of the chunks are there.
        """
    def memory_alignment(self) -> int: ...
    def read(self, keys: bytes, memory: typing_extensions.Buffer, slot_bytes: int) -> int:
        """
        Returns how many arrived and are right.
        """
    def scrub(
        self, progress: collections.abc.Callable[[int, int, int], bool]
    ) -> dict[str, typing.Any]:
        """
        Reads and checks all; progress(chunks so far, of how many, bytes): whether to go on.
        """
    def status(self) -> dict[str, typing.Any]: ...
    def write(
        self, keys: bytes, memory: typing_extensions.Buffer, slot_bytes: int, payload_bytes: int
    ) -> int:
        """
        A chunk per key (32 bytes each) out of slots, whose first 256 bytes become its header.
        """

class RemoteStore:
    """
    A remote store without an engine.
    """
    @staticmethod
    def open(
        url: str,
        log: collections.abc.Callable[[int, str], None],
        *,
        serde: str = "msgpack",
        connections: int = 4,
        timeout_ms: int = 10000,
        user: str = "",
        password: str = "",
        overwrites: bool = False,
        transfer_timeout_ms: int = 0,
        ttl_seconds: int = 0,
        calls: RemoteCalls | None = None,
    ) -> RemoteStore:
        """
        calls: instead of `url`, `serde`, `user` and `password`; closed with the store.
        transfer_timeout_ms: of write and read; 0 = timeout_ms.
        """
    @staticmethod
    def sum(memory: typing_extensions.Buffer, slot_bytes: int) -> int:
        """
        Reads slots as their checksums do, on this thread; to be timed. All of them, xor.
        """
    def clear(self) -> int:
        """
        Removes all chunks of ours; returns how many.
        """
    def find(self, keys: bytes) -> int:
        """
        How many of the chunks (32 bytes each key) are there, by one round trip.
        """
    def ping(self) -> int:
        """
        Nanoseconds of a round trip.
        """
    def read(self, keys: bytes, memory: typing_extensions.Buffer, slot_bytes: int) -> int:
        """
        Returns how many arrived and are right.
        """
    def remove(self, keys: bytes) -> int: ...
    def stat(self) -> dict[str, typing.Any]: ...
    def write(
        self, keys: bytes, memory: typing_extensions.Buffer, slot_bytes: int, payload_bytes: int
    ) -> int:
        """
        A chunk per key out of slots, whose first 256 bytes become its header.
        """
    @property
    def name(self) -> str:
        """
        The URL without its password.
        """

def clear_segment(path: str, model: str | None = None) -> int:
    """
    Evicts every chunk that nobody leases; returns how many.
    """

def explain_prompt(
    path: str, namespace_id: int, world_size: int, prompt: Prompt
) -> dict[str, typing.Any]:
    """
    How far a prompt, whose root is that of the namespace, is there.
    """

def find_opening(path: str, opening: int) -> dict[int, int]:
    """
    Namespaces, and how many first chunks of each begin like that.
    """

def inspect_segment(path: str) -> dict[str, typing.Any]:
    """
    The status of a segment, without joining it.
    """

def list_disk_directories(memory_folder: str = "/dev/shm") -> list[dict[str, typing.Any]]:
    """
    What processes of this user share about disk caches.
    """

def list_segments(directory: str = "/dev/shm") -> list[dict[str, typing.Any]]:
    """
    The segments of this user.
    """

def measure_gpu(device: int = 0) -> dict[str, typing.Any]:
    """
    How quickly a CUDA device copies scattered pieces, by size and direction. Raises
    UnavailableError, with the reason, where there is none.
    """

def raw_transfer(
    path: str,
    write: bool,
    chunk_bytes: int,
    order: collections.abc.Sequence[int],
    memory: typing_extensions.Buffer,
    io: str = "auto",
    depth_bytes: int = 0,
) -> float:
    """
    Seconds that moving chunks of a file takes with the engine of I/O alone.
    """

def read_requests(path: str) -> list[dict[str, typing.Any]]:
    """
    What is known of the latest requests of a segment, latest first.
    """

def remove_disk_directory(path: str, force: bool = False) -> bool:
    """
    Removes one that no living process has mapped; False: one has. The disk cache stays.
    """

def remove_segment(path: str, force: bool = False) -> bool:
    """
    Removes a segment that no living process has mapped; False: one has.
    """

def request_outcomes() -> list[str]: ...
def segment_path(name: str, directory: str = "/dev/shm") -> str:
    """
    The file of the segment of that name of this user.
    """

def uring_refusal() -> str:
    """
    Why io_uring cannot be used here; empty if it can.
    """

__version__: str = "0.1.0"
