// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include <gtest/gtest.h>

#include <lmcache/base/unique_fd.hpp>
#include <lmcache/tier/disk/volume.hpp>

#include "support/directory_invariants.hpp"
#include "support/volume_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint64_t kSlot = 256u << 10;

class IndexRepair : public testing::Test {
 protected:
  void SetUp() override {
    scene_.make_files = true;
    scene_.open();
    for (std::uint64_t seed = 0; seed < 4; ++seed) ASSERT_TRUE(scene_.put(seed, kSlot));
  }
  [[nodiscard]] UniqueFd index() const {
    return UniqueFd{::open((scene_.path() + "/index").c_str(), O_RDWR)};
  }
  void damage(std::uint32_t number) const {
    char byte = 0;
    auto const at = static_cast<off_t>(index_offset(number) + 8);
    ASSERT_EQ(::pread(index().get(), &byte, 1, at), 1);
    byte = static_cast<char>(byte ^ 1);
    ASSERT_EQ(::pwrite(index().get(), &byte, 1, at), 1);
  }
  [[nodiscard]] bool is_damaged(std::uint32_t number) const {
    std::array<std::byte, sizeof(IndexRecord)> bytes{};
    EXPECT_EQ(::pread(index().get(), bytes.data(), bytes.size(),
                      static_cast<off_t>(index_offset(number))),
              static_cast<ssize_t>(bytes.size()));
    std::uint64_t damaged = 0;
    (void)parse_index_record(bytes, number, damaged);
    return damaged != 0;
  }
  [[nodiscard]] std::uint64_t repair() {
    return must(repair_index(scene_.state(), scene_.files()));
  }

  VolumeScene scene_{8u << 20};
};

TEST_F(IndexRepair, NothingIsDoneWhereNothingIsWrong) {
  EXPECT_EQ(repair(), 0u);
  scene_.close();
  scene_.open();
  for (std::uint64_t seed = 0; seed < 4; ++seed) EXPECT_TRUE(scene_.has(seed)) << seed;
}

TEST_F(IndexRepair, RecordsWithoutAChunkAreFreed) {
  std::uint32_t const beyond = scene_.state().space.entry_limit + 3;
  std::uint32_t const last = static_cast<std::uint32_t>(scene_.state().entries.size()) - 1;
  for (std::uint32_t const number : {beyond, last}) damage(number);
  EXPECT_EQ(repair(), 2u);
  for (std::uint32_t const number : {beyond, last}) EXPECT_FALSE(is_damaged(number)) << number;
  EXPECT_EQ(repair(), 0u);
}

// The chunk is there, whatever its record looks like: its entry is what counts.
TEST_F(IndexRepair, ThatOfAChunkIsLeftAlone) {
  damage(0);
  EXPECT_EQ(repair(), 0u);
  EXPECT_TRUE(is_damaged(0));
}

TEST_F(IndexRepair, WhatLoadingDroppedIsFreeAfterTheNextUser) {
  scene_.close();
  damage(1);
  scene_.options.purpose = VolumeOptions::Purpose::kLook;
  scene_.open();
  EXPECT_TRUE(is_damaged(1)) << "who only looks changes nothing";
  EXPECT_EQ(scene_.directory().use().damaged_records, 1u);
  scene_.close();
  scene_.options.purpose = VolumeOptions::Purpose::kUse;
  scene_.open();
  EXPECT_FALSE(is_damaged(1));
  EXPECT_EQ(scene_.directory().use().damaged_records, 1u) << "it is told of, once";
  EXPECT_TRUE(directory_is_sound(scene_.state()));
  scene_.close();
  scene_.open();
  EXPECT_EQ(scene_.directory().use().damaged_records, 0u);
  EXPECT_EQ(scene_.directory().use().chunks, 3u);
}

}  // namespace
}  // namespace lmcache::test
