// SPDX-License-Identifier: Apache-2.0
#include <lmcache/memory/segment_file.hpp>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "support/child_process.hpp"
#include "support/refused_calls.hpp"
#include "support/temp_directory.hpp"

namespace lmcache {
namespace {

using test::ChildProcess;
using test::Milestone;
using test::TempDirectory;
using test::TempMount;

constexpr std::uint64_t kMegabyte = 1u << 20;
constexpr uid_t kOtherUser = 65534;

Result<void> nothing(int /*fd*/) { return {}; }

struct stat status_of(int fd) {
  struct stat info{};
  EXPECT_EQ(::fstat(fd, &info), 0);
  return info;
}
std::uint64_t allocated(int fd) {
  return static_cast<std::uint64_t>(status_of(fd).st_blocks) * 512;
}
bool exists(std::string const& path) {
  struct stat info{};
  return ::lstat(path.c_str(), &info) == 0;
}
void make_file(std::string const& path, mode_t mode) {
  std::ofstream{path} << "x";
  ASSERT_EQ(::chmod(path.c_str(), mode), 0);
}

template <class T>
void expect_error(Result<T> const& result, ErrorCode code, std::string_view text) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), code);
  EXPECT_NE(result.error().message().find(text), std::string::npos) << result.error().message();
}

TEST(SegmentPath, NamesLieInTheFolderUnderTheUser) {
  std::string const prefix = "/dev/shm/lmcache-" + std::to_string(::geteuid()) + "-";
  for (std::string const name : {"auto", "a", "A.b_c-9", ".", "..", ".hidden"}) {
    EXPECT_EQ(segment_path("/dev/shm", name).value(), prefix + name);
  }
  EXPECT_TRUE(segment_path("/dev/shm", std::string(128, 'n')));
}

TEST(SegmentPath, AnAbsolutePathIsTakenAsItIs) {
  EXPECT_EQ(segment_path("/dev/shm", "/mnt/huge/lm cache").value(), "/mnt/huge/lm cache");
}

TEST(SegmentPath, RefusesOtherNamesAndSaysWhatIsAllowed) {
  for (std::string const& name :
       std::vector<std::string>{"", "a/b", "../x", "a b", "é", "a\n", std::string{"a\0b", 3}, "a:b",
                                std::string(129, 'n')}) {
    expect_error(segment_path("/dev/shm", name), ErrorCode::kInvalidArgument, "letters, digits");
  }
}

TEST(SegmentPath, FolderOfAPath) {
  EXPECT_EQ(segment_directory("/dev/shm/x"), "/dev/shm");
  EXPECT_EQ(segment_directory("/x"), "/");
}

TEST(OpenSegmentFile, NothingThereIsUnavailable) {
  TempDirectory const directory;
  expect_error(open_segment_file(directory / "none"), ErrorCode::kUnavailable, directory / "none");
  expect_error(open_segment_file(directory / "no/where"), ErrorCode::kUnavailable, "no/where");
}

TEST(OpenSegmentFile, OpensReadWriteForUsAlone) {
  TempDirectory const directory;
  make_file(directory / "a", 0600);
  auto const fd = open_segment_file(directory / "a");
  ASSERT_TRUE(fd);
  EXPECT_EQ(::fcntl(fd.value().get(), F_GETFL) & O_ACCMODE, O_RDWR);
  EXPECT_EQ(::fcntl(fd.value().get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
}

TEST(OpenSegmentFile, RefusesAModeThatLetsOthersIn) {
  TempDirectory const directory;
  for (mode_t const mode : {0640U, 0620U, 0604U, 0602U, 0601U, 0666U}) {
    make_file(directory / "a", mode);
    expect_error(open_segment_file(directory / "a"), ErrorCode::kInvalidArgument, "0600");
  }
}

TEST(OpenSegmentFile, RefusesWhatIsNoRegularFile) {
  TempDirectory const directory;
  make_file(directory / "a", 0600);
  ASSERT_EQ(::symlink((directory / "a").c_str(), (directory / "link").c_str()), 0);
  ASSERT_EQ(::symlink("nowhere", (directory / "dangling").c_str()), 0);
  ASSERT_EQ(::mkdir((directory / "folder").c_str(), 0700), 0);
  ASSERT_EQ(::mkfifo((directory / "fifo").c_str(), 0600), 0);
  expect_error(open_segment_file(directory / "link"), ErrorCode::kInvalidArgument, "symbolic link");
  expect_error(open_segment_file(directory / "dangling"), ErrorCode::kInvalidArgument,
               "symbolic link");
  expect_error(open_segment_file(directory / "folder"), ErrorCode::kInvalidArgument, "directory");
  expect_error(open_segment_file(directory / "fifo"), ErrorCode::kInvalidArgument,
               "not a regular file");
}

TEST(OpenSegmentFile, RefusesTheFileOfAnotherUserNamingBoth) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give files away";
  TempDirectory const directory;
  make_file(directory / "a", 0600);
  ASSERT_EQ(::chown((directory / "a").c_str(), kOtherUser, kOtherUser), 0);
  expect_error(open_segment_file(directory / "a"), ErrorCode::kInvalidArgument,
               "belongs to user 65534, we are user 0");
}

TEST(OpenSegmentFile, SaysWhoseFileItIsThatWeMayNotOpen) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  TempDirectory const directory;
  make_file(directory / "a", 0600);
  ASSERT_EQ(::chmod(directory.path().c_str(), 0755), 0);
  ChildProcess child{[&] {
    if (::setresuid(kOtherUser, kOtherUser, kOtherUser) != 0) return 1;
    auto const fd = open_segment_file(directory / "a");
    if (fd || fd.error().code() != ErrorCode::kInvalidArgument) return 2;
    auto const& message = fd.error().message();
    return message.find("belongs to user 0, we are user 65534") != std::string::npos ? 0 : 3;
  }};
  EXPECT_EQ(child.wait(), 0);
}

TEST(OpenSegmentFile, WantOfDescriptorsIsNotTheFilesFault) {
  TempDirectory const directory;
  make_file(directory / "a", 0600);
  ChildProcess child{[&] {
    rlimit none{};
    ::setrlimit(RLIMIT_NOFILE, &none);
    auto const fd = open_segment_file(directory / "a");
    return !fd && fd.error().code() == ErrorCode::kIo && fd.error().os_error() == EMFILE ? 0 : 1;
  }};
  EXPECT_EQ(child.wait(), 0);
}

TEST(PublishSegmentFile, ThereIsNoFileUntilItIsFilled) {
  TempDirectory const directory;
  std::string const path = directory / "a";
  auto const fd = publish_segment_file(path, 3 * kMegabyte, [&](int filling) -> Result<void> {
    EXPECT_FALSE(exists(path));
    EXPECT_EQ(status_of(filling).st_size, 3 << 20);
    EXPECT_EQ(::pwrite(filling, "full", 4, 0), 4);
    return {};
  });
  ASSERT_TRUE(fd);
  auto const opened = open_segment_file(path);
  ASSERT_TRUE(opened);
  EXPECT_EQ(status_of(opened.value().get()).st_ino, status_of(fd.value().get()).st_ino);
  char text[5] = {};
  EXPECT_EQ(::pread(opened.value().get(), text, 4, 0), 4);
  EXPECT_STREQ(text, "full");
}

TEST(PublishSegmentFile, ModeIs0600WhateverTheUmask) {
  TempDirectory const directory;
  for (mode_t const mask : {0000U, 0022U, 0177U, 0777U}) {
    std::string const path = directory / std::to_string(mask);
    mode_t const before = ::umask(mask);
    auto const fd = publish_segment_file(path, 4096, nothing);
    ::umask(before);
    ASSERT_TRUE(fd);
    EXPECT_EQ(status_of(fd.value().get()).st_mode & 07777U, 0600U);
  }
}

TEST(PublishSegmentFile, AFailedFillLeavesNothing) {
  TempDirectory const directory;
  auto const fd = publish_segment_file(directory / "a", 4096, [](int) -> Result<void> {
    return Error{ErrorCode::kOutOfMemory, "no room"};
  });
  expect_error(fd, ErrorCode::kOutOfMemory, "no room");
  EXPECT_EQ(directory.file_count(), 0U);
}

TEST(PublishSegmentFile, AProcessKilledWhileFillingLeavesNothing) {
  TempDirectory const directory;
  Milestone filling;
  ChildProcess child{[&]() -> int {
    (void)publish_segment_file(directory / "a", kMegabyte, [&](int fd) -> Result<void> {
      (void)reserve_bytes(fd, 0, kMegabyte);
      filling.reach();
      test::wait_to_be_killed();
    });
    return 1;
  }};
  filling.await();
  child.kill();
  EXPECT_EQ(child.wait(), 256 + SIGKILL);
  EXPECT_EQ(directory.file_count(), 0U);
}

TEST(PublishSegmentFile, TheFirstOneWinsAndKeepsItsFile) {
  TempDirectory const directory;
  auto const first = publish_segment_file(directory / "a", 4096, nothing);
  ASSERT_TRUE(first);
  expect_error(publish_segment_file(directory / "a", 8192, nothing), ErrorCode::kCancelled,
               directory / "a");
  EXPECT_EQ(status_of(open_segment_file(directory / "a").value().get()).st_ino,
            status_of(first.value().get()).st_ino);
  EXPECT_EQ(directory.file_count(), 1U);
}

TEST(PublishSegmentFile, SaysWhichFolderIsMissing) {
  expect_error(publish_segment_file("/no/such/folder/a", 4096, nothing), ErrorCode::kIo,
               "/no/such/folder/a");
}

TEST(PublishSegmentFile, WithoutUnnamedFilesATemporaryOneIsRenamed) {
  constexpr int kCannot = 77;
  TempDirectory const directory;
  std::string const path = directory / "a";
  ChildProcess child{[&] {
    if (!test::refuse({.number = SYS_openat,
                       .argument = 2,
                       .condition = test::RefusedCall::If::kAnyBitOf,
                       .value = O_TMPFILE & ~O_DIRECTORY,
                       .error = EOPNOTSUPP})) {
      return kCannot;
    }
    if (::open(directory.path().c_str(), O_TMPFILE | O_RDWR, 0600) >= 0 || errno != EOPNOTSUPP)
      return 1;
    ::umask(0);
    std::size_t files_while_filling = 0;
    auto const fd = publish_segment_file(path, 4096, [&](int) -> Result<void> {
      files_while_filling = directory.file_count();
      return exists(path) ? Error{ErrorCode::kInternal, "visible"} : Result<void>{};
    });
    if (!fd || files_while_filling != 1 || directory.file_count() != 1) return 2;
    if ((status_of(fd.value().get()).st_mode & 07777U) != 0600U || !open_segment_file(path))
      return 3;
    if (status_of(fd.value().get()).st_nlink != 1) return 4;
    auto const second = publish_segment_file(path, 4096, nothing);
    if (second || second.error().code() != ErrorCode::kCancelled) return 5;
    auto const failed = publish_segment_file(directory / "b", 4096, [](int) -> Result<void> {
      return Error{ErrorCode::kOutOfMemory, "no room"};
    });
    return !failed && directory.file_count() == 1 ? 0 : 6;
  }};
  int const status = child.wait();
  if (status == kCannot) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_EQ(status, 0);
}

TEST(PublishSegmentFile, ALimitOnFileSizesIsAnErrorNotASignal) {
  TempDirectory const directory;
  ChildProcess child{[&] {
    rlimit const limit{.rlim_cur = kMegabyte, .rlim_max = kMegabyte};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    auto const named = publish_segment_file(directory / "a", kMegabyte + 1, nothing);
    auto const unnamed = make_private_file(kMegabyte + 1);
    if (named || unnamed) return 1;
    if (named.error().code() != ErrorCode::kOutOfMemory) return 2;
    if (unnamed.error().message().find("ulimit -f") == std::string::npos) return 3;
    return make_private_file(kMegabyte) ? 0 : 4;
  }};
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(directory.file_count(), 0U);
}

TEST(PrivateFile, HasItsSizeAndNoMemory) {
  auto const fd = make_private_file(500'000'000'000);
  ASSERT_TRUE(fd);
  EXPECT_EQ(status_of(fd.value().get()).st_size, 500'000'000'000);
  EXPECT_EQ(allocated(fd.value().get()), 0U);
}

TEST(FreeBytes, OfAFolderThatIsNotThere) {
  expect_error(free_bytes("/no/such/folder"), ErrorCode::kIo, "/no/such/folder");
}

TEST(FreeBytes, AreThoseOfTheFileSystem) {
  TempMount const mount{{.type = "tmpfs", .options = "size=16m,mode=0700"}};
  if (!mount) GTEST_SKIP() << mount.why();
  EXPECT_EQ(free_bytes(mount.directory().path()).value(), 16 * kMegabyte);
  auto const fd = publish_segment_file(mount.directory() / "a", 32 * kMegabyte, [](int filling) {
    return reserve_bytes(filling, kMegabyte, 4 * kMegabyte);
  });
  ASSERT_TRUE(fd);
  EXPECT_EQ(free_bytes(mount.directory().path()).value(), 12 * kMegabyte);
}

TEST(FreeBytes, ATmpfsWithoutALimitIsNotFull) {
  TempMount const mount{{.type = "tmpfs", .options = "size=0,mode=0700"}};
  if (!mount) GTEST_SKIP() << mount.why();
  EXPECT_EQ(free_bytes(mount.directory().path()).value(),
            std::numeric_limits<std::uint64_t>::max());
}

TEST(ReserveBytes, TakesMemoryOnceAndKeepsWhatIsThere) {
  auto const fd = make_private_file(8 * kMegabyte);
  ASSERT_EQ(::pwrite(fd.value().get(), "kept", 4, static_cast<off_t>(kMegabyte)), 4);
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(reserve_bytes(fd.value().get(), kMegabyte, 2 * kMegabyte));
    EXPECT_EQ(allocated(fd.value().get()), 2 * kMegabyte);
  }
  char text[5] = {};
  EXPECT_EQ(::pread(fd.value().get(), text, 4, static_cast<off_t>(kMegabyte)), 4);
  EXPECT_STREQ(text, "kept");
  EXPECT_TRUE(reserve_bytes(fd.value().get(), 0, 0));
}

TEST(ReserveBytes, AFullFileSystemIsAnErrorAndTakesNothing) {
  TempMount const mount{{.type = "tmpfs", .options = "size=16m,mode=0700"}};
  if (!mount) GTEST_SKIP() << mount.why();
  auto const fd = publish_segment_file(mount.directory() / "a", 64 * kMegabyte, nothing);
  ASSERT_TRUE(fd);
  auto const reserved = reserve_bytes(fd.value().get(), 0, 17 * kMegabyte);
  expect_error(reserved, ErrorCode::kOutOfMemory, "17825792 bytes");
  EXPECT_EQ(reserved.error().os_error(), ENOSPC);
  EXPECT_EQ(allocated(fd.value().get()), 0U);
  EXPECT_TRUE(reserve_bytes(fd.value().get(), 0, 16 * kMegabyte));
}

TEST(ReserveBytes, WhatCannotBeReservedIsNotCalledFull) {
  EXPECT_EQ(reserve_bytes(-1, 0, 4096).error().code(), ErrorCode::kIo);
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  UniqueFd const read_end{ends[0]};
  UniqueFd const write_end{ends[1]};
  EXPECT_EQ(reserve_bytes(ends[1], 0, 4096).error().os_error(), ESPIPE);
}

TEST(ReserveBytes, GetsDoneInPiecesWhereSignalsInterruptLargeOnes) {
  constexpr int kCannot = 77;
  constexpr std::uint64_t kMuch = 5 * kMegabyte + 4096;
  ChildProcess child{[] {
    auto const fd = make_private_file(8 * kMegabyte);
    if (!test::refuse({.number = SYS_fallocate,
                       .argument = 3,
                       .condition = test::RefusedCall::If::kAbove,
                       .value = 300'000,
                       .error = EINTR})) {
      return kCannot;
    }
    ::alarm(30);  // in place of trying for ever
    if (!reserve_bytes(fd.value().get(), kMegabyte, kMuch)) return 1;
    return allocated(fd.value().get()) == kMuch ? 0 : 2;
  }};
  int const status = child.wait();
  if (status == kCannot) GTEST_SKIP() << "no seccomp filters here";
  EXPECT_EQ(status, 0);
}

TEST(ListSegmentFiles, OwnFilesByName) {
  TempDirectory const directory;
  std::string const own = "lmcache-" + std::to_string(::geteuid()) + "-";
  auto const fd = publish_segment_file(directory / (own + "b"), kMegabyte,
                                       [](int filling) { return reserve_bytes(filling, 0, 8192); });
  ASSERT_TRUE(fd);
  make_file(directory / (own + "a"), 0600);
  make_file(directory / (own + "a.v1"), 0600);
  make_file(directory / "lmcache-123456789-x", 0600);
  make_file(directory / "other", 0600);
  ASSERT_EQ(::mkdir((directory / (own + "folder")).c_str(), 0700), 0);
  ASSERT_EQ(::symlink("other", (directory / (own + "link")).c_str()), 0);
  auto const files = list_segment_files(directory.path());
  ASSERT_TRUE(files);
  ASSERT_EQ(files.value().size(), 3U);
  EXPECT_EQ(files.value()[0].name, "a");
  EXPECT_EQ(files.value()[1].name, "a.v1");
  EXPECT_EQ(files.value()[2].name, "b");
  EXPECT_EQ(files.value()[2].path, directory / (own + "b"));
  EXPECT_EQ(files.value()[2].allocated_bytes, 8192U);
  expect_error(list_segment_files(directory / "none"), ErrorCode::kIo, directory / "none");
}

}  // namespace
}  // namespace lmcache
