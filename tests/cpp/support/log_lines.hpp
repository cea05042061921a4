// SPDX-License-Identifier: Apache-2.0
// Keeps the log lines of an engine for a test to read.
#pragma once

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <lmcache/base/log.hpp>

namespace lmcache::test {

// Thread-safe. Its hook may outlive it.
class LogLines {
 public:
  [[nodiscard]] LogHook hook() const {
    return [kept = kept_](LogLevel, std::string_view line) {
      std::lock_guard const lock{kept->mutex};
      kept->lines.emplace_back(line);
    };
  }
  [[nodiscard]] std::vector<std::string> lines() const {
    std::lock_guard const lock{kept_->mutex};
    return kept_->lines;
  }
  [[nodiscard]] std::size_t count(std::string_view part) const {
    auto const all = lines();
    return static_cast<std::size_t>(std::ranges::count_if(
        all, [&](std::string const& line) { return line.find(part) != std::string::npos; }));
  }

 private:
  struct Kept {
    std::mutex mutex;
    std::vector<std::string> lines;
  };
  std::shared_ptr<Kept> kept_ = std::make_shared<Kept>();
};

}  // namespace lmcache::test
