// SPDX-License-Identifier: Apache-2.0
// A Stream in memory: what the peer says is known beforehand, and so is how the network cuts it.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <lmcache/net/stream.hpp>

namespace lmcache::test {

class ScriptedStream final : public Stream {
 public:
  enum class End { kCloses, kStaysSilent };
  struct Script {
    std::string incoming;
    // Sizes of the pieces it comes in, none 0, again and again; empty: in one piece.
    std::vector<std::size_t> cuts;
    End end = End::kCloses;
  };
  explicit ScriptedStream(Script script) : script_{std::move(script)} {}

  [[nodiscard]] Result<std::size_t> read_some(std::span<std::byte> into, Deadline) override {
    ++reads_;
    if (is_shut_) return Error{ErrorCode::kUnavailable, "shut"};
    std::size_t const left = script_.incoming.size() - position_;
    if (left == 0) {
      if (script_.end == End::kCloses) return Error{ErrorCode::kUnavailable, "the peer closed"};
      return Error{ErrorCode::kTimeout, "the peer is silent"};
    }
    if (piece_left_ == 0) {
      auto const& cuts = script_.cuts;
      piece_left_ = cuts.empty() ? left : cuts[next_cut_++ % cuts.size()];
    }
    std::size_t const count = std::min({into.size(), piece_left_, left});
    std::memcpy(into.data(), script_.incoming.data() + position_, count);
    position_ += count;
    piece_left_ -= count;
    return count;
  }

  [[nodiscard]] Result<void> write_all(std::span<std::span<std::byte const> const> pieces,
                                       Deadline) override {
    if (is_shut_) return Error{ErrorCode::kUnavailable, "shut"};
    for (auto const& piece : pieces) {
      written_.append(reinterpret_cast<char const*>(piece.data()), piece.size());
    }
    return {};
  }

  [[nodiscard]] bool readable() override {
    return is_shut_ || position_ != script_.incoming.size() || script_.end == End::kCloses;
  }
  void shut() noexcept override { is_shut_ = true; }

  [[nodiscard]] std::string const& written() const noexcept { return written_; }
  [[nodiscard]] std::size_t reads() const noexcept { return reads_; }

 private:
  Script script_;
  std::size_t position_ = 0;
  std::size_t next_cut_ = 0;
  std::size_t piece_left_ = 0;
  std::size_t reads_ = 0;
  std::string written_;
  bool is_shut_ = false;
};

}  // namespace lmcache::test
