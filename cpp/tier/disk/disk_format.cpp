// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/disk/disk_format.hpp>

#include <algorithm>
#include <cstring>

#include <lmcache/base/checksum.hpp>

namespace lmcache {
namespace {

constexpr std::uint64_t kVolumeMagic = 0x656d'756c'6f56'4d4c;  // "LMVolume"
constexpr std::uint64_t kOrderMagic = 0x7265'6472'4f65'734d;   // "MseOrder"
constexpr std::uint64_t kStampsPerPage = 511;

template <class T>
std::span<std::byte const> bytes_of(T const& value) noexcept {
  return std::as_bytes(std::span{&value, 1});
}

template <class T>
std::uint32_t crc_without(T copy, std::uint32_t T::* field, std::uint32_t seed = 0) noexcept {
  copy.*field = 0;
  return crc32c(bytes_of(copy), seed);
}

// A record that lies in another's place is as bad as a damaged one.
std::uint32_t crc_of(IndexRecord const& record, std::uint32_t number) noexcept {
  return crc_without(record, &IndexRecord::crc, number + 1);
}

struct OrderHeader {
  std::uint64_t magic;
  std::uint32_t format_version;
  std::uint32_t crc;
  std::uint64_t now;
  std::uint64_t read_bytes_per_s;
  std::uint64_t write_bytes_per_s;
  std::uint64_t records;
  std::uint8_t reserved[4048];
};
static_assert(sizeof(OrderHeader) == kDiskPageBytes);

struct OrderPage {
  std::uint32_t crc;
  std::uint32_t number;
  std::array<std::uint64_t, kStampsPerPage> last_use;
};
static_assert(sizeof(OrderPage) == kDiskPageBytes);

}  // namespace

void seal(VolumeHeader& header) noexcept {
  header.magic = kVolumeMagic;
  header.format_version = kDiskFormatVersion;
  header.crc = crc_without(header, &VolumeHeader::crc);
}

Result<VolumeHeader> parse_volume_header(std::span<std::byte const> bytes) {
  VolumeHeader header{};
  std::memcpy(&header, bytes.data(), std::min(bytes.size(), sizeof header));
  if (std::ranges::all_of(bytes, [](std::byte byte) { return byte == std::byte{}; })) {
    return Error{ErrorCode::kCorrupted, "it is empty"};
  }
  if (header.magic != kVolumeMagic) {
    return Error{ErrorCode::kInvalidArgument, "it is no file of ours"};
  }
  if (bytes.size() < sizeof header) return Error{ErrorCode::kCorrupted, "it is cut short"};
  if (header.format_version != kDiskFormatVersion) {
    return Error{ErrorCode::kInvalidArgument,
                 "it has format version " + std::to_string(header.format_version) +
                     ", this build reads " + std::to_string(kDiskFormatVersion)};
  }
  if (header.crc != crc_without(header, &VolumeHeader::crc) || header.folder >= kMaxFolders ||
      header.folders > kMaxFolders) {
    return Error{ErrorCode::kCorrupted, "it is damaged"};
  }
  header.host.back() = 0;
  return header;
}

void seal(IndexRecord& record, std::uint32_t number) noexcept {
  record.crc = crc_of(record, number);
}

std::optional<IndexRecord> parse_index_record(std::span<std::byte const> bytes,
                                              std::uint32_t number,
                                              std::uint64_t& damaged) noexcept {
  IndexRecord record;
  if (bytes.size() < sizeof record) return std::nullopt;
  std::memcpy(&record, bytes.data(), sizeof record);
  if (record.crc != crc_of(record, number)) {
    constexpr IndexRecord kNeverWritten{};
    if (std::memcmp(&record, &kNeverWritten, sizeof record) != 0) ++damaged;
    return std::nullopt;
  }
  if (record.used != 1) return std::nullopt;
  bool const sane = record.slab < kMaxSlabs && record.slot_bytes % kDiskPageBytes == 0 &&
                    record.slot_bytes != 0 && record.offset % record.slot_bytes == 0 &&
                    record.payload_bytes < record.slot_bytes &&
                    record.valid_tokens < record.slot_bytes;
  if (!sane) {
    ++damaged;
    return std::nullopt;
  }
  return record;
}

std::vector<std::byte> encode_order(UseOrder const& order) {
  auto const records = order.last_use.size();
  std::vector<std::byte> out(order_file_bytes(static_cast<std::uint32_t>(records)));
  OrderHeader header{};
  header.magic = kOrderMagic;
  header.format_version = kDiskFormatVersion;
  header.now = order.now;
  header.read_bytes_per_s = order.read_bytes_per_s;
  header.write_bytes_per_s = order.write_bytes_per_s;
  header.records = records;
  header.crc = crc_without(header, &OrderHeader::crc);
  std::memcpy(out.data(), &header, sizeof header);
  for (std::size_t first = 0, number = 1; first < records; first += kStampsPerPage, ++number) {
    OrderPage page{};
    page.number = static_cast<std::uint32_t>(number);
    auto const count = std::min(kStampsPerPage, records - first);
    std::copy_n(order.last_use.begin() + static_cast<std::ptrdiff_t>(first), count,
                page.last_use.begin());
    page.crc = crc_without(page, &OrderPage::crc);
    std::memcpy(out.data() + number * kDiskPageBytes, &page, sizeof page);
  }
  return out;
}

UseOrder parse_order(std::span<std::byte const> bytes) {
  UseOrder out;
  OrderHeader header;
  if (bytes.size() < sizeof header) return out;
  std::memcpy(&header, bytes.data(), sizeof header);
  bool const ours = header.magic == kOrderMagic && header.format_version == kDiskFormatVersion &&
                    header.crc == crc_without(header, &OrderHeader::crc);
  if (!ours) return out;
  out.now = header.now;
  out.read_bytes_per_s = header.read_bytes_per_s;
  out.write_bytes_per_s = header.write_bytes_per_s;
  auto const pages = bytes.size() / kDiskPageBytes - 1;
  out.last_use.resize(std::min<std::uint64_t>(header.records, pages * kStampsPerPage));
  for (std::size_t first = 0, number = 1; first < out.last_use.size();
       first += kStampsPerPage, ++number) {
    OrderPage page;
    std::memcpy(&page, bytes.data() + number * kDiskPageBytes, sizeof page);
    if (page.number != number || page.crc != crc_without(page, &OrderPage::crc)) continue;
    auto const count = std::min(kStampsPerPage, out.last_use.size() - first);
    std::copy_n(page.last_use.begin(), count,
                out.last_use.begin() + static_cast<std::ptrdiff_t>(first));
  }
  return out;
}

void seal(ModelRecord& record) noexcept { record.crc = crc_without(record, &ModelRecord::crc); }

std::optional<ModelRecord> parse_model_record(std::span<std::byte const> bytes) noexcept {
  ModelRecord record;
  if (bytes.size() < sizeof record) return std::nullopt;
  std::memcpy(&record, bytes.data(), sizeof record);
  if (record.crc != crc_without(record, &ModelRecord::crc)) return std::nullopt;
  record.model.back() = record.description.back() = 0;
  return record;
}

}  // namespace lmcache
