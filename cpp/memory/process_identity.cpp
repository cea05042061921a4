// SPDX-License-Identifier: Apache-2.0
#include <lmcache/memory/process_identity.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>

#include <lmcache/base/unique_fd.hpp>

namespace lmcache {
namespace {

// Fields of /proc/<pid>/stat, counted from the one behind the name (the state).
constexpr int kThreadsField = 17;
constexpr int kStartTimeField = 19;

std::optional<std::uint64_t> field_of(char const* state, int field) {
  char const* cursor = state;
  for (int i = 0; i < field; ++i) {
    cursor = std::strchr(cursor, ' ');
    if (cursor == nullptr) return std::nullopt;
    ++cursor;
  }
  return std::strtoull(cursor, nullptr, 10);
}

}  // namespace

Result<std::optional<std::uint64_t>> running_since(std::int32_t pid) {
  auto const nobody = std::optional<std::uint64_t>{};
  auto const unknown = [](int os_error) {
    return Error{ErrorCode::kUnavailable,
                 std::string{"/proc/<pid>/stat: "} + std::strerror(os_error), os_error};
  };
  std::string const path = "/proc/" + std::to_string(pid) + "/stat";
  UniqueFd const fd{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!fd) {
    if (errno == ENOENT || errno == ESRCH) return nobody;
    return unknown(errno);
  }
  std::array<char, 1024> text{};
  ssize_t length = 0;
  while ((length = ::read(fd.get(), text.data(), text.size() - 1)) < 0 && errno == EINTR) {
  }
  if (length < 0) {
    if (errno == ESRCH) return nobody;
    return unknown(errno);
  }
  // "pid (name) state ppid ...": the name may hold anything, so count from the last ')'.
  char const* state = std::strrchr(text.data(), ')');
  if (state == nullptr || state[1] == '\0') return unknown(EPROTO);
  state += 2;
  auto const threads = field_of(state, kThreadsField);
  auto const start = field_of(state, kStartTimeField);
  if (!threads || !start) return unknown(EPROTO);
  if (*state == 'X' || (*state == 'Z' && *threads <= 1)) return nobody;
  return start;
}

std::uint64_t own_pid_namespace() noexcept {
  // A /proc that was mounted outside resolves "self" too, but to another number than ours.
  std::array<char, 16> self{};
  if (::readlink("/proc/self", self.data(), self.size() - 1) <= 0) return 0;
  if (std::strtol(self.data(), nullptr, 10) != ::getpid()) return 0;
  struct stat info{};
  return ::stat("/proc/self/ns/pid", &info) == 0 ? info.st_ino : 0;
}

}  // namespace lmcache
