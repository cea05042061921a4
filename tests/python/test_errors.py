# SPDX-License-Identifier: Apache-2.0
"""One tree of exceptions, in step with the codes of the native library."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from lmcache import errors

RESULT_HPP = Path(__file__).parents[2] / "include/lmcache/base/result.hpp"


def test_native_codes_are_those_of_the_header() -> None:
    body = re.search(r"enum class ErrorCode[^{]*\{(.*?)\}", RESULT_HPP.read_text(), re.S)
    assert body
    names = re.findall(r"^\s*k(\w+),", body[1], re.M)
    snake = [re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower() for name in names]
    assert [error.code for error in errors.NATIVE_ERRORS] == snake


@pytest.mark.parametrize("code", range(len(errors.NATIVE_ERRORS)))
def test_native_error_by_number_and_name(code: int) -> None:
    error = errors.native_error(code, "disk full", 28)
    assert type(error) is errors.NATIVE_ERRORS[code]
    assert type(errors.native_error(error.code, "x")) is type(error)
    assert isinstance(error, errors.LMCacheError)
    assert (str(error), error.os_error) == ("disk full", 28)


@pytest.mark.parametrize("code", [-1, 99, "unheard_of"])
def test_an_unknown_code_is_internal(code: int | str) -> None:
    assert type(errors.native_error(code, "x")) is errors.InternalError


def test_bad_values_are_value_errors() -> None:
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.GeometryError, ValueError)
    assert issubclass(errors.NativeUnavailableError, ImportError)


def test_every_error_is_in_the_tree() -> None:
    classes = [item for item in vars(errors).values() if isinstance(item, type)]
    own = [item for item in classes if issubclass(item, Exception)]
    assert len(own) >= 14
    assert all(issubclass(item, errors.LMCacheError) for item in own)


def test_config_error_survives_pickle() -> None:
    error = errors.ConfigError(["one", "two"])
    again = pickle.loads(pickle.dumps(error))
    assert again.problems == ("one", "two")
    assert str(again) == str(error) == "2 mistakes in the configuration:\n  - one\n  - two"


def test_native_missing_says_what_to_do() -> None:
    error = errors.native_missing(ImportError("No module named 'lmcache._native'"))
    assert "No module named 'lmcache._native'" in str(error)
    assert "pip install" in str(error)
