// SPDX-License-Identifier: Apache-2.0
// Token ids out of Python.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <span>
#include <vector>

namespace lmcache::bindings {

// The ids of a sequence of int, or of a one-dimensional array of a 32- or 64-bit integer type, by
// the buffer protocol. Arrays of 32-bit ids without gaps are read where they lie: copying 131,072
// of them costs as much as half of hashing them. Raises TypeError for anything else, ValueError for
// ids that no 32-bit number holds.
class TokenIds {
 public:
  explicit TokenIds(pybind11::handle source);

  // Valid as long as this object; 32-bit ids may still be out of range.
  [[nodiscard]] std::span<std::uint32_t const> ids() const noexcept { return ids_; }
  // Raises ValueError for the first id that is out of range, naming its position; returns if there
  // is none.
  void check() const;

 private:
  void read_buffer(pybind11::buffer const& buffer);
  void read_sequence(pybind11::handle source);

  pybind11::buffer_info lent_;
  std::vector<std::uint32_t> copied_;
  std::span<std::uint32_t const> ids_;
  bool signed_{false};  // what was lent is signed
};

}  // namespace lmcache::bindings
