// SPDX-License-Identifier: Apache-2.0
// The copier between host memory and host memory: two small thread pools that sleep when idle.
#pragma once

#include <cstdint>
#include <memory>

#include <lmcache/base/result.hpp>
#include <lmcache/device/device_copier.hpp>

namespace lmcache {

namespace detail {
class CopyPool;
}

struct HostCopierOptions {
  // Of each pool: as many for foreground batches as for background ones. 1..256.
  std::uint32_t threads = 2;
  // Largest piece of work a thread takes at a time: it bounds how long cancel() and a foreground
  // batch wait for a background piece, and how evenly a batch spreads over the threads.
  std::uint64_t piece_bytes = 1024 * 1024;
  // Nice value of the background threads relative to the process (0..19), so that storing takes
  // only the time the engine's own threads leave over.
  int background_nice = 10;
};

// Thread-safe.
class HostCopier final : public DeviceCopier {
 public:
  // kInvalidArgument: options out of range. kUnavailable: a thread could not be started.
  static Result<std::unique_ptr<HostCopier>> create(HostCopierOptions options = {});
  ~HostCopier() override;

 private:
  explicit HostCopier(std::unique_ptr<detail::CopyPool> pool);

  Result<CopyTicket> do_submit(CopyBatch batch) override;
  std::optional<CopyProgress> do_progress(CopyTicket ticket) const override;
  CopyStatus do_item_status(CopyTicket ticket, std::uint32_t item) const override;
  std::optional<CopyProgress> do_wait(CopyTicket ticket, std::uint32_t planes,
                                      CopyDeadline deadline) override;
  Result<bool> do_stream_wait(CopyTicket ticket, std::uint32_t planes, EngineStream stream,
                              CopyDeadline deadline) override;
  void do_cancel(CopyTicket ticket) override;
  void do_retire(CopyTicket ticket) override;

  std::unique_ptr<detail::CopyPool> pool_;
};

}  // namespace lmcache
