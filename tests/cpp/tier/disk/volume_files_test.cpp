// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/disk/volume_files.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>

#include <gtest/gtest.h>

#include "support/disk_scene.hpp"
#include "support/must.hpp"
#include "support/temp_directory.hpp"

namespace lmcache::test {
namespace {

namespace fs = std::filesystem;
constexpr std::uint32_t kRecords = 1024;

VolumeFiles open_files(TempDirectory const& directory, int folders = 1) {
  std::vector<VolumeFolder> opened;
  for (int i = 0; i < folders; ++i) {
    std::string const path = directory.path() + "/d" + std::to_string(i);
    opened.push_back(must(VolumeFolder::open(path, IoCreate::kAllowed)));
  }
  return must(VolumeFiles::open(std::move(opened), kRecords));
}

std::vector<std::uint32_t> used_records(VolumeFiles const& files) {
  std::vector<std::uint32_t> out;
  std::uint64_t damaged = 0;
  must(files.read_index(kRecords, [&](std::uint32_t first, std::span<std::byte const> bytes) {
    for (std::uint32_t i = 0; (i + 1) * sizeof(IndexRecord) <= bytes.size(); ++i) {
      auto const record = bytes.subspan(i * sizeof(IndexRecord));
      if (parse_index_record(record, first + i, damaged)) out.push_back(first + i);
    }
  }));
  EXPECT_EQ(damaged, 0u);
  return out;
}

IndexRecord some_record() {
  IndexRecord record{};
  record.used = 1;
  record.slot_bytes = kDiskPageBytes;
  return record;
}

TEST(VolumeFilesOf, RecordsAreWrittenAndFreedInPlace) {
  TempDirectory directory;
  {
    auto const files = open_files(directory);
    EXPECT_TRUE(used_records(files).empty());
    for (std::uint32_t const number : {0u, 7u, kRecords - 1}) {
      must(files.write_record(number, some_record()));
    }
    must(files.free_record(7));
    must(files.sync_index());
    must(files.sync_folder(0));
  }
  auto const files = open_files(directory);
  EXPECT_EQ(used_records(files), (std::vector<std::uint32_t>{0, kRecords - 1}));
  EXPECT_EQ(fs::file_size(directory / "d0/index"), kRecords * sizeof(IndexRecord));
  EXPECT_EQ(index_records(files.folders()[0]), kRecords);
}

TEST(VolumeFilesOf, AnIndexThatWasCutIsReadAsFarAsItGoes) {
  TempDirectory directory;
  auto const files = open_files(directory);
  for (std::uint32_t number = 0; number < 10; ++number) {
    must(files.write_record(number, some_record()));
  }
  fs::resize_file(directory / "d0/index", 5 * sizeof(IndexRecord) + 17);
  EXPECT_EQ(used_records(files).size(), 5u);
  fs::resize_file(directory / "d0/index", 0);
  EXPECT_TRUE(used_records(files).empty());
}

TEST(VolumeFilesOf, ASlabHasAllItsRoomFromTheStart) {
  TempDirectory directory;
  auto const files = open_files(directory, 2);
  must(files.make_slab(1, 17, 1u << 20));
  struct stat info{};
  ASSERT_EQ(::stat((directory / "d1/slab-17").c_str(), &info), 0);
  EXPECT_EQ(info.st_size, 1 << 20);
  EXPECT_EQ(info.st_blocks * 512, 1 << 20);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  auto const found = list_slabs(files.folders());
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].folder, 1u);
  EXPECT_EQ(found[0].slab, 17u);
  EXPECT_EQ(found[0].size_bytes, 1u << 20);
}

TEST(VolumeFilesOf, ASlabThatOthersHaveOpenGivesItsRoomBackToo) {
  TempDirectory directory;
  auto const files = open_files(directory);
  must(files.make_slab(0, 3, 1u << 20));
  auto const open = must(files.open_slab(0, 3, IoCaching::kBuffered));
  files.remove_slab(0, 3);
  struct stat info{};
  ASSERT_EQ(::fstat(open.fd.get(), &info), 0);
  EXPECT_EQ(info.st_size, 0);
  EXPECT_EQ(info.st_nlink, 0u);
  EXPECT_TRUE(list_slabs(files.folders()).empty());
  files.remove_slab(0, 3);  // once more does no harm
}

TEST(VolumeFilesOf, OnlySlabsAreListed) {
  TempDirectory directory;
  auto const files = open_files(directory);
  auto const d0 = directory / "d0/";
  for (auto const* name : {"slab-", "slab-x", "slab-1x", "slab--1", "slab-4096", "slab-99999999999",
                           "slab", "SLAB-1"}) {
    UniqueFd const made{::open((d0 + name).c_str(), O_CREAT | O_WRONLY, 0600)};
    ASSERT_TRUE(made);
  }
  fs::create_directory(d0 + "slab-5");
  fs::create_symlink("/etc/passwd", d0 + "slab-6");
  EXPECT_TRUE(list_slabs(files.folders()).empty());
}

TEST(VolumeFilesOf, TheOrderIsReplacedInOneStep) {
  TempDirectory directory;
  auto const files = open_files(directory);
  EXPECT_TRUE(must(files.read_order()).last_use.empty()) << "there is none";
  for (std::uint64_t now = 1; now < 4; ++now) {
    auto const sync = now == 2 ? VolumeFiles::Sync::kYes : VolumeFiles::Sync::kNo;
    must(files.write_order({.now = now, .last_use = {now, 0, 5}}, sync));
    auto const read = must(files.read_order());
    EXPECT_EQ(read.now, now);
    EXPECT_EQ(read.last_use, (std::vector<std::uint64_t>{now, 0, 5}));
  }
  EXPECT_FALSE(fs::exists(directory / "d0/order.new"));
}

ModelRecord model(std::uint8_t number, std::uint64_t speed = 0) {
  ModelRecord record{};
  record.root = {{number}};
  record.prefill_ps_per_token = speed;
  return record;
}

TEST(VolumeFilesOf, ModelsAreKeptByRoot) {
  TempDirectory directory;
  auto const files = open_files(directory);
  EXPECT_TRUE(files.read_models().empty());
  must(files.write_model(model(1, 10)));
  must(files.write_model(model(2, 20)));
  must(files.write_model(model(1, 30)));
  auto const models = files.read_models();
  ASSERT_EQ(models.size(), 2u);
  EXPECT_EQ(models[0].root, model(2).root);
  EXPECT_EQ(models[1].prefill_ps_per_token, 30u);
}

TEST(VolumeFilesOf, TheOldestOf65ModelsGivesWay) {
  TempDirectory directory;
  auto const files = open_files(directory);
  for (std::uint8_t i = 0; i < 65; ++i) must(files.write_model(model(i)));
  auto const models = files.read_models();
  ASSERT_EQ(models.size(), kMaxModels);
  EXPECT_EQ(models.front().root, model(1).root);
  EXPECT_LE(bytes_of_folder(directory / "d0"), fixed_file_bytes(1, kRecords));
}

TEST(VolumeFilesOf, ADamagedModelCostsItselfOnly) {
  TempDirectory directory;
  auto const files = open_files(directory);
  for (std::uint8_t i = 0; i < 3; ++i) must(files.write_model(model(i)));
  UniqueFd const fd{::open((directory / "d0/models").c_str(), O_WRONLY)};
  ASSERT_EQ(::pwrite(fd.get(), "x", 1, sizeof(ModelRecord) + 200), 1);
  auto const models = files.read_models();
  ASSERT_EQ(models.size(), 2u);
  EXPECT_EQ(models[1].root, model(2).root);
}

TEST(VolumeFilesOf, FoldersOfOneFileSystemShareItsRoom) {
  TempDirectory directory;
  auto const files = open_files(directory, 3);
  auto const one = free_bytes(std::span{files.folders()}.first(1));
  auto const all = free_bytes(files.folders());
  EXPECT_GT(one, 0u);
  EXPECT_NEAR(static_cast<double>(all), static_cast<double>(one), static_cast<double>(one) / 10);
}

}  // namespace
}  // namespace lmcache::test
