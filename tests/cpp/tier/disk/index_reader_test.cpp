// SPDX-License-Identifier: Apache-2.0
#include "tier/disk/index_reader.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <lmcache/base/unique_fd.hpp>
#include <lmcache/io/io_file.hpp>

#include "support/temp_directory.hpp"

namespace lmcache::test {
namespace {

using detail::IndexReader;
constexpr std::uint64_t kPiece = IndexReader::kPieceBytes;

class Reading : public testing::TestWithParam<bool> {
 protected:
  // A file of words that are all different.
  void write_file(std::uint64_t size_bytes) {
    content_.resize(size_bytes);
    for (std::uint64_t at = 0; at + 8 <= size_bytes; at += 8) {
      std::uint64_t const word = at * 0x9E3779B185EBCA87;
      std::memcpy(content_.data() + at, &word, sizeof word);
    }
    std::string const path = directory_.path() + "/index";
    fd_ = UniqueFd{::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)};
    ASSERT_EQ(::pwrite(fd_.get(), content_.data(), size_bytes, 0),
              static_cast<ssize_t>(size_bytes));
    ASSERT_EQ(::fsync(fd_.get()), 0);
    ::posix_fadvise(fd_.get(), 0, 0, POSIX_FADV_DONTNEED);
    auto direct = open_io_file(
        AT_FDCWD, path,
        {.access = IoAccess::kRead, .create = IoCreate::kExisting, .caching = IoCaching::kDirect});
    ASSERT_TRUE(direct);
    if (GetParam() && direct.value().direct) direct_ = std::move(direct.value().fd);
  }
  [[nodiscard]] IndexReader::Source source(std::uint64_t size_bytes) const {
    return {.fd = fd_.get(), .direct_fd = direct_ ? direct_.get() : -1, .size_bytes = size_bytes};
  }
  void expect_all(IndexReader& reader, std::uint64_t size_bytes) {
    for (std::uint64_t at = 0; at < size_bytes;) {
      auto const piece = reader.next();
      ASSERT_TRUE(piece) << piece.error().message();
      ASSERT_EQ(piece.value().size(), std::min(kPiece, size_bytes - at)) << at;
      ASSERT_EQ(std::memcmp(piece.value().data(), content_.data() + at, piece.value().size()), 0);
      at += piece.value().size();
    }
    auto const end = reader.next();
    ASSERT_TRUE(end);
    EXPECT_TRUE(end.value().empty());
  }

  TempDirectory directory_;
  std::vector<std::byte> content_;
  UniqueFd fd_;
  UniqueFd direct_;
};

TEST_P(Reading, ASmallFileComesWithoutAThread) {
  write_file(kPiece + 4096);
  IndexReader reader{source(kPiece + 4096)};
  expect_all(reader, kPiece + 4096);
}

TEST_P(Reading, ALargeFileComesInOrder) {
  constexpr std::uint64_t kSize = 11 * kPiece + 12288;
  write_file(kSize);
  IndexReader reader{source(kSize)};
  expect_all(reader, kSize);
}

TEST_P(Reading, AFileThatIsShorterThanItShouldBeEndsWhereItEnds) {
  write_file(5 * kPiece + 4096);
  IndexReader reader{source(20 * kPiece)};
  expect_all(reader, 5 * kPiece + 4096);
}

TEST_P(Reading, WhatIsInThePageCacheIsNotOlderThanWhatWasWritten) {
  constexpr std::uint64_t kSize = 8 * kPiece;
  write_file(kSize);
  std::uint64_t const word = 42;
  for (std::uint64_t at = 0; at < kSize; at += kPiece / 2) {  // dirty pages among others
    std::memcpy(content_.data() + at, &word, sizeof word);
    ASSERT_EQ(::pwrite(fd_.get(), &word, sizeof word, static_cast<off_t>(at)), 8);
  }
  IndexReader reader{source(kSize)};
  expect_all(reader, kSize);
}

TEST_P(Reading, WhoStopsEarlyWaitsForNothing) {
  write_file(16 * kPiece);
  IndexReader reader{source(16 * kPiece)};
  ASSERT_TRUE(reader.next());
}

TEST_P(Reading, AnErrorIsTold) {
  UniqueFd const folder{::open(directory_.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  IndexReader reader{{.fd = folder.get(), .direct_fd = -1, .size_bytes = 16 * kPiece}};
  auto const piece = reader.next();
  ASSERT_FALSE(piece);
  EXPECT_EQ(piece.error().os_error(), EISDIR);
}

INSTANTIATE_TEST_SUITE_P(ThroughAndPastTheCache, Reading, testing::Bool(),
                         [](auto const& it) { return it.param ? "direct" : "buffered"; });

}  // namespace
}  // namespace lmcache::test
