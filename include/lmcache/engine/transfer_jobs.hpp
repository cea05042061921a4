// SPDX-License-Identifier: Apache-2.0
// Stores and loads under way: chunks leased, copied, published or released.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include <lmcache/base/clock.hpp>
#include <lmcache/base/result.hpp>
#include <lmcache/device/device_copier.hpp>
#include <lmcache/engine/device_copiers.hpp>
#include <lmcache/engine/device_side.hpp>
#include <lmcache/engine/engine.hpp>
#include <lmcache/layout/kv_view.hpp>
#include <lmcache/tier/dram/dram_tier.hpp>

namespace lmcache {

// Thread-safe.
class TransferJobs {
 public:
  // `on_stored` is called on a thread of the copier after a chunk was published; must not block.
  using OnStored = std::function<void(ChunkRef)>;
  TransferJobs(DramTier& tier, std::unique_ptr<DeviceCopiers> copiers, Clock const& clock,
               OnStored on_stored = {});
  ~TransferJobs();  // drains the copiers
  TransferJobs(TransferJobs&&) = delete;

  [[nodiscard]] Result<ViewId> register_view(KvView view);
  void unregister_view(ViewId view);
  [[nodiscard]] bool has_views() const;
  [[nodiscard]] Result<JobId> submit_store(ViewId view, std::span<StoreItem const> items,
                                           std::optional<EngineStream> stream = std::nullopt);
  [[nodiscard]] Result<JobId> submit_load(ViewId view, std::span<LoadItem const> items,
                                          std::optional<EngineStream> stream = std::nullopt);
  [[nodiscard]] bool poll(JobId id) const;
  [[nodiscard]] bool wait(JobId id, CopyDeadline deadline);
  [[nodiscard]] bool wait_plane(JobId id, std::uint32_t plane, CopyDeadline deadline);
  [[nodiscard]] Result<bool> stream_wait_plane(JobId id, std::uint32_t plane, EngineStream stream,
                                               CopyDeadline deadline);
  void cancel(JobId id);
  std::vector<std::uint32_t> finish(JobId id);

 private:
  struct Job;
  struct View {
    KvView kv;
    DeviceCopier* copier = nullptr;  // of its device
    DeviceSide* side = nullptr;      // null: no pool there
  };
  // Without a ticket there is nothing to copy.
  struct Copy {
    CopyTicket ticket;
    DeviceCopier* copier = nullptr;
  };
  [[nodiscard]] Result<std::shared_ptr<View const>> view_of(ViewId view) const;
  [[nodiscard]] DeviceSide& side_of(KvDevice device, DeviceCopier& copier,
                                    std::span<std::byte> pool);
  static void join_pool(Job& job, CopyBatch& batch);
  [[nodiscard]] Result<JobId> start(std::unique_ptr<Job> job, CopyBatch batch);
  [[nodiscard]] Copy copy_of(JobId id) const;
  void refused(Job const& job, bool load, Error const& error);
  void store_done(Job& job, std::uint32_t item, CopyStatus status);
  void pool_done(Job& job, std::uint32_t entry, CopyStatus status);
  void load_done(Job& job, std::uint32_t item, CopyStatus status);

  DramTier& tier_;
  Clock const& clock_;
  OnStored on_stored_;
  mutable std::mutex mutex_;  // guards what follows, up to the copiers
  std::unordered_map<ViewId, std::shared_ptr<View const>> views_;
  std::unordered_map<JobId, std::unique_ptr<Job>> jobs_;
  std::map<int, std::unique_ptr<DeviceSide>> sides_;  // by ordinal; go after the copiers
  ViewId next_view_{1};
  JobId next_job_{1};
  std::unique_ptr<DeviceCopiers> copiers_;
};

}  // namespace lmcache
