// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/disk/slab_cache.hpp>

#include <utility>

namespace lmcache {

SlabCache::~SlabCache() {
  if (io_ == nullptr) return;
  for (auto const& [slab, open] : open_) io_->remove_file(open.file);
}

void SlabCache::forget_io() noexcept {
  std::lock_guard const lock{mutex_};
  io_ = nullptr;
}

Result<SlabCache::Slab> SlabCache::get(DiskPlace const& place) {
  std::lock_guard const lock{mutex_};
  auto const known = open_.find(place.slab);
  if (known != open_.end() && known->second.incarnation == place.incarnation) {
    auto const& open = known->second;
    return Slab{.file = open.file, .fd = open.opened.fd.get(), .direct = open.opened.direct};
  }
  if (io_ == nullptr) return Error{ErrorCode::kUnavailable, "the disk cache is closed"};
  if (known != open_.end()) {
    io_->remove_file(known->second.file);
    open_.erase(known);
  }
  auto const caching = goes_direct(place.slot_bytes) ? IoCaching::kDirect : IoCaching::kBuffered;
  LMC_TRY_ASSIGN(auto opened, files_.open_slab(place.folder, place.slab, caching));
  if (opened.direct && opened.alignment_bytes > kDiskPageBytes) {
    LMC_TRY_ASSIGN(opened, files_.open_slab(place.folder, place.slab, IoCaching::kBuffered));
  }
  if (caching == IoCaching::kDirect && !opened.direct) fell_back_.store(true);
  LMC_TRY_ASSIGN(IoFile const file, io_->add_file(opened.fd.get()));
  Slab const out{.file = file, .fd = opened.fd.get(), .direct = opened.direct};
  open_.emplace(place.slab,
                Open{.incarnation = place.incarnation, .opened = std::move(opened), .file = file});
  return out;
}

}  // namespace lmcache
