// SPDX-License-Identifier: Apache-2.0
#include "tokens.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include <lmcache/key/key_chain.hpp>

namespace lmcache::bindings {

namespace py = pybind11;

namespace {

[[noreturn]] void reject(std::size_t position, std::string const& value) {
  throw py::value_error("token id " + value + " at position " + std::to_string(position) +
                        ": ids are 0 to " + std::to_string(kMaxTokenId));
}

// No branch per id, so that the compiler makes vectors of it. Buffers need not be aligned.
template <class Integer>
std::vector<std::uint32_t> copied(py::buffer_info const& info) {
  auto const* const bytes = static_cast<char const*>(info.ptr);
  auto const count = static_cast<std::size_t>(info.shape[0]);
  auto const at = [&](std::size_t i) {
    Integer id;
    std::memcpy(&id, bytes + static_cast<py::ssize_t>(i) * info.strides[0], sizeof id);
    return id;
  };
  std::vector<std::uint32_t> out(count);
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < count; ++i) {
    auto const id = static_cast<std::uint64_t>(at(i));  // negative ones become very large
    seen |= id;
    out[i] = static_cast<std::uint32_t>(id);
  }
  if (seen <= kMaxTokenId) return out;
  for (std::size_t i = 0; i < count; ++i) {
    if (static_cast<std::uint64_t>(at(i)) > kMaxTokenId) reject(i, std::to_string(at(i)));
  }
  return out;
}

bool lies_in_a_row(py::buffer_info const& info) {
  auto const address = reinterpret_cast<std::uintptr_t>(info.ptr);
  return info.itemsize == sizeof(std::uint32_t) && info.strides[0] == sizeof(std::uint32_t) &&
         address % alignof(std::uint32_t) == 0;
}

// Of a format of the module struct, whose standard and little-endian sizes are ours (bytes.hpp).
char kind_of(std::string const& format) {
  if (format.size() == 1) return format[0];
  bool const ours =
      format.size() == 2 && (format[0] == '@' || format[0] == '=' || format[0] == '<');
  return ours ? format[1] : '\0';
}

}  // namespace

TokenIds::TokenIds(py::handle source) {
  if (PyObject_CheckBuffer(source.ptr()) != 0 && !py::isinstance<py::bytes>(source)) {
    read_buffer(py::reinterpret_borrow<py::buffer>(source));
  } else {
    read_sequence(source);
  }
}

void TokenIds::read_buffer(py::buffer const& buffer) {
  lent_ = buffer.request();
  if (lent_.ndim != 1) {
    throw py::type_error("token ids must be one-dimensional, got an array of " +
                         std::to_string(lent_.ndim) + " dimensions");
  }
  char const kind = kind_of(lent_.format);
  signed_ = kind == 'i' || kind == 'l' || kind == 'q';
  bool const is_unsigned = kind == 'I' || kind == 'L' || kind == 'Q';
  bool const wide = lent_.itemsize == sizeof(std::uint64_t);
  if ((!signed_ && !is_unsigned) || (!wide && lent_.itemsize != sizeof(std::uint32_t))) {
    throw py::type_error("token ids must be 32- or 64-bit integers, got items of format '" +
                         lent_.format + "'");
  }
  if (lies_in_a_row(lent_)) {
    ids_ = {static_cast<std::uint32_t const*>(lent_.ptr), static_cast<std::size_t>(lent_.shape[0])};
    return;
  }
  if (signed_) {
    copied_ = wide ? copied<std::int64_t>(lent_) : copied<std::int32_t>(lent_);
  } else {
    copied_ = wide ? copied<std::uint64_t>(lent_) : copied<std::uint32_t>(lent_);
  }
  ids_ = copied_;
}

void TokenIds::read_sequence(py::handle source) {
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
  copied_.resize(static_cast<std::size_t>(count));
  for (py::ssize_t i = 0; i < count; ++i) {
    int overflow = 0;
    long long const value = PyLong_AsLongLongAndOverflow(values[i], &overflow);
    if (value == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
    if (overflow != 0 || value < 0 || value > kMaxTokenId) {
      reject(static_cast<std::size_t>(i), py::str(values[i]).cast<std::string>());
    }
    copied_[static_cast<std::size_t>(i)] = static_cast<std::uint32_t>(value);
  }
  ids_ = copied_;
}

void TokenIds::check() const {
  auto const wrong = std::ranges::find_if(ids_, [](auto id) { return id > kMaxTokenId; });
  if (wrong == ids_.end()) return;
  auto const position = static_cast<std::size_t>(wrong - ids_.begin());
  reject(position,
         signed_ ? std::to_string(static_cast<std::int32_t>(*wrong)) : std::to_string(*wrong));
}

}  // namespace lmcache::bindings
