// SPDX-License-Identifier: Apache-2.0
// Copiers made slow or faulty by wrapping a real one.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include <lmcache/device/device_copier.hpp>

namespace lmcache::test {

class CopierDecorator : public DeviceCopier {
 public:
  explicit CopierDecorator(std::unique_ptr<DeviceCopier> inner) : inner_{std::move(inner)} {}

 protected:
  Result<CopyTicket> do_submit(CopyBatch batch) override {
    return inner_->submit(std::move(batch));
  }
  std::optional<CopyProgress> do_progress(CopyTicket ticket) const override {
    return inner_->progress(ticket);
  }
  CopyStatus do_item_status(CopyTicket ticket, std::uint32_t item) const override {
    return inner_->item_status(ticket, item);
  }
  std::optional<CopyProgress> do_wait(CopyTicket ticket, std::uint32_t planes,
                                      CopyDeadline deadline) override {
    if (planes == kWholeBatch || planes == 0) {
      (void)inner_->wait(ticket, planes == 0 ? CopyDeadline::min() : deadline);
    } else {
      (void)inner_->wait_plane(ticket, planes - 1, deadline);
    }
    return inner_->progress(ticket);
  }
  Result<bool> do_stream_wait(CopyTicket ticket, std::uint32_t planes, EngineStream stream,
                              CopyDeadline deadline) override {
    if (planes == 0) return wait_planes(ticket, 0, deadline);
    return inner_->stream_wait_plane(ticket, planes - 1, stream, deadline);
  }
  void do_cancel(CopyTicket ticket) override { inner_->cancel(ticket); }
  void do_retire(CopyTicket ticket) override { inner_->retire(ticket); }

  DeviceCopier& inner() { return *inner_; }

 private:
  std::unique_ptr<DeviceCopier> inner_;
};

// A slow device: every item takes at least `delay` of a copier thread's time. Thread-safe.
class ThrottledCopier final : public CopierDecorator {
 public:
  ThrottledCopier(std::unique_ptr<DeviceCopier> inner, std::chrono::microseconds delay)
      : CopierDecorator{std::move(inner)}, delay_{delay} {}

 private:
  Result<CopyTicket> do_submit(CopyBatch batch) override {
    batch.on_item = [delay = delay_, told = std::move(batch.on_item)](std::uint32_t item,
                                                                      CopyStatus status) {
      std::this_thread::sleep_for(delay);
      if (told) told(item, status);
    };
    return CopierDecorator::do_submit(std::move(batch));
  }

  std::chrono::microseconds delay_;
};

// A device that reports errors: the next batch fails as a whole, or some of its items do.
// Thread-safe.
class FaultyCopier final : public CopierDecorator {
 public:
  using CopierDecorator::CopierDecorator;

  void fail_next_submit() {
    std::lock_guard const lock{mutex_};
    refuse_next_ = true;
  }
  void fail_items_of_next(std::set<std::uint32_t> items) {
    std::lock_guard const lock{mutex_};
    next_ = std::move(items);
  }

 private:
  Result<CopyTicket> do_submit(CopyBatch batch) override {
    std::set<std::uint32_t> failing;
    {
      std::lock_guard const lock{mutex_};
      if (std::exchange(refuse_next_, false))
        return Error{ErrorCode::kUnavailable, "device is gone"};
      failing = std::exchange(next_, {});
    }
    if (failing.empty()) return CopierDecorator::do_submit(std::move(batch));
    for (std::uint32_t const item : failing) batch.items[item].runs.clear();
    batch.on_item = [failing, told = std::move(batch.on_item)](std::uint32_t item,
                                                               CopyStatus status) {
      bool const failed = failing.contains(item) && status == CopyStatus::kCopied;
      if (told) told(item, failed ? CopyStatus::kFailed : status);
    };
    auto ticket = CopierDecorator::do_submit(std::move(batch));
    std::lock_guard const lock{mutex_};
    if (ticket) failed_[ticket.value().id] = failing;
    return ticket;
  }
  std::optional<CopyProgress> do_progress(CopyTicket ticket) const override {
    auto progress = CopierDecorator::do_progress(ticket);
    if (progress && has_failed(ticket)) progress->planes_arrived = 0;
    return progress;
  }
  CopyStatus do_item_status(CopyTicket ticket, std::uint32_t item) const override {
    auto const status = CopierDecorator::do_item_status(ticket, item);
    std::lock_guard const lock{mutex_};
    auto const found = failed_.find(ticket.id);
    bool const failed = found != failed_.end() && found->second.contains(item);
    return failed && status == CopyStatus::kCopied ? CopyStatus::kFailed : status;
  }
  std::optional<CopyProgress> do_wait(CopyTicket ticket, std::uint32_t planes,
                                      CopyDeadline deadline) override {
    (void)CopierDecorator::do_wait(ticket, has_failed(ticket) ? kWholeBatch : planes, deadline);
    return do_progress(ticket);
  }
  bool has_failed(CopyTicket ticket) const {
    std::lock_guard const lock{mutex_};
    return failed_.contains(ticket.id);
  }

  mutable std::mutex mutex_;  // guards all below
  bool refuse_next_ = false;
  std::set<std::uint32_t> next_;
  std::map<std::uint64_t, std::set<std::uint32_t>> failed_;
};

}  // namespace lmcache::test
