# SPDX-License-Identifier: Apache-2.0
"""`_native.pyi`, which mypy reads, is what the compiled module has."""

from __future__ import annotations

import native_stub


def test_the_stub_is_up_to_date() -> None:
    checked_in = native_stub.STUB.read_text(encoding="utf-8")
    assert checked_in == native_stub.generate(), (
        f"run: python tests/support/native_stub.py > {native_stub.STUB}"
    )


def test_names_of_the_module_are_in_the_stub() -> None:
    from lmcache import _native

    checked_in = native_stub.STUB.read_text(encoding="utf-8")
    for name in ("Engine", "EngineOptions", "Hit", "Prompt", "inspect_segment", "clear_segment"):
        assert hasattr(_native, name)
        assert f"class {name}:" in checked_in or f"def {name}(" in checked_in
