// SPDX-License-Identifier: Apache-2.0
#include "io/uring_tables.hpp"

#include <sys/resource.h>

#include <lmcache/io/io_engine.hpp>

#include "io/uring_ring.hpp"
#include "io_scene.hpp"

namespace lmcache::detail {
namespace {

using test::kMiB;
using test::must;

class UringTables : public ::testing::Test {
 protected:
  void SetUp() override {
    if (auto const why = uring_refusal(); !why.empty()) GTEST_SKIP() << why;
    ring.emplace(must(UringRing::create(8)));
  }
  io_uring& get() { return ring->get(); }
  std::optional<UringRing> ring;
};

TEST_F(UringTables, FilesComeAndGo) {
  UringFiles files{get(), true};
  ASSERT_TRUE(files.has_table());
  files.set({3}, {.fd = 1, .alignment_bytes = 512});
  EXPECT_TRUE(files.find({3}).registered);
  EXPECT_EQ(files.find({3}).fd, 3);  // its place
  EXPECT_EQ(files.find({3}).alignment_bytes, 512U);
  for (IoFile const other : {IoFile{0}, IoFile{4}, IoFile{}}) EXPECT_EQ(files.find(other).fd, -1);
  files.set({3}, {});
  EXPECT_EQ(files.find({3}).fd, -1);
  EXPECT_FALSE(files.find({3}).registered);
  files.set({3}, {.fd = 1});
  EXPECT_TRUE(files.find({3}).registered);
}

TEST_F(UringTables, BadDescriptorStaysOutside) {
  UringFiles files{get(), true};
  files.set({0}, {.fd = 1'000'000});
  EXPECT_FALSE(files.find({0}).registered);
  EXPECT_EQ(files.find({0}).fd, 1'000'000);
}

TEST_F(UringTables, FilesWithoutATable) {
  UringFiles files{get(), false};
  EXPECT_FALSE(files.has_table());
  files.set({0}, {.fd = 1});
  EXPECT_FALSE(files.find({0}).registered);
  EXPECT_EQ(files.find({0}).fd, 1);
}

// The kernel takes no table that is longer than the limit of open files.
TEST_F(UringTables, FilesBeyondTheTableAreUsedThePlainWay) {
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit const few{.rlim_cur = 40, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
  UringFiles files{get(), true};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_TRUE(files.has_table());
  files.set({39}, {.fd = 1});
  files.set({40}, {.fd = 1});
  EXPECT_TRUE(files.find({39}).registered);
  EXPECT_FALSE(files.find({40}).registered);
  EXPECT_EQ(files.find({40}).fd, 1);
}

TEST_F(UringTables, MemoryIsFoundWhenAllOfItIsInOnePart) {
  test::PageMemory const memory{kMiB};
  UringMemory table{get(), true};
  table.add({memory.data() + 4096, kMiB - 4096});
  EXPECT_EQ(table.find(memory.data() + 4096, 1), std::nullopt);  // not yet
  ASSERT_TRUE(table.has_waiting());
  table.register_next();
  EXPECT_FALSE(table.has_waiting());
  if (table.registered_parts() == 0) GTEST_SKIP() << "this kernel registers no memory";
  EXPECT_EQ(table.find(memory.data() + 4096, kMiB - 4096), 0);
  EXPECT_EQ(table.find(memory.data() + 8192, 10), 0);
  EXPECT_EQ(table.find(memory.data() + kMiB - 1, 1), 0);
  EXPECT_EQ(table.find(memory.data(), 8192), std::nullopt);
  EXPECT_EQ(table.find(memory.data() + 8192, kMiB - 8191), std::nullopt);
  EXPECT_EQ(table.find(memory.data() + kMiB, 1), std::nullopt);
}

TEST_F(UringTables, MemoryIsCutIntoParts) {
  // Address space only until it is registered; that of two parts would be too much for a test.
  constexpr auto kPart = static_cast<std::size_t>(UringMemory::kPartBytes);
  test::PageMemory const memory{2 * kPart};
  UringMemory table{get(), true};
  table.add({memory.data() + 2 * kPart - kMiB, kMiB});
  table.add({memory.data(), kPart + 1});
  table.register_next();
  EXPECT_TRUE(table.has_waiting());
  if (table.registered_parts() == 0) GTEST_SKIP() << "this kernel registers no memory";
  EXPECT_EQ(table.find(memory.data() + 2 * kPart - kMiB, kMiB), 0);
  EXPECT_EQ(table.find(memory.data(), 1), std::nullopt);
}

TEST_F(UringTables, SameMemoryTwiceIsOnePart) {
  test::PageMemory const memory{kMiB};
  UringMemory table{get(), true};
  for (int i = 0; i < 3; ++i) table.add({memory.data(), kMiB});
  while (table.has_waiting()) table.register_next();
  EXPECT_LE(table.registered_parts(), 1U);
}

TEST_F(UringTables, MemoryThatIsRefusedEndsTheTrying) {
  UringMemory table{get(), true};
  test::PageMemory const memory{kMiB};
  // Where nothing is mapped.
  std::byte* const nowhere = reinterpret_cast<std::byte*>(0x1000);
  table.add({nowhere, 4096});
  table.add({memory.data(), kMiB});
  table.register_next();
  EXPECT_FALSE(table.has_waiting());
  EXPECT_EQ(table.registered_parts(), 0U);
}

TEST_F(UringTables, MemoryWithoutATable) {
  UringMemory table{get(), false};
  std::byte memory[8];
  table.add(memory);
  EXPECT_FALSE(table.has_waiting());
}

}  // namespace
}  // namespace lmcache::detail
