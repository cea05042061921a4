# SPDX-License-Identifier: Apache-2.0
"""The C++ layer check: this repository passes, and every kind of violation is seen."""

from __future__ import annotations

import pytest
from tree_checks import cpp_layers


def test_repository_keeps_its_layers(repository):
    assert cpp_layers.check(repository) == []


@pytest.mark.parametrize(
    ("path", "include", "complaint"),
    [
        ("cpp/key/x.cpp", "<lmcache/index/chunk_index.hpp>", "key (rank 1) includes index"),
        ("cpp/key/x.cpp", '"layout/plan.hpp"', "key (rank 1) includes layout (rank 1)"),
        ("include/lmcache/base/x.hpp", "<lmcache/key/k.hpp>", "base (rank 0) includes key"),
        ("cpp/tier/dram/x.cpp", "<lmcache/tier/disk/slab.hpp>", "includes its sibling tier/disk"),
        ("cpp/tier/dram/x.cpp", '"tier/disk/slab.hpp"', "includes its sibling tier/disk"),
        ("cpp/engine/x.cpp", '"lmcache/key/k.hpp"', "include it as <lmcache/key/k.hpp>"),
        ("include/lmcache/engine/x.hpp", '"key/k.hpp"', "public headers only"),
        ("bindings/x.cpp", '"engine/engine.hpp"', "public headers only"),
        ("cpp/engine/x.cpp", '"../key/k.hpp"', "climbs out"),
        ("cpp/engine/x.cpp", "<sys/socket.h>", "confined to cpp/net/"),
        ("cpp/engine/x.cpp", "<sys/un.h>", "confined to cpp/net/"),
        ("cpp/engine/x.cpp", "<netinet/in.h>", "confined to cpp/net/"),
        ("cpp/engine/x.cpp", "<pybind11/pybind11.h>", "confined to bindings/"),
        ("cpp/engine/x.cpp", "<Python.h>", "confined to bindings/"),
        ("cpp/engine/x.cpp", "<cuda_runtime.h>", "confined to cuda/"),
        ("cpp/engine/x.cpp", "<cuda_fp8.h>", "confined to cuda/"),
        ("cpp/engine/x.cpp", "<cuda/atomic>", "confined to cuda/"),
        ("cpp/policy/x.cpp", '"cuda/host_kernels.hpp"', "policy (rank 2) includes cuda (rank 2)"),
        ("cpp/io/x.cpp", "<liburing.h>", "confined to cpp/io/uring_"),
        ("cpp/engine/x.cpp", "<openssl/ssl.h>", "confined to cpp/net/"),
        ("cpp/engine/x.cpp", "<openssl/evp.h>", "confined to cpp/base/"),
        ("cpp/engine/x.cpp", "<gtest/gtest.h>", "confined to tests/"),
        ("cpp/nonsense/x.cpp", "<vector>", "'nonsense' has no rank"),
        ("cpp/x.cpp", "<vector>", "lies in no unit folder"),
    ],
)
def test_violation_is_seen(plant, path, include, complaint):
    bad = cpp_layers.check(plant({path: f"#include {include}\n"}))
    assert any(complaint in line for line in bad), bad


@pytest.mark.parametrize(
    ("path", "include"),
    [
        ("cpp/index/x.cpp", "<lmcache/key/chunk_key.hpp>"),
        ("cpp/index/x.cpp", "<lmcache/index/chunk_ref.hpp>"),
        ("cpp/index/x.cpp", '"index/shard.hpp"'),
        ("cpp/index/x.cpp", "<vector>"),
        ("cpp/tier/make_tier.cpp", '"tier/disk/slab.hpp"'),
        ("cpp/tier/dram/x.cpp", "<lmcache/tier/tier.hpp>"),
        ("cpp/net/x.cpp", "<sys/socket.h>"),
        ("cpp/io/uring_ring.cpp", "<liburing.h>"),
        ("cpp/device/cuda_copier.cpp", "<cuda_runtime.h>"),
        ("cpp/device/x.cpp", '"cuda/host_kernels.hpp"'),
        ("bindings/x.cpp", "<lmcache/engine/engine.hpp>"),
        ("tests/cpp/engine/x_test.cpp", '"engine/job.hpp"'),
    ],
)
def test_allowed_include_passes(plant, path, include):
    assert cpp_layers.check(plant({path: f"#include {include}\n"})) == []
