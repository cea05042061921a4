// SPDX-License-Identifier: Apache-2.0
// Files that are cut, flipped, or as a lost power supply leaves them: what is read is right, or it
// is a miss.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <random>
#include <string>

#include <gtest/gtest.h>

#include "support/directory_invariants.hpp"
#include "support/disk_scene.hpp"

namespace lmcache::test {
namespace {

namespace fs = std::filesystem;
using Outcome = TierOutcome;

struct Bytes {
  std::string name;
  std::string content;
};

class DiskDamage : public testing::Test {
 protected:
  static constexpr std::uint64_t kChunks = 60;

  void SetUp() override {
    scene_.open();
    ASSERT_EQ(std::ranges::count(scene_.write(seeds(0, kChunks)), Outcome::kDone), kChunks);
    ModelRecord model{};
    model.model = {"a model"};
    scene_.tier().describe_model(model);
    scene_.close();
    for (auto const& name : scene_.files()) good_.push_back({name, read_file(name)});
  }
  [[nodiscard]] std::string read_file(std::string const& name) const {
    UniqueFd const fd{::open((scene_.path() + "/" + name).c_str(), O_RDONLY)};
    struct stat info{};
    EXPECT_EQ(::fstat(fd.get(), &info), 0);
    std::string out(static_cast<std::size_t>(info.st_size), '\0');
    EXPECT_EQ(::pread(fd.get(), out.data(), out.size(), 0), info.st_size);
    return out;
  }
  void write_file(std::string const& name, std::string const& content) const {
    UniqueFd const fd{
        ::open((scene_.path() + "/" + name).c_str(), O_CREAT | O_TRUNC | O_WRONLY, 0600)};
    EXPECT_EQ(::pwrite(fd.get(), content.data(), content.size(), 0),
              static_cast<ssize_t>(content.size()));
  }
  void restore() const {
    for (auto const& file : fs::directory_iterator{scene_.path()}) fs::remove(file.path());
    for (auto const& file : good_) write_file(file.name, file.content);
  }
  [[nodiscard]] bool can_be_opened() const {
    auto const opened = DiskTier::open(scene_.options(), scene_.clock(), {});
    if (opened) return true;
    EXPECT_EQ(opened.error().code(), ErrorCode::kInvalidArgument) << opened.error().message();
    return false;
  }
  [[nodiscard]] std::vector<Bytes> snapshot() const {
    std::vector<Bytes> out;
    for (auto const& name : scene_.files()) out.push_back({name, read_file(name)});
    return out;
  }
  // Each page as it was, or as it is now. Lengths are those of now: they were synced with the
  // folder, or the file would not be there.
  [[nodiscard]] static std::string mixed(std::string before, std::string const& now,
                                         std::mt19937_64& random) {
    before.resize(now.size());
    for (std::size_t at = 0; at < now.size(); at += kDiskPageBytes) {
      auto const size = std::min<std::size_t>(kDiskPageBytes, now.size() - at);
      if (random() % 2 == 0) before.replace(at, size, now, at, size);
    }
    return before;
  }
  // Opens it and reads all. What is damaged is found once and gone then; the rest can be written
  // and read again.
  std::size_t count_right() {
    scene_.open();
    auto const first = scene_.read(seeds(0, kChunks));
    EXPECT_TRUE(scene_.tier().drain(std::chrono::seconds{30}));
    auto const second = scene_.read(seeds(0, kChunks));
    for (std::size_t i = 0; i < kChunks; ++i) {
      EXPECT_EQ(second[i], first[i] == Outcome::kDone ? Outcome::kDone : Outcome::kMissing) << i;
      EXPECT_NE(first[i], Outcome::kIoError) << i;
    }
    (void)scene_.tier().models();
    EXPECT_TRUE(directory_is_sound(scene_.tier().directory().state()));
    EXPECT_EQ(scene_.write({1000})[0], Outcome::kDone);
    EXPECT_EQ(scene_.count_there({1000}), 1u);
    scene_.close();
    return static_cast<std::size_t>(std::ranges::count(first, Outcome::kDone));
  }

  DiskScene scene_{{.limit_bytes = 5u << 20, .sizes = {70'000, 9'000, 30'000}}};
  std::vector<Bytes> good_;
};

TEST_F(DiskDamage, AnyFileMayBeCutAnywhere) {
  for (auto const& file : good_) {
    bool const large = file.content.size() > 64 * kDiskPageBytes;
    // Every boundary of the tail of it, and of the head where there is one.
    for (std::uint64_t pages = 0; pages * kDiskPageBytes < file.content.size(); ++pages) {
      std::uint64_t const size = pages * kDiskPageBytes;
      if (large && pages > 2 && size + 8 * kDiskPageBytes < file.content.size() &&
          pages % 23 != 0) {
        continue;
      }
      restore();
      fs::resize_file(scene_.path() + "/" + file.name, size);
      auto const right = count_right();
      bool const holds_no_chunk =
          file.name == "order" || file.name == "models" || file.name == "volume";
      ASSERT_TRUE(right == kChunks || !holds_no_chunk) << file.name << " cut at " << size;
    }
  }
}

TEST_F(DiskDamage, AnyFileMayBeGone) {
  for (auto const& file : good_) {
    restore();
    fs::remove(scene_.path() + "/" + file.name);
    (void)count_right();
  }
}

// 10,000 flips, in batches of different sizes.
TEST_F(DiskDamage, AnyBitMayBeWrong) {
  std::mt19937_64 random{5};
  std::uint64_t flips = 0;
  std::size_t refused = 0;
  for (int round = 0; flips < 10'000; ++round) {
    restore();
    std::uint64_t const batch = round % 4 == 0 ? 1 : 1 + random() % 400;
    for (std::uint64_t i = 0; i < batch; ++i, ++flips) {
      auto const& file = good_[random() % good_.size()];
      if (file.content.empty() || (file.name == "volume" && round % 8 != 0)) continue;
      UniqueFd const fd{::open((scene_.path() + "/" + file.name).c_str(), O_RDWR)};
      // As often within the used part of the index as elsewhere.
      auto const reach =
          file.name == "index" && i % 2 ? kChunks * sizeof(IndexRecord) : file.content.size();
      auto const at = static_cast<off_t>(random() % reach);
      char byte = 0;
      ASSERT_EQ(::pread(fd.get(), &byte, 1, at), 1);
      byte = static_cast<char>(byte ^ (1 << random() % 8));
      ASSERT_EQ(::pwrite(fd.get(), &byte, 1, at), 1);
    }
    // A header whose magic or version is wrong may be another program's: refused, not touched.
    if (!can_be_opened()) {
      ++refused;
      continue;
    }
    (void)count_right();
  }
  EXPECT_LT(refused, 10u);
}

// Power is lost: of the pages written since the last sync, any may be on the disk and any not.
class DiskPower : public DiskDamage, public testing::WithParamInterface<Durability> {
 protected:
  void SetUp() override {
    DiskDamage::SetUp();
    scene_.open();
    for (std::uint64_t i = 0; i < 20; ++i) (void)scene_.write(seeds(100 + 10 * i, 10));
    EXPECT_GT(scene_.evicted(), 50) << "full: whatever is written takes the place of another";
    scene_.close();
    good_ = snapshot();
  }
};

TEST_P(DiskPower, AnyPagesOfTheLastWritesMayBeMissing) {
  bool const durable = GetParam() == Durability::kData;
  auto options = scene_.options();
  options.durability = GetParam();
  std::mt19937_64 random{11};
  std::size_t kept_of_fresh = 0;
  for (int round = 0; round < 40; ++round) {
    restore();
    scene_.open(options);
    auto const fresh = seeds(2000 + static_cast<std::uint64_t>(round) * 10, 8);
    ASSERT_EQ(std::ranges::count(scene_.write(fresh), Outcome::kDone), 8);
    auto const at_cut = durable ? snapshot() : std::vector<Bytes>{};
    auto const more = seeds(2000 + static_cast<std::uint64_t>(round) * 10 + 8, 2);
    if (durable) (void)scene_.write(more);
    // They may have made a slab of their size out of one in which some of the eight lay.
    std::vector<ChunkKey> keys;
    for (auto const seed : fresh) keys.push_back(disk_key(seed));
    std::vector<std::optional<DiskPlace>> kept(keys.size());
    scene_.tier().find(keys, kept);
    kept_of_fresh += static_cast<std::size_t>(
        std::ranges::count_if(kept, [](auto const& it) { return it.has_value(); }));
    scene_.close();
    auto const now = snapshot();
    auto const& synced = durable ? at_cut : good_;
    for (auto const& file : now) {
      auto const before = std::ranges::find(synced, file.name, &Bytes::name);
      write_file(file.name, mixed(before == synced.end() ? std::string{} : before->content,
                                  file.content, random));
    }
    scene_.open(options);
    auto const there = scene_.read(fresh);  // checks every byte
    (void)scene_.read(more);
    (void)scene_.read(seeds(0, kChunks));
    for (std::size_t i = 0; durable && i < fresh.size(); ++i) {
      ASSERT_TRUE(there[i] == Outcome::kDone || !kept[i])
          << round << ", chunk " << i << ": " << static_cast<int>(there[i]);
    }
    EXPECT_TRUE(directory_is_sound(scene_.tier().directory().state()));
    scene_.close();
  }
  EXPECT_GT(kept_of_fresh, 250u);
}

INSTANTIATE_TEST_SUITE_P(By, DiskPower, testing::Values(Durability::kNone, Durability::kData),
                         [](auto const& by) {
                           return by.param == Durability::kData ? "SyncedWrites" : "PlainWrites";
                         });

}  // namespace
}  // namespace lmcache::test
