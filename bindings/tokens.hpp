// SPDX-License-Identifier: Apache-2.0
// Token ids out of Python.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace lmcache::bindings {

// The ids of a sequence of int, or of a one-dimensional array of a 32- or 64-bit integer type, by
// the buffer protocol. Raises TypeError for anything else, ValueError for ids out of range, naming
// the position.
class TokenIds {
 public:
  explicit TokenIds(pybind11::handle source);

  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  // The ids where they lie, as long as this object; nothing if they must be copied. They may be out
  // of range.
  [[nodiscard]] std::optional<std::span<std::uint32_t const>> in_place() const noexcept;
  // Raises for the first id of in_place() that is out of range; returns if there is none.
  void check_in_place() const;
  // Copies all ids into room for count() of them.
  void copy_to(std::span<std::uint32_t> room) const;

 private:
  void accept_format();
  void copy_sequence(std::span<std::uint32_t> room) const;
  template <class Integer>
  void copy_lent(std::span<std::uint32_t> room) const;

  pybind11::object items_;  // list or tuple; none: a buffer was lent
  pybind11::buffer_info lent_;
  std::size_t count_{0};
  bool signed_{false};  // what was lent is signed
};

}  // namespace lmcache::bindings
