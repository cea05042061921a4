// SPDX-License-Identifier: Apache-2.0
#include <lmcache/memory/process_identity.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include <lmcache/base/unique_fd.hpp>

namespace lmcache {

std::optional<std::uint64_t> running_since(std::int32_t pid) noexcept {
  std::array<char, 64> path{};
  std::snprintf(path.data(), path.size(), "/proc/%d/stat", pid);
  UniqueFd const fd{::open(path.data(), O_RDONLY | O_CLOEXEC)};
  if (!fd) return std::nullopt;
  std::array<char, 1024> text{};
  ssize_t const length = ::read(fd.get(), text.data(), text.size() - 1);
  if (length <= 0) return std::nullopt;
  // "pid (name) state ppid ...": the name may hold anything, so count from the last ')'.
  char const* cursor = std::strrchr(text.data(), ')');
  if (cursor == nullptr || cursor[1] == '\0') return std::nullopt;
  cursor += 2;
  if (*cursor == 'Z' || *cursor == 'X') return std::nullopt;
  constexpr int kFieldsFromStateToStartTime = 19;
  for (int field = 0; field < kFieldsFromStateToStartTime; ++field) {
    cursor = std::strchr(cursor, ' ');
    if (cursor == nullptr) return std::nullopt;
    ++cursor;
  }
  return std::strtoull(cursor, nullptr, 10);
}

std::uint64_t own_pid_namespace() noexcept {
  struct stat info{};
  return ::stat("/proc/self/ns/pid", &info) == 0 ? info.st_ino : 0;
}

}  // namespace lmcache
