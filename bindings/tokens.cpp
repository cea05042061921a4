// SPDX-License-Identifier: Apache-2.0
#include "tokens.hpp"

#include <string>
#include <type_traits>

#include <lmcache/key/key_chain.hpp>

namespace lmcache::bindings {

namespace py = pybind11;

namespace {

[[noreturn]] void reject(std::size_t position, std::string const& value) {
  throw py::value_error("token id " + value + " at position " + std::to_string(position) +
                        ": ids are 0 to " + std::to_string(kMaxTokenId));
}

template <class Integer>
bool append(std::vector<std::uint32_t>& out, py::buffer_info const& info) {
  if (!info.item_type_is_equivalent_to<Integer>()) return false;
  auto const* bytes = static_cast<char const*>(info.ptr);
  for (py::ssize_t i = 0; i < info.shape[0]; ++i) {
    auto const value = *reinterpret_cast<Integer const*>(bytes + i * info.strides[0]);
    bool negative = false;
    if constexpr (std::is_signed_v<Integer>) negative = value < 0;
    if (negative || static_cast<std::uint64_t>(value) > kMaxTokenId) {
      reject(static_cast<std::size_t>(i), std::to_string(value));
    }
    out.push_back(static_cast<std::uint32_t>(value));
  }
  return true;
}

std::vector<std::uint32_t> from_buffer(py::buffer const& buffer) {
  py::buffer_info const info = buffer.request();
  if (info.ndim != 1) {
    throw py::type_error("token ids must be one-dimensional, got an array of " +
                         std::to_string(info.ndim) + " dimensions");
  }
  std::vector<std::uint32_t> out;
  out.reserve(static_cast<std::size_t>(info.shape[0]));
  if (!append<std::int32_t>(out, info) && !append<std::int64_t>(out, info) &&
      !append<std::uint32_t>(out, info) && !append<std::uint64_t>(out, info)) {
    throw py::type_error("token ids must be 32- or 64-bit integers, got items of format '" +
                         info.format + "'");
  }
  return out;
}

}  // namespace

std::vector<std::uint32_t> tokens_of(py::handle source) {
  if (PyObject_CheckBuffer(source.ptr()) != 0 && !py::isinstance<py::bytes>(source)) {
    return from_buffer(py::reinterpret_borrow<py::buffer>(source));
  }
  if (!py::isinstance<py::sequence>(source) || py::isinstance<py::str>(source) ||
      py::isinstance<py::bytes>(source)) {
    throw py::type_error("token ids must be a sequence of int or an integer array, got " +
                         py::str(py::type::of(source)).cast<std::string>());
  }
  // The fast path takes lists and tuples as they are and makes a list of any other sequence.
  auto const items = py::reinterpret_steal<py::object>(
      PySequence_Fast(source.ptr(), "token ids must be a sequence of int"));
  if (!items) throw py::error_already_set();
  auto const count = PySequence_Fast_GET_SIZE(items.ptr());
  PyObject** const values = PySequence_Fast_ITEMS(items.ptr());
  std::vector<std::uint32_t> out(static_cast<std::size_t>(count));
  for (py::ssize_t i = 0; i < count; ++i) {
    int overflow = 0;
    long long const value = PyLong_AsLongLongAndOverflow(values[i], &overflow);
    if (value == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
    if (overflow != 0 || value < 0 || value > kMaxTokenId) {
      reject(static_cast<std::size_t>(i), py::str(values[i]).cast<std::string>());
    }
    out[static_cast<std::size_t>(i)] = static_cast<std::uint32_t>(value);
  }
  return out;
}

}  // namespace lmcache::bindings
