// SPDX-License-Identifier: Apache-2.0
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>

#include <gtest/gtest.h>

#include <lmcache/tier/disk/volume_files.hpp>

#include "support/child_process.hpp"
#include "support/must.hpp"
#include "support/temp_directory.hpp"

namespace lmcache::test {
namespace {

namespace fs = std::filesystem;
using Use = VolumeFolder::Use;
constexpr std::chrono::milliseconds kNoTime{0};

ErrorCode refusal(std::string const& path, IoCreate create) {
  auto const opened = VolumeFolder::open(path, create);
  return opened ? ErrorCode::kInternal : opened.error().code();
}

TEST(Folder, IsMadeForItsOwnerAloneWithAllAboveIt) {
  TempDirectory directory;
  auto const path = directory / "a/b/c";
  auto const folder = must(VolumeFolder::open(path, IoCreate::kAllowed));
  EXPECT_EQ(folder.path(), path);
  struct stat info{};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  ASSERT_EQ(::stat((path + "/volume").c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
}

TEST(Folder, IsOnlyOpenedWhenItMustExist) {
  TempDirectory directory;
  EXPECT_EQ(refusal(directory / "a", IoCreate::kExisting), ErrorCode::kUnavailable);
  fs::create_directory(directory / "a");
  EXPECT_EQ(refusal(directory / "a", IoCreate::kExisting), ErrorCode::kUnavailable);
  EXPECT_FALSE(fs::exists(directory / "a/volume"));
}

TEST(Folder, WhatIsNoFolderOfOursIsRefused) {
  TempDirectory directory;
  EXPECT_EQ(refusal("relative/path", IoCreate::kAllowed), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refusal("", IoCreate::kAllowed), ErrorCode::kInvalidArgument);
  fs::create_directory(directory / "link");
  fs::create_symlink("/etc/passwd", directory / "link/volume");
  EXPECT_NE(refusal(directory / "link", IoCreate::kAllowed), ErrorCode::kInternal);
  fs::create_directories(directory / "folder/volume");
  EXPECT_NE(refusal(directory / "folder", IoCreate::kAllowed), ErrorCode::kInternal);
  fs::create_directory(directory / "pipe");
  ASSERT_EQ(::mkfifo((directory / "pipe/volume").c_str(), 0600), 0);
  EXPECT_EQ(refusal(directory / "pipe", IoCreate::kAllowed), ErrorCode::kInvalidArgument);
}

TEST(Folder, OneAtATimeSetsUp) {
  TempDirectory directory;
  auto first = must(VolumeFolder::open(directory.path(), IoCreate::kAllowed));
  auto second = must(VolumeFolder::open(directory.path(), IoCreate::kAllowed));
  must(first.lock_setup(kNoTime));
  auto const refused = second.lock_setup(kNoTime);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kTimeout);
  first.unlock_setup();
  must(second.lock_setup(kNoTime));
}

TEST(Folder, ManyMayUseItOrOneAlone) {
  TempDirectory directory;
  auto first = must(VolumeFolder::open(directory.path(), IoCreate::kAllowed));
  auto second = must(VolumeFolder::open(directory.path(), IoCreate::kAllowed));
  must(first.lock_use(Use::kShared));
  must(second.lock_use(Use::kShared));
  auto const refused = second.lock_use(Use::kExclusive);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kUnavailable);
  {
    auto const gone = std::move(first);
  }
  must(second.lock_use(Use::kExclusive));
  auto third = must(VolumeFolder::open(directory.path(), IoCreate::kAllowed));
  EXPECT_FALSE(third.lock_use(Use::kShared));
  must(second.lock_use(Use::kShared));
  must(third.lock_use(Use::kShared));
}

TEST(Folder, LocksOfTheDeadAreGone) {
  TempDirectory directory;
  auto folder = must(VolumeFolder::open(directory.path(), IoCreate::kAllowed));
  Milestone held;
  ChildProcess child{[&] {
    auto other = must(VolumeFolder::open(directory.path(), IoCreate::kAllowed));
    must(other.lock_setup(kNoTime));
    must(other.lock_use(Use::kExclusive));
    held.reach();
    wait_to_be_killed();
    return 0;
  }};
  held.await();
  EXPECT_FALSE(folder.lock_setup(kNoTime));
  EXPECT_FALSE(folder.lock_use(Use::kShared));
  child.kill();
  must(folder.lock_setup(std::chrono::seconds{5}));
  must(folder.lock_use(Use::kExclusive));
}

TEST(Folder, AHeaderIsReadAsItWasWritten) {
  TempDirectory directory;
  auto const folder = must(VolumeFolder::open(directory.path(), IoCreate::kAllowed));
  EXPECT_FALSE(must(folder.read_header()).has_value()) << "a new one";
  VolumeHeader header{};
  header.folder = 5;
  must(folder.write_header(header));
  auto const read = must(folder.read_header());
  ASSERT_TRUE(read);
  EXPECT_EQ(read->folder, 5u);
  fs::resize_file(directory / "volume", 1000);
  auto const cut = folder.read_header();
  ASSERT_FALSE(cut);
  EXPECT_EQ(cut.error().code(), ErrorCode::kCorrupted);
  EXPECT_NE(cut.error().message().find(directory / "volume"), std::string::npos);
}

}  // namespace
}  // namespace lmcache::test
