// SPDX-License-Identifier: Apache-2.0
// Headers of chunks that are being written, all in one range of memory, so that a client which
// registers memory knows it beforehand.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include <lmcache/index/chunk_record.hpp>

namespace lmcache {

// Thread-safe.
class HeaderPool {
 public:
  // Twice what 64 connections write at once.
  static constexpr std::uint32_t kHeaders = 1024;

  // Some headers, until it goes. Must not outlive the pool.
  class Loan {
   public:
    Loan(HeaderPool& pool, std::vector<std::uint32_t> places)
        : pool_{&pool}, places_{std::move(places)} {}
    ~Loan() {
      if (pool_ != nullptr) pool_->give_back(places_);
    }
    Loan(Loan&& other) noexcept
        : pool_{std::exchange(other.pool_, nullptr)}, places_{std::move(other.places_)} {}
    Loan& operator=(Loan&&) = delete;

    [[nodiscard]] ChunkHeader& operator[](std::size_t i) const noexcept {
      return pool_->headers_[places_[i]];
    }

   private:
    HeaderPool* pool_;
    std::vector<std::uint32_t> places_;
  };

  HeaderPool() : headers_{std::make_unique<ChunkHeader[]>(kHeaders)} {
    for (std::uint32_t i = kHeaders; i-- != 0;) free_.push_back(i);
  }
  HeaderPool(HeaderPool&&) = delete;

  // Blocks while others have too many; nothing: until the deadline.
  [[nodiscard]] std::optional<Loan> borrow(std::size_t count,
                                           std::chrono::steady_clock::time_point deadline) {
    std::unique_lock lock{mutex_};
    if (!returned_.wait_until(lock, deadline, [&] { return free_.size() >= count; })) return {};
    std::vector<std::uint32_t> places;
    for (; places.size() < count; free_.pop_back()) places.push_back(free_.back());
    return Loan{*this, std::move(places)};
  }

  [[nodiscard]] std::span<std::byte> bytes() const noexcept {
    return std::as_writable_bytes(std::span{headers_.get(), kHeaders});
  }

 private:
  void give_back(std::vector<std::uint32_t> const& places) {
    {
      std::lock_guard const lock{mutex_};
      free_.insert(free_.end(), places.begin(), places.end());
    }
    returned_.notify_all();
  }

  std::unique_ptr<ChunkHeader[]> const headers_;
  std::mutex mutex_;  // guards free_
  std::condition_variable returned_;
  std::vector<std::uint32_t> free_;
};

}  // namespace lmcache
