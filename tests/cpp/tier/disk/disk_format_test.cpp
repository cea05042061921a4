// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/disk/disk_format.hpp>

#include <cstring>
#include <random>

#include <gtest/gtest.h>

namespace lmcache::test {
namespace {

template <class T>
std::span<std::byte const> bytes_of(T const& value) {
  return std::as_bytes(std::span{&value, 1});
}

VolumeHeader header_of_folder(std::uint32_t folder) {
  VolumeHeader header{};
  header.volume = {1, 2, 3};
  header.directory = {4, 5, 6};
  header.folder = folder;
  header.record_capacity = 1024;
  header.created_unix_s = 17;
  header.host = {"somewhere"};
  seal(header);
  return header;
}

TEST(VolumeHeaderFormat, IsReadAsItWasWritten) {
  auto const header = header_of_folder(3);
  auto const parsed = parse_volume_header(bytes_of(header));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(std::memcmp(&parsed.value(), &header, sizeof header), 0);
}

TEST(VolumeHeaderFormat, WithAnyOneBitWrongIsRefused) {
  auto header = header_of_folder(3);
  auto* const bytes = reinterpret_cast<std::byte*>(&header);
  for (std::size_t bit = 0; bit < 8 * sizeof header; ++bit) {
    auto const mask = static_cast<std::byte>(1 << bit % 8);
    bytes[bit / 8] ^= mask;
    ASSERT_FALSE(parse_volume_header(bytes_of(header))) << "bit " << bit;
    bytes[bit / 8] ^= mask;
  }
}

TEST(VolumeHeaderFormat, TellsDamageFromWhatIsNotOurs) {
  auto const code = [](std::span<std::byte const> bytes) {
    return parse_volume_header(bytes).error().code();
  };
  auto header = header_of_folder(0);
  for (std::size_t const size : {std::size_t{8}, std::size_t{100}, sizeof header - 1}) {
    EXPECT_EQ(code(bytes_of(header).first(size)), ErrorCode::kCorrupted) << size;
  }
  EXPECT_EQ(code(bytes_of(VolumeHeader{})), ErrorCode::kCorrupted) << "all zeros";
  auto foreign = header;
  foreign.magic ^= 1;
  EXPECT_EQ(code(bytes_of(foreign)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code(bytes_of(foreign).first(5)), ErrorCode::kInvalidArgument);
  auto newer = header;
  newer.format_version = 9;
  EXPECT_EQ(code(bytes_of(newer)), ErrorCode::kInvalidArgument);
  auto wild = header;
  wild.folder = kMaxFolders;
  seal(wild);
  EXPECT_EQ(code(bytes_of(wild)), ErrorCode::kCorrupted);
  wild = header;
  wild.folders = kMaxFolders + 1;
  seal(wild);
  EXPECT_EQ(code(bytes_of(wild)), ErrorCode::kCorrupted);
}

IndexRecord some_record() {
  IndexRecord record{};
  record.used = 1;
  record.sequence = 9;
  record.key = {{1, 2, 3}};
  record.slab = 5;
  record.slot_bytes = 3 * kDiskPageBytes;
  record.offset = 4 * record.slot_bytes;
  record.payload_bytes = 10'000;
  record.valid_tokens = 64;
  return record;
}

TEST(IndexRecordFormat, IsReadAsItWasWrittenInItsPlaceOnly) {
  auto record = some_record();
  seal(record, 7);
  std::uint64_t damaged = 0;
  auto const parsed = parse_index_record(bytes_of(record), 7, damaged);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(std::memcmp(&*parsed, &record, sizeof record), 0);
  EXPECT_EQ(damaged, 0u);
  EXPECT_FALSE(parse_index_record(bytes_of(record), 8, damaged));
  EXPECT_EQ(damaged, 1u);
}

TEST(IndexRecordFormat, WithAnyOneBitWrongIsDamaged) {
  auto record = some_record();
  seal(record, 7);
  auto* const bytes = reinterpret_cast<std::byte*>(&record);
  std::uint64_t damaged = 0;
  for (std::size_t bit = 0; bit < 8 * sizeof record; ++bit) {
    auto const mask = static_cast<std::byte>(1 << bit % 8);
    bytes[bit / 8] ^= mask;
    ASSERT_FALSE(parse_index_record(bytes_of(record), 7, damaged)) << "bit " << bit;
    bytes[bit / 8] ^= mask;
  }
  EXPECT_EQ(damaged, 8 * sizeof record);
}

TEST(IndexRecordFormat, FreeOrNeverWrittenIsNoDamage) {
  std::uint64_t damaged = 0;
  IndexRecord record{};
  EXPECT_FALSE(parse_index_record(bytes_of(record), 0, damaged));
  seal(record, 0);
  EXPECT_FALSE(parse_index_record(bytes_of(record), 0, damaged));
  EXPECT_FALSE(parse_index_record(bytes_of(record).first(127), 0, damaged));
  EXPECT_EQ(damaged, 0u);
}

// Records that check, from a build that went mad.
TEST(IndexRecordFormat, WhatCannotBeIsDamaged) {
  auto const refused = [](auto&& change) {
    auto record = some_record();
    change(record);
    seal(record, 0);
    std::uint64_t damaged = 0;
    return !parse_index_record(bytes_of(record), 0, damaged) && damaged == 1;
  };
  EXPECT_TRUE(refused([](IndexRecord& it) { it.slab = kMaxSlabs; }));
  EXPECT_TRUE(refused([](IndexRecord& it) { it.slot_bytes = 0; }));
  EXPECT_TRUE(refused([](IndexRecord& it) { it.slot_bytes += 1; }));
  EXPECT_TRUE(refused([](IndexRecord& it) { it.offset += kDiskPageBytes; }));
  EXPECT_TRUE(refused([](IndexRecord& it) { it.payload_bytes = it.slot_bytes; }));
  EXPECT_TRUE(refused([](IndexRecord& it) { it.valid_tokens = 1u << 30; }));
}

UseOrder some_order(std::size_t records) {
  UseOrder order{.now = 77, .read_bytes_per_s = 88, .write_bytes_per_s = 99, .last_use = {}};
  for (std::size_t i = 0; i < records; ++i) order.last_use.push_back(i + 1);
  return order;
}

TEST(OrderFormat, IsReadAsItWasWritten) {
  for (std::size_t const records : {0, 1, 510, 511, 512, 1022, 5000}) {
    auto const order = some_order(records);
    auto const bytes = encode_order(order);
    EXPECT_EQ(bytes.size(), order_file_bytes(static_cast<std::uint32_t>(records)));
    auto const parsed = parse_order(bytes);
    EXPECT_EQ(parsed.now, 77u);
    EXPECT_EQ(parsed.read_bytes_per_s, 88u);
    EXPECT_EQ(parsed.write_bytes_per_s, 99u);
    EXPECT_EQ(parsed.last_use, order.last_use) << records;
  }
}

TEST(OrderFormat, ADamagedPageCostsWhatIsInItAndNoMore) {
  auto const order = some_order(3 * 511);
  auto bytes = encode_order(order);
  bytes[2 * kDiskPageBytes + 100] ^= std::byte{4};
  auto const parsed = parse_order(bytes);
  ASSERT_EQ(parsed.last_use.size(), order.last_use.size());
  for (std::size_t i = 0; i < order.last_use.size(); ++i) {
    ASSERT_EQ(parsed.last_use[i], i / 511 == 1 ? 0 : i + 1);
  }
}

TEST(OrderFormat, PagesThatChangedPlacesAreDamaged) {
  auto bytes = encode_order(some_order(2 * 511));
  std::swap_ranges(bytes.begin() + kDiskPageBytes, bytes.begin() + 2 * kDiskPageBytes,
                   bytes.begin() + 2 * kDiskPageBytes);
  for (auto const stamp : parse_order(bytes).last_use) ASSERT_EQ(stamp, 0u);
}

TEST(OrderFormat, CutAnywhereOrWithADamagedHeaderIsNoHarm) {
  auto const order = some_order(2 * 511);
  auto const bytes = encode_order(order);
  for (std::size_t size = 0; size <= bytes.size(); size += 512) {
    auto const parsed = parse_order(std::span{bytes}.first(size));
    ASSERT_LE(parsed.last_use.size(), order.last_use.size());
    for (std::size_t i = 0; i < parsed.last_use.size(); ++i) {
      ASSERT_TRUE(parsed.last_use[i] == 0 || parsed.last_use[i] == i + 1);
    }
  }
  for (std::size_t bit = 0; bit < 8 * kDiskPageBytes; ++bit) {
    auto damaged = std::vector<std::byte>(bytes.begin(), bytes.begin() + kDiskPageBytes);
    damaged[bit / 8] ^= static_cast<std::byte>(1 << bit % 8);
    ASSERT_EQ(parse_order(damaged).now, 0u) << bit;
  }
}

TEST(ModelFormat, IsReadAsItWasWrittenAndWithNoBitWrong) {
  ModelRecord record{};
  record.root = {{7}};
  record.prefill_ps_per_token = 123;
  record.model = {"a model"};
  record.description = {"{}"};
  seal(record);
  auto const parsed = parse_model_record(bytes_of(record));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(std::memcmp(&*parsed, &record, sizeof record), 0);
  auto* const bytes = reinterpret_cast<std::byte*>(&record);
  for (std::size_t bit = 0; bit < 8 * sizeof record; ++bit) {
    auto const mask = static_cast<std::byte>(1 << bit % 8);
    bytes[bit / 8] ^= mask;
    ASSERT_FALSE(parse_model_record(bytes_of(record))) << "bit " << bit;
    bytes[bit / 8] ^= mask;
  }
  EXPECT_FALSE(parse_model_record(bytes_of(record).first(sizeof record - 1)));
}

TEST(ModelFormat, ATextWithoutAnEndGetsOne) {
  ModelRecord record{};
  record.model.fill('m');
  record.description.fill('d');
  seal(record);
  auto const parsed = parse_model_record(bytes_of(record));
  ASSERT_TRUE(parsed);
  EXPECT_EQ(std::strlen(parsed->model.data()), 255u);
  EXPECT_EQ(std::strlen(parsed->description.data()), 1023u);
}

TEST(DiskFormat, LargeRecordsMoveInPagesSmallOnesAsTheyAre) {
  EXPECT_EQ(disk_slot_bytes(1), 4096u);
  EXPECT_EQ(disk_slot_bytes(4096), 4096u);
  EXPECT_EQ(disk_slot_bytes(4097), 8192u);
  EXPECT_EQ(transfer_bytes(65'536 - 4096, 5000), 5000u);
  EXPECT_EQ(transfer_bytes(65'536, 5000), 8192u);
}

}  // namespace
}  // namespace lmcache::test
