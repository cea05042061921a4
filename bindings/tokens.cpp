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

// `at(i)` reads id i. Ids out of range are found by one or over all of them, so that the compiler
// makes vectors of the loop; negative ones become very large.
template <class Read>
void copy_ids(std::span<std::uint32_t> out, Read const& at) {
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < out.size(); ++i) {
    auto const id = static_cast<std::uint64_t>(at(i));
    seen |= id;
    out[i] = static_cast<std::uint32_t>(id);
  }
  if (seen <= kMaxTokenId) return;
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (static_cast<std::uint64_t>(at(i)) > kMaxTokenId) reject(i, std::to_string(at(i)));
  }
}

template <class Integer>
Integer read_unaligned(char const* from) {
  Integer id;
  std::memcpy(&id, from, sizeof id);
  return id;
}

// The value of an int of one digit, as nearly all token ids are; -1 for others. Half the time of
// the call that takes any object.
long long small_int(PyObject* object) {
  if (!PyLong_CheckExact(object)) return -1;
  auto* const number = reinterpret_cast<PyLongObject*>(object);
#if PY_VERSION_HEX >= 0x030C0000
  return PyUnstable_Long_IsCompact(number) ? PyUnstable_Long_CompactValue(number) : -1;
#else
  auto const digits = Py_SIZE(number);
  if (digits == 1) return number->ob_digit[0];
  return digits == 0 ? 0 : -1;
#endif
}

std::string text_of(PyObject* item) { return py::str(item).cast<std::string>(); }

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
    lent_ = py::reinterpret_borrow<py::buffer>(source).request();
    accept_format();
    count_ = static_cast<std::size_t>(lent_.shape[0]);
    return;
  }
  if (!py::isinstance<py::sequence>(source) || py::isinstance<py::str>(source) ||
      py::isinstance<py::bytes>(source)) {
    throw py::type_error("token ids must be a sequence of int or an integer array, got " +
                         py::str(py::type::of(source)).cast<std::string>());
  }
  // Takes lists and tuples as they are and makes a list of any other sequence.
  items_ = py::reinterpret_steal<py::object>(
      PySequence_Fast(source.ptr(), "token ids must be a sequence of int"));
  if (!items_) throw py::error_already_set();
  count_ = static_cast<std::size_t>(PySequence_Fast_GET_SIZE(items_.ptr()));
}

void TokenIds::accept_format() {
  if (lent_.ndim != 1) {
    throw py::type_error("token ids must be one-dimensional, got an array of " +
                         std::to_string(lent_.ndim) + " dimensions");
  }
  char const kind = kind_of(lent_.format);
  signed_ = kind == 'i' || kind == 'l' || kind == 'q';
  bool const is_unsigned = kind == 'I' || kind == 'L' || kind == 'Q';
  bool const fits =
      lent_.itemsize == sizeof(std::uint32_t) || lent_.itemsize == sizeof(std::uint64_t);
  if ((signed_ || is_unsigned) && fits) return;
  throw py::type_error("token ids must be 32- or 64-bit integers, got items of format '" +
                       lent_.format + "'");
}

std::optional<std::span<std::uint32_t const>> TokenIds::in_place() const noexcept {
  if (items_ || !lies_in_a_row(lent_)) return std::nullopt;
  return std::span{static_cast<std::uint32_t const*>(lent_.ptr), count_};
}

void TokenIds::check_in_place() const {
  auto const ids = *in_place();
  auto const wrong = std::ranges::find_if(ids, [](auto id) { return id > kMaxTokenId; });
  if (wrong == ids.end()) return;
  reject(static_cast<std::size_t>(wrong - ids.begin()),
         signed_ ? std::to_string(static_cast<std::int32_t>(*wrong)) : std::to_string(*wrong));
}

void TokenIds::copy_to(std::span<std::uint32_t> room) const {
  bool const wide = lent_.itemsize == sizeof(std::uint64_t);
  if (items_) {
    copy_sequence(room);
  } else if (signed_) {
    wide ? copy_lent<std::int64_t>(room) : copy_lent<std::int32_t>(room);
  } else {
    wide ? copy_lent<std::uint64_t>(room) : copy_lent<std::uint32_t>(room);
  }
}

template <class Integer>
void TokenIds::copy_lent(std::span<std::uint32_t> room) const {
  auto const* const bytes = static_cast<char const*>(lent_.ptr);
  auto const stride = lent_.strides[0];
  if (stride == sizeof(Integer)) {
    copy_ids(room,
             [=](std::size_t i) { return read_unaligned<Integer>(bytes + i * sizeof(Integer)); });
  } else {
    copy_ids(room, [=](std::size_t i) {
      return read_unaligned<Integer>(bytes + static_cast<py::ssize_t>(i) * stride);
    });
  }
}

void TokenIds::copy_sequence(std::span<std::uint32_t> room) const {
  for (std::size_t i = 0; i < room.size(); ++i) {
    // Again for each: an item's own __index__ may have changed the list.
    auto const at = static_cast<py::ssize_t>(i);
    if (at >= PySequence_Fast_GET_SIZE(items_.ptr()))
      throw py::value_error("tokens changed meanwhile");
    PyObject* const item = PySequence_Fast_GET_ITEM(items_.ptr(), at);
    long long value = small_int(item);
    if (value < 0) {
      int overflow = 0;
      value = PyLong_AsLongLongAndOverflow(item, &overflow);
      if (value == -1 && PyErr_Occurred() != nullptr) throw py::error_already_set();
      if (overflow != 0 || value < 0 || value > kMaxTokenId) reject(i, text_of(item));
    }
    room[i] = static_cast<std::uint32_t>(value);
  }
}

}  // namespace lmcache::bindings
