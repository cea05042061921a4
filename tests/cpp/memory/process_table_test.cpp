// SPDX-License-Identifier: Apache-2.0
#include <lmcache/memory/process_table.hpp>

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>
#include <optional>
#include <string>

#include <lmcache/base/mapped_region.hpp>
#include <lmcache/base/unique_fd.hpp>
#include <lmcache/memory/process_identity.hpp>

#include "support/child_process.hpp"
#include "support/temp_directory.hpp"

namespace lmcache {
namespace {

using test::ChildProcess;
using test::Milestone;

constexpr int kFailed = 99;

// The table's file as one engine has it: opened and mapped anew, so with locks of its own.
class Attachment {
 public:
  explicit Attachment(std::string const& path)
      : fd_{::open(path.c_str(), O_RDWR | O_CLOEXEC)},
        region_{
            MappedRegion::map_file({.fd = fd_.get(), .size_bytes = ProcessTable::region_bytes()})},
        table_{region_.value().bytes(), fd_.get()} {}
  ProcessTable* operator->() noexcept { return &table_; }

  [[nodiscard]] Result<std::uint32_t> claim(std::string_view role = "worker",
                                            std::string_view instance_id = "instance") {
    return table_.claim({.role = role, .instance_id = instance_id, .now_unix_s = 1234});
  }

 private:
  UniqueFd fd_;
  Result<MappedRegion> region_;
  ProcessTable table_;
};

class ProcessTableTest : public testing::Test {
 protected:
  void SetUp() override {
    UniqueFd const fd{::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
    ASSERT_EQ(::ftruncate(fd.get(), static_cast<off_t>(ProcessTable::region_bytes())), 0);
    table_.emplace(path_);
  }

  // A process that has claimed a record (the first free one) and lives until it is killed.
  ChildProcess member() {
    Milestone claimed;
    ChildProcess child{[&]() -> int {
      Attachment own{path_};
      if (!own.claim()) return kFailed;
      claimed.reach();
      test::wait_to_be_killed();
    }};
    claimed.await();
    return child;
  }

  test::TempDirectory directory_;
  std::string path_{directory_ / "table"};
  std::optional<Attachment> table_;
};

TEST_F(ProcessTableTest, ARecordSaysWhoItIs) {
  auto& table = *table_;
  EXPECT_EQ(table->attached_count(), 0U);
  EXPECT_FALSE(table->attached(0));
  EXPECT_FALSE(table->alive(0));
  auto const index = table.claim("scheduler", "engine-7");
  ASSERT_TRUE(index);
  EXPECT_EQ(index.value(), 0U);
  auto const& record = table->record(0);
  EXPECT_EQ(record.pid, ::getpid());
  EXPECT_EQ(record.start_ticks, *running_since(::getpid()).value());
  EXPECT_EQ(record.pid_namespace, own_pid_namespace());
  EXPECT_EQ(record.attached_unix_s, 1234);
  EXPECT_STREQ(record.role.data(), "scheduler");
  EXPECT_STREQ(record.instance_id.data(), "engine-7");
  EXPECT_TRUE(table->attached(0));
  EXPECT_TRUE(table->alive(0));
  EXPECT_EQ(table->attached_count(), 1U);
}

TEST_F(ProcessTableTest, LongTextsAreCutAndEnd) {
  ASSERT_TRUE(table_->claim(std::string(500, 'r'), std::string(94, 'i') + "模"));
  auto const& record = (*table_)->record(0);
  EXPECT_EQ(std::string{record.role.data()}, std::string(31, 'r'));
  EXPECT_EQ(std::string{record.instance_id.data()}, std::string(94, 'i'));
}

TEST_F(ProcessTableTest, SixtyFourThenAnErrorThenTheOneThatLeft) {
  for (std::uint32_t i = 0; i < kMaxProcesses; ++i) {
    auto const index = table_->claim();
    ASSERT_TRUE(index);
    EXPECT_EQ(index.value(), i);
  }
  EXPECT_EQ((*table_)->attached_count(), 64U);
  auto const full = table_->claim();
  ASSERT_FALSE(full);
  EXPECT_EQ(full.error().code(), ErrorCode::kUnavailable);
  EXPECT_NE(full.error().message().find("64 processes"), std::string::npos);
  (*table_)->release(17);
  EXPECT_FALSE((*table_)->attached(17));
  EXPECT_FALSE((*table_)->alive(17));
  EXPECT_EQ((*table_)->attached_count(), 63U);
  auto const again = table_->claim();
  ASSERT_TRUE(again);
  EXPECT_EQ(again.value(), 17U);
  EXPECT_FALSE(table_->claim());
}

TEST_F(ProcessTableTest, ARecordBeginsWithoutCounts) {
  auto const index = table_->claim("a long role that was here before").value();
  auto& record = (*table_)->record(index);
  count(record.counters.lookups, 5);
  count(record.counters.dropped(DropReason::kNoSpace), 5);
  record.latencies.load.record(1000);
  (*table_)->release(index);
  ASSERT_EQ(table_->claim("x").value(), index);
  EXPECT_EQ(record.counters.snapshot().lookups, 0U);
  EXPECT_EQ(record.counters.snapshot().lost_stores(), 0U);
  EXPECT_EQ(record.latencies.load.snapshot().count(), 0U);
  EXPECT_EQ(record.latencies.load.snapshot().sum, 0U);
  EXPECT_STREQ(record.role.data(), "x");
}

TEST_F(ProcessTableTest, TwoEnginesOfOneProcessHaveARecordEach) {
  Attachment second{path_};
  EXPECT_EQ(table_->claim().value(), 0U);
  EXPECT_EQ(second.claim().value(), 1U);
  EXPECT_TRUE(second->alive(0));
  EXPECT_TRUE((*table_)->alive(1));
  (*table_)->release(0);
  EXPECT_FALSE(second->alive(0));
  EXPECT_TRUE(second->alive(1));
}

TEST_F(ProcessTableTest, TheLivingAreAliveAndZombiesAreNot) {
  auto child = member();
  EXPECT_EQ((*table_)->record(0).pid, child.pid());
  EXPECT_TRUE((*table_)->alive(0));
  child.kill();
  EXPECT_FALSE((*table_)->alive(0)) << "killed, not waited for";
  EXPECT_TRUE((*table_)->attached(0)) << "until somebody releases it";
  EXPECT_EQ(child.wait(), 256 + SIGKILL);
  EXPECT_FALSE((*table_)->alive(0));
  (*table_)->release(0);
  EXPECT_EQ(table_->claim().value(), 0U);
}

TEST_F(ProcessTableTest, AnotherProcessWithTheSamePidIsNotTheOwner) {
  auto const child = member();
  auto& record = (*table_)->record(0);
  ASSERT_TRUE((*table_)->alive(0));
  record.start_ticks -= 1;  // as if the owner had started earlier, and this pid were another's now
  EXPECT_FALSE((*table_)->alive(0));
}

TEST_F(ProcessTableTest, AForkOfADeadOwnerDoesNotKeepItAlive) {
  Milestone claimed;
  Milestone orphan_may_end;
  Milestone orphan_ended;
  ChildProcess owner{[&]() -> int {
    Attachment own{path_};
    if (!own.claim()) return kFailed;
    if (::fork() == 0) {  // has the descriptor, and with it the lock
      orphan_may_end.await();
      orphan_ended.reach();
      ::_exit(0);
    }
    claimed.reach();
    test::wait_to_be_killed();
  }};
  claimed.await();
  EXPECT_TRUE((*table_)->alive(0));
  owner.kill();
  EXPECT_FALSE((*table_)->alive(0));
  (*table_)->release(0);
  // The record cannot be had while the lock would make it look alive in another container.
  EXPECT_EQ(table_->claim().value(), 1U);
  orphan_may_end.reach();
  orphan_ended.await();
}

TEST_F(ProcessTableTest, WithoutAKnownNamespaceTheLockDecides) {
  auto child = member();
  auto& record = (*table_)->record(0);
  for (std::uint64_t const unknown : {std::uint64_t{0}, std::uint64_t{12345}}) {
    record.pid_namespace = unknown;
    record.pid = 1;  // whoever that is here
    EXPECT_TRUE((*table_)->alive(0));
  }
  child.kill();
  EXPECT_FALSE((*table_)->alive(0));
}

TEST_F(ProcessTableTest, OwnRecordIsAliveWhateverProcSays) {
  ASSERT_EQ(table_->claim().value(), 0U);
  (*table_)->record(0).pid_namespace = 0;
  EXPECT_TRUE((*table_)->alive(0)) << "our own lock is no obstacle to us, but it is ours";
  Attachment other{path_};
  EXPECT_TRUE(other->alive(0));
  (*table_)->release(0);
  EXPECT_FALSE((*table_)->alive(0));
}

TEST_F(ProcessTableTest, TheLivingSurviveAnObserverWithoutDescriptors) {
  auto child = member();
  ChildProcess observer{[&] {
    Attachment own{path_};
    rlimit none{};
    ::setrlimit(RLIMIT_NOFILE, &none);
    return own->alive(0) ? 0 : 1;
  }};
  EXPECT_EQ(observer.wait(), 0);
}

TEST_F(ProcessTableTest, AMemberWithoutProcIsWatchedByItsLock) {
  Milestone claimed;
  ChildProcess child{[&]() -> int {
    Attachment own{path_};
    rlimit none{};
    ::setrlimit(RLIMIT_NOFILE, &none);
    if (!own.claim() || !own->alive(0)) return kFailed;
    claimed.reach();
    test::wait_to_be_killed();
  }};
  claimed.await();
  EXPECT_EQ((*table_)->record(0).pid_namespace, 0U);
  EXPECT_TRUE((*table_)->alive(0));
  child.kill();
  EXPECT_FALSE((*table_)->alive(0));
}

TEST_F(ProcessTableTest, AFileThatCannotBeLockedIsAnError) {
  auto region = MappedRegion::map_anonymous(ProcessTable::region_bytes());
  ProcessTable table{region.value().bytes(), -1};
  auto const index = table.claim({.role = "", .instance_id = "", .now_unix_s = 0});
  ASSERT_FALSE(index);
  EXPECT_EQ(index.error().code(), ErrorCode::kIo);
  EXPECT_EQ(index.error().os_error(), EBADF);
}

// Two containers that share /dev/shm: pids mean nothing across them.
class PidNamespaceTest : public ProcessTableTest, public testing::WithParamInterface<bool> {};

TEST_P(PidNamespaceTest, DeathIsSeenFromOutsideAndFromInside) {
  bool const mount_proc = GetParam();
  constexpr int kCannot = 77;
  Milestone ready, host_died, inside_checked, may_die, inside_died;
  int report[2];
  ASSERT_EQ(::pipe2(report, O_CLOEXEC), 0);
  auto host = member();  // record 0
  ChildProcess container{[&]() -> int {
    if (::unshare(CLONE_NEWPID | CLONE_NEWNS) != 0) {
      ready.reach();
      return kCannot;
    }
    ChildProcess inside{[&]() -> int {
      if (mount_proc && (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
                         ::mount("proc", "/proc", "proc", 0, nullptr) != 0)) {
        ready.reach();
        return kCannot;
      }
      Attachment own{path_};
      auto const index = own.claim();
      if (!index || index.value() != 1) return kFailed;
      bool const host_seen_alive = own->alive(0);
      ready.reach();
      host_died.await();
      bool const host_seen_dead = !own->alive(0);
      char const verdict = host_seen_alive && host_seen_dead && own->alive(1) ? 'y' : 'n';
      (void)!::write(report[1], &verdict, 1);
      inside_checked.reach();
      test::wait_to_be_killed();
    }};
    may_die.await();
    inside.kill();
    inside_died.reach();
    int const status = inside.wait();
    return status == 256 + SIGKILL ? 0 : status;
  }};
  ready.await();
  if (!(*table_)->attached(1)) {
    may_die.reach();
    ASSERT_EQ(container.wait(), kCannot);
    ::close(report[0]);
    ::close(report[1]);
    GTEST_SKIP() << "no right to make a pid namespace with a /proc";
  }
  EXPECT_EQ((*table_)->record(1).pid, 1) << "its number in its namespace, another's here";
  EXPECT_TRUE((*table_)->alive(1));
  host.kill();
  host_died.reach();
  inside_checked.await();
  char verdict = 0;
  EXPECT_EQ(::read(report[0], &verdict, 1), 1);
  EXPECT_EQ(verdict, 'y') << "seen from inside, the host's process was alive, then dead";
  may_die.reach();
  inside_died.await();
  EXPECT_FALSE((*table_)->alive(1)) << "although there is a process 1 here";
  EXPECT_EQ(container.wait(), 0);
  ::close(report[0]);
  ::close(report[1]);
}

TEST(RemoteGauges, KeepTheBeginningOfAnError) {
  RemoteGauges gauges{};
  EXPECT_EQ(gauges.last_error_text(), "");
  std::string const longest(sizeof gauges.last_error, 'x');
  for (std::string const& text : {longest, std::string{"a word"}, std::string{"12345678"}}) {
    gauges.set_last_error(text);
    EXPECT_EQ(gauges.last_error_text(), text);
  }
  gauges.set_last_error(longest + "and more");
  EXPECT_EQ(gauges.last_error_text(), longest);
  gauges.set_last_error("");
  EXPECT_EQ(gauges.last_error_text(), "");
}

INSTANTIATE_TEST_SUITE_P(Proc, PidNamespaceTest, testing::Bool(),
                         [](auto const& proc) { return proc.param ? "OfItsOwn" : "OfTheHost"; });

}  // namespace
}  // namespace lmcache
