// SPDX-License-Identifier: Apache-2.0
// One io_uring, set up as well as this kernel can, and why it cannot where it refuses.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include <lmcache/base/result.hpp>

struct io_uring;

namespace lmcache::detail {

// One thread: the one that made it, as the kernel then knows that nobody else submits.
class UringRing {
 public:
  enum class Wait : std::uint8_t { kNo, kForOne };

  // kUnavailable: the kernel forbids it, or is too old; the message says which.
  // Short of memory, it gets fewer entries.
  [[nodiscard]] static Result<UringRing> create(std::uint32_t entries);

  [[nodiscard]] io_uring& get() noexcept { return *ring_; }
  // Requests that can be prepared before enter().
  [[nodiscard]] std::uint32_t entries() const noexcept;
  // Hands the kernel what was prepared, and lets it put what is over into the completion queue.
  void enter(Wait wait) noexcept;

 private:
  struct Closer {
    void operator()(io_uring* ring) const noexcept;
  };
  using Handle = std::unique_ptr<io_uring, Closer>;

  explicit UringRing(Handle ring) noexcept : ring_{std::move(ring)} {}

  Handle ring_;
};

// For people: what io_uring_setup(2) means by this error on this machine.
// `disabled_setting` is the text of /proc/sys/kernel/io_uring_disabled.
[[nodiscard]] std::string uring_refusal_text(int os_error, std::string const& disabled_setting);

}  // namespace lmcache::detail
