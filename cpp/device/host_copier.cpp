// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/host_copier.hpp>

#include <utility>

#include <lmcache/device/copy_pool.hpp>

namespace lmcache {
namespace {

constexpr std::uint32_t kMostThreads = 256;

}  // namespace

Result<std::unique_ptr<HostCopier>> HostCopier::create(HostCopierOptions options) {
  if (options.threads == 0 || options.threads > kMostThreads) {
    return Error{ErrorCode::kInvalidArgument, "copy threads must be 1..256"};
  }
  if (options.piece_bytes == 0) {
    return Error{ErrorCode::kInvalidArgument, "copy piece of 0 bytes"};
  }
  if (options.background_nice < 0 || options.background_nice > 19) {
    return Error{ErrorCode::kInvalidArgument, "nice value of the store threads must be 0..19"};
  }
  auto pool = std::make_unique<detail::CopyPool>(options);
  LMC_TRY(pool->start());
  return std::unique_ptr<HostCopier>{new HostCopier{std::move(pool)}};
}

HostCopier::HostCopier(std::unique_ptr<detail::CopyPool> pool) : pool_{std::move(pool)} {}

HostCopier::~HostCopier() = default;

Result<CopyTicket> HostCopier::do_submit(CopyBatch batch) {
  return pool_->submit(std::move(batch));
}

std::optional<CopyProgress> HostCopier::do_progress(CopyTicket ticket) const {
  return pool_->progress(ticket);
}

CopyStatus HostCopier::do_item_status(CopyTicket ticket, std::uint32_t item) const {
  return pool_->item_status(ticket, item);
}

std::optional<CopyProgress> HostCopier::do_wait(CopyTicket ticket, std::uint32_t planes,
                                                CopyDeadline deadline) {
  return pool_->wait(ticket, planes, deadline);
}

Result<bool> HostCopier::do_stream_wait(CopyTicket ticket, std::uint32_t planes, EngineStream,
                                        CopyDeadline deadline) {
  return wait_planes(ticket, planes, deadline);
}

void HostCopier::do_cancel(CopyTicket ticket) { pool_->cancel(ticket); }

void HostCopier::do_retire(CopyTicket ticket) { pool_->retire(ticket); }

}  // namespace lmcache
