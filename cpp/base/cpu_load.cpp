// SPDX-License-Identifier: Apache-2.0
#include <lmcache/base/cpu_load.hpp>

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <charconv>

#include <lmcache/base/unique_fd.hpp>

namespace lmcache {

std::optional<std::uint32_t> runnable_threads(std::string_view loadavg) noexcept {
  constexpr int kAverages = 3;
  for (int i = 0; i < kAverages; ++i) {
    auto const space = loadavg.find(' ');
    if (space == loadavg.npos) return std::nullopt;
    loadavg.remove_prefix(space + 1);
  }
  std::uint32_t threads = 0;
  auto const* const end = loadavg.data() + loadavg.size();
  auto const [after, error] = std::from_chars(loadavg.data(), end, threads);
  // Who asks runs: 0 is the answer of a system that does not count.
  bool const good = error == std::errc{} && after != end && *after == '/' && threads != 0;
  return good ? std::optional{threads} : std::nullopt;
}

bool cpus_are_wanted() noexcept {
  UniqueFd const file{::open("/proc/loadavg", O_RDONLY | O_CLOEXEC)};
  std::array<char, 128> text;
  auto const bytes = file ? ::read(file.get(), text.data(), text.size()) : 0;
  if (bytes <= 0) return false;
  auto const threads = runnable_threads({text.data(), static_cast<std::size_t>(bytes)});
  auto const cpus = ::sysconf(_SC_NPROCESSORS_ONLN);
  return threads && cpus > 0 && *threads > static_cast<std::uint64_t>(cpus);
}

}  // namespace lmcache
