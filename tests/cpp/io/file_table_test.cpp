// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/file_table.hpp>

#include <gtest/gtest.h>

#include "support/must.hpp"

namespace lmcache::detail {
namespace {

using test::must;

TEST(FileTable, GivesTheLowestFreeNumber) {
  FileTable table;
  for (std::uint32_t i = 0; i < 6; ++i) {
    EXPECT_EQ(must(table.add({.fd = static_cast<int>(10 + i)})), IoFile{i});
  }
  for (std::uint32_t const number : {4U, 1U, 3U}) table.remove({number});
  EXPECT_EQ(must(table.add({.fd = 20})), IoFile{1});
  EXPECT_EQ(must(table.add({.fd = 21})), IoFile{3});
  table.remove({0});
  EXPECT_EQ(must(table.add({.fd = 22})), IoFile{0});
  EXPECT_EQ(must(table.add({.fd = 23})), IoFile{4});
  EXPECT_EQ(must(table.add({.fd = 24})), IoFile{6});
}

TEST(FileTable, FindsWhatIsThere) {
  FileTable table;
  IoFile const file = must(table.add({.fd = 7, .alignment_bytes = 512}));
  EXPECT_EQ(table.find(file).fd, 7);
  EXPECT_EQ(table.find(file).alignment_bytes, 512U);
  table.remove(file);
  EXPECT_EQ(table.find(file).fd, -1);
  EXPECT_EQ(table.find({1}).fd, -1);
  EXPECT_EQ(table.find({}).fd, -1);
}

TEST(FileTable, RemovingTwiceOrNothingHasNoEffect) {
  FileTable table;
  IoFile const file = must(table.add({.fd = 7}));
  table.remove(file);
  table.remove(file);
  table.remove({99});
  table.remove({});
  EXPECT_EQ(must(table.add({.fd = 8})), IoFile{0});
  EXPECT_EQ(must(table.add({.fd = 9})), IoFile{1});
}

TEST(FileTable, IsFullAtItsLimit) {
  FileTable table;
  for (std::uint32_t i = 0; i < FileTable::kMostFiles; ++i) (void)must(table.add({.fd = 1}));
  auto const refused = table.add({.fd = 1});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kOutOfMemory);
  table.remove({77});
  EXPECT_EQ(must(table.add({.fd = 1})), IoFile{77});
}

// A descriptor that is none takes a number all the same: its requests fail, not add_file().
TEST(FileTable, BadDescriptor) {
  FileTable table;
  IoFile const file = must(table.add({.fd = -1}));
  EXPECT_EQ(table.find(file).fd, -1);
}

}  // namespace
}  // namespace lmcache::detail
