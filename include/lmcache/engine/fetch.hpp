// SPDX-License-Identifier: Apache-2.0
// A prefix on its way from a tier below into memory.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

namespace lmcache {

class FetchState;

// What has arrived stays leased until release(). Move-only. Must not outlive the engine. Externally
// synchronised.
class Fetch {
 public:
  explicit Fetch(std::shared_ptr<FetchState> state) noexcept;
  Fetch(Fetch&&) noexcept;
  Fetch& operator=(Fetch&&) noexcept;
  ~Fetch();

  // Nothing more comes, or it is no longer worth waiting for: look the prefix up again. Never
  // blocks.
  [[nodiscard]] bool done();
  // True when done; false at the deadline. Blocks.
  [[nodiscard]] bool wait(std::chrono::milliseconds timeout);
  // How far the prefix reaches if all arrives.
  [[nodiscard]] std::uint32_t prefix_tokens() const noexcept;
  // Gives the leases back. What is still under way arrives for others.
  void release() noexcept;
  // The same without a word to the engine, which is gone and took them back.
  void forget() noexcept { state_.reset(); }

 private:
  std::shared_ptr<FetchState> state_;
};

}  // namespace lmcache
