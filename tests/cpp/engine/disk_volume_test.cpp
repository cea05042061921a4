// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/disk_volume.hpp>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "engine/shared_scene.hpp"
#include "support/disk_engine_scene.hpp"
#include "support/disk_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint64_t kPayload = 200'000;

class Volume : public testing::Test {
 protected:
  [[nodiscard]] std::unique_ptr<DiskVolume> open(bool existing_only) const {
    return must(DiskVolume::open({.folders = {folder_ / "disk"},
                                  .limit_bytes = 32u << 20,
                                  .memory_folder = folder_.path(),
                                  .existing_only = existing_only},
                                 {}));
  }
  [[nodiscard]] DiskSlots slots() const {
    return {.data = memory_.data(), .slot_bytes = slot_bytes_, .payload_bytes = kPayload};
  }
  // Every byte of the slots but their headers.
  void fill(int value) { std::memset(memory_.data(), value, memory_.size_bytes()); }
  [[nodiscard]] bool holds(std::size_t slot, int value) const {
    auto const* const payload = memory_.data() + slot * slot_bytes_ + sizeof(ChunkHeader);
    return payload[0] == std::byte(value) && payload[kPayload - 1] == std::byte(value);
  }

  TempDirectory folder_;
  std::uint64_t slot_bytes_ = disk_slot_bytes(record_bytes(kPayload, 0));
  SlotMemory memory_{8 * slot_bytes_};
  std::vector<ChunkKey> keys_ = [] {
    std::vector<ChunkKey> out;
    for (std::uint64_t i = 0; i < 8; ++i) out.push_back(disk_key(i));
    return out;
  }();
};

TEST_F(Volume, WritesAndReadsABatch) {
  auto const volume = open(false);
  fill(7);
  EXPECT_EQ(volume->write(keys_, slots()), 8u);
  EXPECT_EQ(volume->write(keys_, slots()), 0u);  // they are there already
  EXPECT_EQ(volume->find(keys_), 8u);
  fill(0);
  EXPECT_EQ(volume->read(keys_, slots()), 8u);
  for (std::size_t i = 0; i < 8; ++i) EXPECT_TRUE(holds(i, 7)) << i;
  EXPECT_EQ(volume->read({}, slots()), 0u);
}

TEST_F(Volume, OneThatIsNotThereIsNotMade) {
  auto const opened =
      DiskVolume::open({.folders = {folder_ / "disk"}, .memory_folder = folder_.path()}, {});
  ASSERT_FALSE(opened.has_value());
  EXPECT_EQ(opened.error().code(), ErrorCode::kUnavailable);
  EXPECT_FALSE(std::filesystem::exists(folder_ / "disk"));
}

TEST_F(Volume, ScrubFindsWhatWasDamagedAndForgetsIt) {
  fill(7);
  EXPECT_EQ(open(false)->write(keys_, slots()), 8u);
  for (auto const& entry : std::filesystem::directory_iterator{folder_ / "disk"}) {
    if (entry.path().filename().string() != "slab-0") continue;
    std::fstream slab{entry.path(), std::ios::in | std::ios::out | std::ios::binary};
    slab.seekp(static_cast<std::streamoff>(slot_bytes_ + 100'000));
    slab.put(8);
  }
  auto const volume = open(true);
  std::vector<std::uint64_t> steps;
  auto const report = volume->scrub([&](ScrubReport const& so_far, std::uint64_t total) {
    steps.push_back(so_far.chunks);
    EXPECT_EQ(total, 8u);
    return true;
  });
  EXPECT_TRUE(report.complete);
  EXPECT_EQ(report.chunks, 8u);
  EXPECT_EQ(report.corrupt, 1u);
  ASSERT_EQ(report.damage.size(), 1u);
  EXPECT_EQ(report.damage[0].folder, folder_ / "disk");
  EXPECT_EQ(report.damage[0].slab, 0u);
  EXPECT_EQ(report.damage[0].offset, slot_bytes_);
  EXPECT_TRUE(report.damage[0].corrupt);
  EXPECT_EQ(steps.back(), 8u);
  auto const again = volume->scrub([](ScrubReport const&, std::uint64_t) { return true; });
  EXPECT_EQ(again.chunks, 7u);
  EXPECT_EQ(again.corrupt, 0u);
}

// Changes a byte of that record of the index.
void damage_record(std::string const& folder, std::uint32_t number) {
  std::fstream index{folder + "/index", std::ios::in | std::ios::out | std::ios::binary};
  index.seekg(static_cast<std::streamoff>(number * sizeof(IndexRecord) + 8));
  auto const byte = static_cast<char>(index.get());
  index.seekp(static_cast<std::streamoff>(number * sizeof(IndexRecord) + 8));
  index.put(static_cast<char>(byte ^ 1));
}

TEST_F(Volume, ADamagedRecordIsFoundByOneScrubAndFreeAfterIt) {
  auto const scrub = [](DiskVolume& volume) {
    return volume.scrub([](ScrubReport const&, std::uint64_t) { return true; }).damaged_records;
  };
  fill(7);
  EXPECT_EQ(open(false)->write(keys_, slots()), 8u);
  damage_record(folder_ / "disk", 2);
  EXPECT_EQ(open(true)->tier().status().use.damaged_records, 1u) << "to look changes nothing";
  EXPECT_EQ(scrub(*open(true)), 1u);
  EXPECT_EQ(scrub(*open(true)), 0u);
  EXPECT_EQ(open(true)->find(keys_), 7u);

  // Beside one who uses it, which makes it free itself, and tells of it until somebody scrubs.
  damage_record(folder_ / "disk", 3);
  auto user = open(false);
  EXPECT_EQ(scrub(*open(true)), 1u);
  EXPECT_EQ(scrub(*open(true)), 0u);
  EXPECT_EQ(user->tier().status().use.damaged_records, 0u);
  user.reset();
  damage_record(folder_ / "disk", 4);
  (void)open(false);
  EXPECT_EQ(scrub(*open(true)), 0u) << "who used it made it free";

  damage_record(folder_ / "disk", 5);
  user = open(false);
  EXPECT_EQ(user->tier().status().use.damaged_records, 1u);
  EXPECT_EQ(open(true)->clear(), 4u);
  EXPECT_EQ(user->tier().status().use.damaged_records, 0u);
}

TEST_F(Volume, ScrubStopsWhenItIsTold) {
  fill(7);
  auto const volume = open(false);
  EXPECT_EQ(volume->write(keys_, slots()), 8u);
  EXPECT_FALSE(volume->scrub([](ScrubReport const&, std::uint64_t) { return false; }).complete);
}

TEST_F(Volume, ClearForgetsAllAlsoAfterARestart) {
  fill(7);
  auto volume = open(false);
  EXPECT_EQ(volume->write(keys_, slots()), 8u);
  EXPECT_EQ(volume->clear(), 8u);
  EXPECT_EQ(volume->find(keys_), 0u);
  volume.reset();
  EXPECT_EQ(open(true)->find(keys_), 0u);
}

TEST(VolumeOfAnEngine, TellsWhoseChunksThereAre) {
  DiskEngineScene disk;
  disk->serve(simple_prompt(1, 96));
  ASSERT_TRUE(disk.drain());
  auto const volume = must(DiskVolume::open(
      {.folders = disk.shape().options.disk_folders, .memory_folder = disk.folder.path()}, {}));
  auto const models = volume->models();
  ASSERT_EQ(models.size(), 1u);
  EXPECT_EQ(models[0].model, "model");
  EXPECT_EQ(models[0].chunks, 3u);
  EXPECT_NE(models[0].description.find("\"model\""), std::string::npos);
}

}  // namespace
}  // namespace lmcache::test
