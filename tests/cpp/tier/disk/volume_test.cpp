// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/disk/volume.hpp>

#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include <gtest/gtest.h>

#include <lmcache/engine/segment_status.hpp>

#include "support/child_process.hpp"
#include "support/directory_invariants.hpp"
#include "support/volume_scene.hpp"

namespace lmcache::test {
namespace {

namespace fs = std::filesystem;
constexpr std::uint64_t kSlot = 256u << 10;

std::string contents(std::string const& path) {
  std::ifstream file{path, std::ios::binary};
  return {std::istreambuf_iterator<char>{file}, {}};
}

void write_file(std::string const& path, std::string const& text) {
  std::ofstream{path, std::ios::binary} << text;
}

ErrorCode refusal(VolumeScene const& scene, std::string const& part) {
  auto const opened = scene.try_open();
  if (opened) {
    ADD_FAILURE() << "was opened";
    return ErrorCode::kInternal;
  }
  EXPECT_NE(opened.error().message().find(part), std::string::npos) << opened.error().message();
  return opened.error().code();
}

class Volume : public testing::Test {
 protected:
  void SetUp() override { scene_.make_files = true; }
  void put(std::uint64_t first, std::uint64_t count) {
    for (std::uint64_t seed = first; seed < first + count; ++seed) {
      ASSERT_TRUE(scene_.put(seed, kSlot));
    }
  }
  [[nodiscard]] std::uint64_t count_there(std::uint64_t first, std::uint64_t count) {
    std::uint64_t there = 0;
    for (std::uint64_t seed = first; seed < first + count; ++seed) there += scene_.has(seed);
    return there;
  }

  VolumeScene scene_{8u << 20, 3};
};

// As `lmcache gc` does: a directory that nobody has joined is as good as one of the dead.
TEST_F(Volume, WhoCollectsTheUnusedDoesNotDisturbWhoOpens) {
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> removed{0};
  std::thread collector{[&] {
    while (!stop) {
      for (auto const& info : must(list_disk_directories(scene_.options.memory_folder))) {
        auto const gone = remove_disk_directory(info.path, RemoveMode::kReadableOnly);
        removed += gone && gone.value() ? 1 : 0;
      }
    }
  }};
  int failed = 0;
  for (int i = 0; i < 400 || (removed == 0 && i < 100'000); ++i) {
    auto const opened = scene_.try_open();
    if (!opened) ++failed;
    EXPECT_TRUE(opened) << opened.error().message();
  }
  stop = true;
  collector.join();
  EXPECT_EQ(failed, 0);
  EXPECT_GT(removed, 0u) << "it was never in the way";
}

TEST_F(Volume, TheFirstMakesTheDirectoryTheOthersJoin) {
  scene_.open();
  EXPECT_TRUE(scene_.volume().loaded);
  put(0, 5);
  auto const other = must(scene_.try_open());
  EXPECT_FALSE(other.loaded);
  EXPECT_EQ(other.directory->use().chunks, 5u);
  scene_.close();
  scene_.open();
  EXPECT_FALSE(scene_.volume().loaded) << "the other one kept it";
}

TEST_F(Volume, AnotherProcessSharesIt) {
  scene_.open();
  put(0, 5);
  ChildProcess child{[&] {
    auto const other = must(scene_.try_open());
    return static_cast<int>(other.directory->use().chunks + other.directory->use().processes * 10);
  }};
  EXPECT_EQ(child.wait(), 25);
  EXPECT_EQ(scene_.directory().use().processes, 1u);
}

TEST_F(Volume, AnotherNodeIsRefusedWhileItIsInUseAndWelcomeAfterwards) {
  scene_.open();
  put(0, 5);
  auto elsewhere = scene_.options;
  elsewhere.memory_folder = scene_.root() + "/other-node";
  fs::create_directory(elsewhere.memory_folder);
  auto const refused = open_volume(elsewhere, scene_.clock, {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(refused.error().message().find("is used by another node"), std::string::npos);
  EXPECT_EQ(count_there(0, 5), 5u);
  scene_.close();
  auto const welcome = must(open_volume(elsewhere, scene_.clock, {}));
  EXPECT_EQ(welcome.directory->use().chunks, 5u);
  EXPECT_EQ(refusal(scene_, "another node"), ErrorCode::kUnavailable);
}

TEST_F(Volume, AfterARebootItIsReadAnew) {
  scene_.open();
  put(0, 5);
  scene_.close();
  scene_.forget_memory();
  scene_.open();
  EXPECT_TRUE(scene_.volume().loaded);
  EXPECT_EQ(count_there(0, 5), 5u);
}

TEST_F(Volume, ADirectoryThatADeadNodeLeftBehindIsGoneOnWith) {
  ChildProcess child{[&] {
    scene_.open();
    for (std::uint64_t seed = 0; seed < 5; ++seed) (void)scene_.put(seed, kSlot);
    ::kill(::getpid(), SIGKILL);
    return 0;
  }};
  EXPECT_EQ(child.wait(), 256 + SIGKILL);
  scene_.open();
  EXPECT_FALSE(scene_.volume().loaded);
  EXPECT_EQ(count_there(0, 5), 5u);
}

// As when a volume was copied back, or another node used it in between.
TEST_F(Volume, ADirectoryOfAnEarlierUseIsNotBelieved) {
  ChildProcess child{[&] {
    scene_.open();
    (void)scene_.put(1, kSlot);
    ::kill(::getpid(), SIGKILL);
    return 0;
  }};
  EXPECT_EQ(child.wait(), 256 + SIGKILL);
  auto elsewhere = scene_.options;
  elsewhere.memory_folder = scene_.root() + "/other-node";
  fs::create_directory(elsewhere.memory_folder);
  (void)must(open_volume(elsewhere, scene_.clock, {}));
  scene_.open();
  EXPECT_TRUE(scene_.volume().loaded);
  EXPECT_EQ(count_there(1, 1), 1u);
}

TEST_F(Volume, AFolderMayBeAddedButNoneLeftOut) {
  auto const all = scene_.options.folders;
  scene_.options.folders = {all[1], all[0]};
  scene_.open();
  put(0, 5);
  scene_.close();
  scene_.options.folders = {all[0]};
  EXPECT_EQ(refusal(scene_, "has 2 folders, 1 were given"), ErrorCode::kInvalidArgument);
  scene_.options.folders = {all[0], all[2]};
  EXPECT_EQ(refusal(scene_, "has 2 folders, 2 were given"), ErrorCode::kInvalidArgument);
  scene_.options.folders = {all[2], all[0], all[1]};
  scene_.open();
  EXPECT_EQ(count_there(0, 5), 5u);
  EXPECT_EQ(scene_.files().folders()[0].path(), all[1]) << "where the index is";
  EXPECT_EQ(scene_.directory().use().folders, 3u);
  scene_.close();
  scene_.options.folders = {all[0], all[1]};
  EXPECT_EQ(refusal(scene_, "has 3 folders"), ErrorCode::kInvalidArgument);
}

TEST_F(Volume, FoldersThatDoNotBelongTogetherAreRefused) {
  auto const all = scene_.options.folders;
  for (int i : {0, 1}) {
    scene_.options.folders = {all[static_cast<std::size_t>(i)]};
    scene_.open();
    scene_.close();
  }
  scene_.options.folders = {all[0], all[1]};
  EXPECT_EQ(refusal(scene_, "belongs to another disk cache"), ErrorCode::kInvalidArgument);
  fs::remove_all(all[1]);
  fs::copy(all[0], all[1], fs::copy_options::recursive);
  EXPECT_EQ(refusal(scene_, "is a copy of"), ErrorCode::kInvalidArgument);
  scene_.options.folders = {all[0], all[0] + "/"};
  EXPECT_EQ(refusal(scene_, "different folders"), ErrorCode::kInvalidArgument);
  scene_.options.folders = {};
  EXPECT_EQ(refusal(scene_, "1 to 32"), ErrorCode::kInvalidArgument);
}

TEST_F(Volume, AForeignFileOfThatNameIsLeftAsItIs) {
  fs::create_directory(scene_.path());
  for (std::string const& text : {std::string{"hello"}, std::string(10'000, 'x')}) {
    write_file(scene_.path() + "/volume", text);
    EXPECT_EQ(refusal(scene_, "no file of ours"), ErrorCode::kInvalidArgument);
    EXPECT_EQ(contents(scene_.path() + "/volume"), text);
  }
}

// What a lost power supply, or a bad block, leaves of the header costs no chunk.
TEST_F(Volume, ALostHeaderIsMadeAnew) {
  scene_.open();
  put(0, 12);
  scene_.close();
  for (int folder = 0; folder < 3; ++folder) {
    auto const path = scene_.path(folder) + "/volume";
    auto const good = contents(path);
    auto bad = good;
    bad[100] ^= 1;
    for (auto const& left : {bad, std::string(4096, '\0'), good.substr(0, 100), std::string{}}) {
      write_file(path, left);
      scene_.open();
      EXPECT_EQ(count_there(0, 12), 12u) << folder;
      scene_.close();
    }
  }
  for (int folder = 0; folder < 3; ++folder) write_file(scene_.path(folder) + "/volume", "");
  std::ranges::reverse(scene_.options.folders);
  scene_.open();
  EXPECT_EQ(count_there(0, 12), 12u) << "all three at once, in another order";
}

TEST_F(Volume, TheDefaultLimitIsATenthOfTheFreeSpace) {
  scene_.options.limit_bytes = 0;
  scene_.open();
  struct statvfs info{};
  ASSERT_EQ(::statvfs(scene_.path().c_str(), &info), 0);
  auto const tenth = static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize) / 10;
  EXPECT_NEAR(static_cast<double>(scene_.directory().use().limit_bytes), tenth, tenth / 10);
}

TEST_F(Volume, ALimitTooSmallIsRefusedWithTheLeastThereCanBe) {
  scene_.options.limit_bytes = 100'000;
  auto const least = fixed_file_bytes(3, 1024) + (1u << 20);
  EXPECT_EQ(refusal(scene_, std::to_string(least) + " are needed"), ErrorCode::kInvalidArgument);
  scene_.options.limit_bytes = least;
  scene_.open();
}

TEST_F(Volume, ALowerLimitAtTheNextOpeningCostsWhatWasUsedLongestAgo) {
  scene_.open();
  put(0, 24);
  scene_.close();
  scene_.options.limit_bytes = fixed_file_bytes(3, 1024) + (3u << 20);
  scene_.open();
  EXPECT_TRUE(directory_is_sound(scene_.state()));
  EXPECT_LE(scene_.directory().use().file_bytes, scene_.options.limit_bytes);
  EXPECT_GE(count_there(12, 12), 8u);
  EXPECT_EQ(count_there(0, 12), 0u);
}

TEST_F(Volume, ALimitOfAVolumeInUseStays) {
  scene_.open();
  auto const limit = scene_.options.limit_bytes;
  scene_.options.limit_bytes = 2 * limit;
  auto const other = must(scene_.try_open());
  EXPECT_EQ(other.directory->use().limit_bytes, limit);
  EXPECT_EQ(scene_.log.count("is in use with a limit of"), 1u);
}

TEST_F(Volume, LookingMakesNothing) {
  scene_.options.purpose = VolumeOptions::Purpose::kLook;
  EXPECT_EQ(refusal(scene_, "there is no disk cache"), ErrorCode::kUnavailable);
  EXPECT_FALSE(fs::exists(scene_.path()));
}

TEST_F(Volume, LookingChangesNothing) {
  scene_.open();
  put(0, 20);
  scene_.close();
  auto const before = contents(scene_.path() + "/index");
  auto const bytes = bytes_of_folder(scene_.path(1));
  auto looking = scene_.options;
  looking.purpose = VolumeOptions::Purpose::kLook;
  looking.limit_bytes = 0;
  auto look = must(open_volume(looking, scene_.clock, {}));
  EXPECT_EQ(look.directory->use().chunks, 20u);
  EXPECT_EQ(contents(scene_.path() + "/index"), before);
  EXPECT_EQ(bytes_of_folder(scene_.path(1)), bytes);
  // Who uses it then brings the limit.
  scene_.open();
  EXPECT_EQ(scene_.directory().use().limit_bytes, scene_.options.limit_bytes);
  EXPECT_EQ(count_there(0, 20), 20u);
  auto const again = must(open_volume(looking, scene_.clock, {}));
  EXPECT_EQ(again.directory->use().limit_bytes, scene_.options.limit_bytes);
}

TEST_F(Volume, WhoOpensWhileTheLastOneLeavesWaitsForIt) {
  scene_.open();
  put(0, 5);
  auto& header = scene_.state().segment.header();
  header.closed.store(1);  // as its destructor does, before its locks are gone
  Milestone begun;
  ChildProcess child{[&] {
    begun.reach();
    auto const opened = scene_.try_open();
    return opened && opened.value().directory->use().chunks == 5 ? 0 : 1;
  }};
  begun.await();
  scene_.close();
  EXPECT_EQ(child.wait(), 0);
}

TEST_F(Volume, AnotherUsersFolderIsRefused) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  scene_.open();
  scene_.close();
  fs::permissions(scene_.root(), fs::perms::all);
  fs::permissions(scene_.path(), fs::perms::all);
  ChildProcess child{[&] {
    if (::setgid(65534) != 0 || ::setuid(65534) != 0) return 2;
    auto const opened = scene_.try_open();
    bool const refused = !opened && opened.error().code() == ErrorCode::kInvalidArgument &&
                         opened.error().message().find("another user") != std::string::npos;
    return refused ? 0 : 1;
  }};
  EXPECT_EQ(child.wait(), 0);
  ASSERT_EQ(::chown((scene_.path() + "/volume").c_str(), 65534, 65534), 0);
  EXPECT_EQ(refusal(scene_, "is a disk cache of user 65534"), ErrorCode::kInvalidArgument);
}

TEST(VolumeCopy, ACopyOfAFolderIsAVolumeOfItsOwnAlsoWhileTheOriginalIsInUse) {
  DiskScene scene;
  scene.open();
  ASSERT_EQ(std::ranges::count(scene.write(seeds(0, 10)), TierOutcome::kDone), 10);
  ASSERT_TRUE(scene.tier().drain(std::chrono::seconds{10}));
  std::string const copy = scene.path() + "-copy";
  std::filesystem::copy(scene.path(), copy, std::filesystem::copy_options::recursive);
  auto options = scene.options();
  options.volume.folders = {copy};
  SystemClock const clock;
  auto const other = must(DiskTier::open(options, clock, {}));
  EXPECT_TRUE(other->loaded());
  EXPECT_EQ(other->status().use.processes, 1u);
  EXPECT_EQ(other->status().use.chunks, 10u);
  EXPECT_EQ(other->clear(), 10u);
  EXPECT_EQ(scene.count_there(seeds(0, 10)), 10u);
  EXPECT_EQ(scene.tier().status().use.processes, 1u);
}

}  // namespace
}  // namespace lmcache::test
