// SPDX-License-Identifier: Apache-2.0
// Folders of a test's own: on the node's shared memory file system, or a file system made for the
// test.
#pragma once

#include <gtest/gtest.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>

namespace lmcache::test {

// Has a name of its own; goes with all that lies in it.
class TempDirectory {
 public:
  TempDirectory() {
    // Segments belong on a tmpfs; without one any file system will do.
    for (std::string base : {std::string{"/dev/shm/"}, testing::TempDir()}) {
      std::string pattern = base + "lmcache-test-XXXXXX";
      if (::mkdtemp(pattern.data()) == nullptr) continue;
      path_ = pattern;
      return;
    }
    ADD_FAILURE() << "no temporary directory: " << std::strerror(errno);
  }
  TempDirectory(TempDirectory const&) = delete;
  TempDirectory& operator=(TempDirectory const&) = delete;
  ~TempDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] std::string const& path() const noexcept { return path_; }
  [[nodiscard]] std::string operator/(std::string const& name) const { return path_ + "/" + name; }
  [[nodiscard]] std::size_t file_count() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator{path_},
                                                  std::filesystem::directory_iterator{}));
  }

 private:
  std::string path_;
};

// A file system mounted where only this process sees it, so that it goes with the process at the
// latest. Needs the right to mount; why() says what is missing.
class TempMount {
 public:
  struct Kind {
    char const* type;
    char const* options;
  };
  explicit TempMount(Kind kind) {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("lmcache-test", directory_.path().c_str(), kind.type, MS_NOSUID | MS_NODEV,
                kind.options) != 0) {
      why_ = std::string{"cannot mount a "} + kind.type + ": " + std::strerror(errno);
    }
  }
  TempMount(TempMount const&) = delete;
  TempMount& operator=(TempMount const&) = delete;
  ~TempMount() {
    if (why_.empty()) ::umount2(directory_.path().c_str(), MNT_DETACH);
  }

  [[nodiscard]] explicit operator bool() const noexcept { return why_.empty(); }
  [[nodiscard]] std::string const& why() const noexcept { return why_; }
  [[nodiscard]] TempDirectory const& directory() const noexcept { return directory_; }

 private:
  TempDirectory directory_;
  std::string why_;
};

}  // namespace lmcache::test
