// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/io_file.hpp>

#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <thread>

#include "io_scene.hpp"
#include "support/refused_calls.hpp"
#include "support/temp_directory.hpp"

namespace lmcache::test {
namespace {

int flags_of(OpenedFile const& file) { return ::fcntl(file.fd.get(), F_GETFL); }

TEST(IoFile, OpensWhatTheOptionsSay) {
  DiskFolder const folder;
  auto const made = must(open_io_file(folder / "file", {.create = IoCreate::kNew}));
  EXPECT_EQ(flags_of(made) & O_ACCMODE, O_RDWR);
  EXPECT_EQ(::fcntl(made.fd.get(), F_GETFD), FD_CLOEXEC);
  struct stat status{};
  ASSERT_EQ(::fstat(made.fd.get(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600U);

  auto const again = open_io_file(folder / "file", {.create = IoCreate::kNew});
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code(), ErrorCode::kIo);
  EXPECT_EQ(again.error().os_error(), EEXIST);

  auto const read = must(
      open_io_file(folder / "file", {.access = IoAccess::kRead, .create = IoCreate::kExisting}));
  EXPECT_EQ(flags_of(read) & O_ACCMODE, O_RDONLY);
  auto const missing = open_io_file(folder / "none", {.create = IoCreate::kExisting});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().os_error(), ENOENT);
  EXPECT_NE(missing.error().message().find("none"), std::string::npos);
}

TEST(IoFile, IsFoundInAFolder) {
  DiskFolder const folder;
  UniqueFd const opened{::open(folder.path().c_str(), O_DIRECTORY | O_RDONLY | O_CLOEXEC)};
  (void)must(open_io_file(opened.get(), "inside"));
  EXPECT_TRUE(std::filesystem::exists(folder / "inside"));
}

TEST(IoFile, DoesNotFollowLinks) {
  DiskFolder const folder;
  (void)must(open_io_file(folder / "file"));
  std::filesystem::create_symlink(folder / "file", folder / "link");
  auto const opened = open_io_file(folder / "link");
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().os_error(), ELOOP);
}

TEST(IoFile, SaysWhetherItIsDirect) {
  DiskFolder const folder;
  for (auto const caching : {IoCaching::kDirect, IoCaching::kBuffered}) {
    auto const file = must(open_io_file(folder / "file", {.caching = caching}));
    EXPECT_EQ(file.direct, (flags_of(file) & O_DIRECT) != 0);
    EXPECT_TRUE(!file.direct || caching == IoCaching::kDirect);
    EXPECT_EQ(file.alignment_bytes == 1, !file.direct);
    EXPECT_EQ(file.alignment_bytes & (file.alignment_bytes - 1), 0U);
    EXPECT_EQ(file.alignment_bytes, io_alignment_bytes(file.fd.get()));
  }
  EXPECT_EQ(io_alignment_bytes(-1), 1U);
}

// A transfer at the alignment that is said must work.
TEST(IoFile, AlignmentIsEnough) {
  DiskFolder const folder;
  auto const file = must(open_io_file(folder / "file"));
  PageMemory const memory{64 * kKiB};
  auto const at = file.alignment_bytes;
  EXPECT_EQ(::pwrite(file.fd.get(), memory.data() + at, at, at), static_cast<ssize_t>(at))
      << std::strerror(errno);
}

// By a filter of system calls that only this thread has.
template <class Body>
void with_refused(RefusedCall call, Body body) {
  std::thread{[&] {
    if (refuse(call)) {
      body();
    } else {
      ADD_FAILURE() << "no filter of system calls";
    }
  }}.join();
}

TEST(IoFile, FallsBackToBuffered) {
  DiskFolder const folder;
  with_refused({.number = SYS_fcntl,
                .argument = 2,
                .condition = RefusedCall::If::kAnyBitOf,
                .value = O_DIRECT,
                .error = EINVAL},
               [&] {
                 auto const file = must(open_io_file(folder / "file", {.create = IoCreate::kNew}));
                 EXPECT_FALSE(file.direct);
                 EXPECT_EQ(file.alignment_bytes, 1U);
               });
}

TEST(IoFile, NoDescriptorIsOutOfMemory) {
  DiskFolder const folder;
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit const none{.rlim_cur = 0, .rlim_max = before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  auto const opened = open_io_file(folder / "file");
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(opened);
  EXPECT_EQ(opened.error().code(), ErrorCode::kOutOfMemory);
  EXPECT_EQ(opened.error().os_error(), EMFILE);
}

std::uint64_t blocks_of(OpenedFile const& file) {
  struct stat status{};
  EXPECT_EQ(::fstat(file.fd.get(), &status), 0);
  return static_cast<std::uint64_t>(status.st_blocks) * 512;
}

TEST(AllocateFile, ReservesAndKeepsWhatIsThere) {
  DiskFolder const folder;
  auto const file = must(open_io_file(folder / "file", {.caching = IoCaching::kBuffered}));
  ASSERT_EQ(::pwrite(file.fd.get(), "content", 7, 0), 7);
  EXPECT_EQ(must(allocate_file(file.fd.get(), kMiB)), Allocation::kReserved);
  EXPECT_GE(blocks_of(file), kMiB);
  EXPECT_EQ(std::filesystem::file_size(folder / "file"), kMiB);
  char read[8] = {};
  ASSERT_EQ(::pread(file.fd.get(), read, 7, 0), 7);
  EXPECT_STREQ(read, "content");
  EXPECT_EQ(must(allocate_file(file.fd.get(), 4096)), Allocation::kReserved);
  EXPECT_EQ(must(allocate_file(file.fd.get(), 0)), Allocation::kReserved);
  EXPECT_EQ(std::filesystem::file_size(folder / "file"), kMiB);
}

TEST(AllocateFile, OnlySetsTheLengthWhereNothingCanBeReserved) {
  DiskFolder const folder;
  auto const file = must(open_io_file(folder / "file", {.caching = IoCaching::kBuffered}));
  with_refused({.number = SYS_fallocate,
                .argument = 3,
                .condition = RefusedCall::If::kAbove,
                .value = 0,
                .error = EOPNOTSUPP},
               [&] {
                 EXPECT_EQ(must(allocate_file(file.fd.get(), kMiB)), Allocation::kSparse);
                 EXPECT_EQ(must(allocate_file(file.fd.get(), 4096)), Allocation::kSparse);
               });
  EXPECT_EQ(std::filesystem::file_size(folder / "file"), kMiB);
  EXPECT_LT(blocks_of(file), kMiB);
}

TEST(AllocateFile, SaysWhatWentWrong) {
  DiskFolder const folder;
  auto const file = must(open_io_file(folder / "file", {.caching = IoCaching::kBuffered}));
  for (int const error : {ENOSPC, EDQUOT, EIO}) {
    with_refused({.number = SYS_fallocate,
                  .argument = 3,
                  .condition = RefusedCall::If::kAbove,
                  .value = 0,
                  .error = error},
                 [&] {
                   auto const refused = allocate_file(file.fd.get(), kMiB);
                   ASSERT_FALSE(refused);
                   EXPECT_EQ(refused.error().os_error(), error);
                   EXPECT_EQ(refused.error().code(),
                             error == EIO ? ErrorCode::kIo : ErrorCode::kOutOfMemory);
                   EXPECT_NE(refused.error().message().find("1 MiB"), std::string::npos);
                 });
  }
  EXPECT_EQ(allocate_file(-1, kMiB).error().os_error(), EBADF);
}

TEST(AllocateFile, FullFileSystemIsOutOfMemory) {
  int skipped = 0;
  // In a thread, so that the mount name space of the others stays.
  std::thread{[&] {
    TempMount const mount{{.type = "tmpfs", .options = "size=1m"}};
    if (!mount) {
      skipped = 1;
      return;
    }
    auto const file = must(open_io_file(mount.directory() / "file"));
    auto const refused = allocate_file(file.fd.get(), 2 * kMiB);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code(), ErrorCode::kOutOfMemory);
    EXPECT_EQ(refused.error().os_error(), ENOSPC);
  }}.join();
  if (skipped != 0) GTEST_SKIP() << "cannot mount a tmpfs here";
}

}  // namespace
}  // namespace lmcache::test
