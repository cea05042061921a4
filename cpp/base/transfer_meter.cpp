// SPDX-License-Identifier: Apache-2.0
#include <lmcache/base/transfer_meter.hpp>

namespace lmcache {
namespace {

// In the middle of a busy time. Answers come in bursts: over less time than this, one burst would
// be taken for a speed.
constexpr std::uint64_t kWorthMeasuring = 4u << 20;
constexpr std::int64_t kLeastWindowNs = 20'000'000;
// What is left after that, when the device has nothing more to do.
constexpr std::int64_t kLeastRestNs = 5'000'000;

}  // namespace

void TransferMeter::begin(std::uint64_t size_bytes) {
  std::lock_guard const lock{mutex_};
  if (open_++ == 0) {
    busy_since_ns_ = clock_.monotonic_ns();
    moved_bytes_ = 0;
    measured_ = false;
  }
  open_bytes_ += size_bytes;
}

std::optional<TransferMeter::Measured> TransferMeter::end(std::uint64_t size_bytes) {
  std::lock_guard const lock{mutex_};
  open_bytes_ -= size_bytes;
  moved_bytes_ += size_bytes;
  --open_;
  if (open_ != 0 && moved_bytes_ < kWorthMeasuring) return std::nullopt;
  std::int64_t const now = clock_.monotonic_ns();
  auto const elapsed = now - busy_since_ns_;
  auto const least = open_ != 0 ? kLeastWindowNs : measured_ ? kLeastRestNs : 1;
  if (elapsed < least) return std::nullopt;
  Measured const out{
      .bytes_per_s = static_cast<double>(moved_bytes_) * 1e9 / static_cast<double>(elapsed),
      .busy_ns = static_cast<std::uint64_t>(elapsed)};
  busy_since_ns_ = now;
  moved_bytes_ = 0;
  measured_ = true;
  return out;
}

std::uint64_t TransferMeter::open_bytes() const {
  std::lock_guard const lock{mutex_};
  return open_bytes_;
}

}  // namespace lmcache
