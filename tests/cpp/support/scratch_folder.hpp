// SPDX-License-Identifier: Apache-2.0
// A folder of its own for the segments of one test, in shared memory where there is some.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace lmcache::test {

class ScratchFolder {
 public:
  ScratchFolder() : path_{make("/dev/shm")} {
    if (path_.empty()) path_ = make("/tmp");
  }
  ScratchFolder(ScratchFolder const&) = delete;
  ScratchFolder& operator=(ScratchFolder const&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] std::string const& path() const { return path_; }
  [[nodiscard]] std::size_t file_count() const {
    std::size_t files = 0;
    for ([[maybe_unused]] auto const& file : std::filesystem::directory_iterator{path_}) ++files;
    return files;
  }

 private:
  static std::string make(std::string parent) {
    std::string name = parent + "/lmcache-test-XXXXXX";
    return ::mkdtemp(name.data()) == nullptr ? std::string{} : name;
  }

  std::string path_;
};

}  // namespace lmcache::test
