// SPDX-License-Identifier: Apache-2.0
#include <lmcache/memory/process_table.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include <lmcache/base/fixed_text.hpp>
#include <lmcache/memory/process_identity.hpp>

namespace lmcache {
namespace {

// Byte-range locks may lie beyond the end of the file, where they disturb nobody.
constexpr off_t kLockBase = off_t{1} << 60;

struct flock byte_lock(std::uint32_t index, short type) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = kLockBase + index;
  lock.l_len = 1;
  return lock;
}

}  // namespace

void RemoteGauges::set_last_error(std::string_view text) noexcept {
  for (auto& word : last_error) {
    std::uint64_t value = 0;
    auto const part = text.substr(0, sizeof value);
    std::memcpy(&value, part.data(), part.size());
    word.store(value, std::memory_order_relaxed);
    text.remove_prefix(part.size());
  }
}

std::string RemoteGauges::last_error_text() const {
  std::string out(sizeof last_error, '\0');
  for (std::size_t i = 0; i < last_error.size(); ++i) {
    std::uint64_t const value = last_error[i].load(std::memory_order_relaxed);
    std::memcpy(out.data() + i * sizeof value, &value, sizeof value);
  }
  return out.substr(0, out.find('\0'));
}

ProcessTable::ProcessTable(std::span<std::byte> region, int segment_fd) noexcept
    : records_{reinterpret_cast<ProcessRecord*>(region.data()), kMaxProcesses}, fd_{segment_fd} {}

Result<std::uint32_t> ProcessTable::claim(Claim const& claim) {
  for (std::uint32_t index = 0; index < kMaxProcesses; ++index) {
    auto& record = records_[index];
    if (record.attached.load(std::memory_order_relaxed) != 0) continue;
    // An open-file-description lock belongs to this mapping of the segment, not to the process: two
    // engines in one process do not undo each other's.
    auto lock = byte_lock(index, F_WRLCK);
    if (::fcntl(fd_, F_OFD_SETLK, &lock) != 0) {
      if (errno == EAGAIN || errno == EACCES) continue;  // a forked child of a dead owner holds it
      return Error{ErrorCode::kIo,
                   std::string{"cannot lock the segment file: "} + std::strerror(errno), errno};
    }
    record.pid = ::getpid();
    auto const since = running_since(record.pid);
    bool const known = since && since.value().has_value();
    record.start_ticks = known ? *since.value() : 0;
    record.pid_namespace = known ? own_pid_namespace() : 0;
    record.attached_unix_s = claim.now_unix_s;
    copy_text(record.role, claim.role);
    copy_text(record.instance_id, claim.instance_id);
    std::memset(static_cast<void*>(&record.counters), 0, sizeof record.counters);
    std::memset(static_cast<void*>(&record.remote), 0, sizeof record.remote);
    std::memset(static_cast<void*>(&record.device), 0, sizeof record.device);
    std::memset(static_cast<void*>(&record.latencies), 0, sizeof record.latencies);
    record.attached.store(1, std::memory_order_release);
    own_ |= std::uint64_t{1} << index;
    return index;
  }
  return Error{ErrorCode::kUnavailable,
               "the segment has " + std::to_string(kMaxProcesses) + " processes attached already"};
}

void ProcessTable::release(std::uint32_t index) noexcept {
  records_[index].attached.store(0, std::memory_order_release);
  // Written by its owner only: alive() reads it without the lock.
  if (claimed_here(index)) own_ &= ~(std::uint64_t{1} << index);
  auto lock = byte_lock(index, F_UNLCK);
  ::fcntl(fd_, F_OFD_SETLK, &lock);  // fails harmlessly when the lock is a dead process's
}

bool ProcessTable::attached(std::uint32_t index) const noexcept {
  return records_[index].attached.load(std::memory_order_acquire) != 0;
}

bool ProcessTable::alive(std::uint32_t index) const noexcept {
  auto const& record = records_[index];
  if (!attached(index)) return false;
  if (claimed_here(index)) return true;
  if (record.pid_namespace != 0 && record.pid_namespace == own_pid_namespace()) {
    if (auto const since = running_since(record.pid)) return since.value() == record.start_ticks;
  }
  auto lock = byte_lock(index, F_WRLCK);
  if (::fcntl(fd_, F_OFD_GETLK, &lock) != 0) return true;  // cannot tell: never reap the living
  return lock.l_type != F_UNLCK;
}

std::uint32_t ProcessTable::attached_count() const noexcept {
  return static_cast<std::uint32_t>(
      std::count_if(records_.begin(), records_.end(),
                    [](auto const& record) { return record.attached.load() != 0; }));
}

}  // namespace lmcache
