// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <optional>
#include <string>

#include <lmcache/engine/segment_status.hpp>
#include <lmcache/memory/segment_layout.hpp>

#include "engine/shared_scene.hpp"
#include "support/child_process.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint32_t kNoLimit = std::numeric_limits<std::uint32_t>::max();

class SegmentStatusTest : public testing::Test {
 protected:
  [[nodiscard]] SegmentStatus inspect() const { return must(inspect_segment(path_)); }
  [[nodiscard]] bool exists() const { return std::filesystem::exists(path_); }

  // A segment with three chunks of one prompt, of which nobody is left.
  void leave_three_chunks() {
    EngineScene scene{shared_shape(directory_)};
    EXPECT_EQ(scene.serve(simple_prompt(1, 96)).stored_chunks, 3u);
  }
  // All bytes of the file but those of the lock that a reader takes.
  [[nodiscard]] std::string content() const {
    std::ifstream file{path_, std::ios::binary};
    std::string text{std::istreambuf_iterator<char>{file}, {}};
    std::fill_n(text.begin() + offsetof(SegmentHeader, space_lock), sizeof(RobustMutex), '\0');
    return text;
  }
  [[nodiscard]] blkcnt_t blocks() const {
    struct stat info{};
    EXPECT_EQ(::stat(path_.c_str(), &info), 0);
    return info.st_blocks;
  }
  // A file where the segment would be.
  void write_file(std::string const& text, mode_t mode = 0600) const {
    std::ofstream{path_} << text;
    ASSERT_EQ(::chmod(path_.c_str(), mode), 0);
  }
  void expect_refused(ErrorCode code, RemoveMode mode) const {
    auto const removed = remove_segment(path_, mode);
    ASSERT_FALSE(removed);
    EXPECT_EQ(removed.error().code(), code) << removed.error().message();
    EXPECT_TRUE(exists());
  }

  TempDirectory directory_;
  std::string path_{shared_path(directory_)};
};

TEST_F(SegmentStatusTest, SaysWhatTheSegmentHoldsAndWhoHasIt) {
  auto shape = shared_shape(directory_);
  shape.options.role = "worker";
  shape.options.instance_id = "node-7";
  EngineScene scene{shape};
  (void)scene.serve(simple_prompt(1, 70));
  (void)scene.serve(simple_prompt(1, 70));
  auto const keys = scene.chain(simple_prompt(2, 32));
  auto const refs = scene.engine->reserve(scene.space, keys, {.first_chunk = 0, .end_token = 32});
  auto const hit = scene.engine->lookup(scene.space, scene.chain(simple_prompt(1, 70)), 64);

  auto const status = must(scene.engine->status());
  EXPECT_EQ(status.path, path_);
  EXPECT_EQ(status.capacity_bytes, 8u << 20);
  EXPECT_NEAR(static_cast<double>(status.created_unix_s), static_cast<double>(::time(nullptr)), 60);
  EXPECT_EQ(status.ready, 3u);
  EXPECT_EQ(status.writing, 1u);
  EXPECT_EQ(status.entries, 4u);
  EXPECT_EQ(status.bound_slots, status.ready + status.writing + status.free_slots);
  EXPECT_EQ(status.leased, 2u);
  EXPECT_EQ(status.used_bytes, (8u + 8 + 2 + 8) * KvShape{}.block_bytes());
  EXPECT_FALSE(status.remove_when_unused);
  EXPECT_EQ(status.repaired_locks, 0u);
  ASSERT_EQ(status.processes.size(), 1u);
  auto const& process = status.processes.front();
  EXPECT_EQ(process.pid, ::getpid());
  EXPECT_TRUE(process.alive);
  EXPECT_EQ(process.role, "worker");
  EXPECT_EQ(process.instance_id, "node-7");
  EXPECT_EQ(process.counters.stored_chunks, 3u);
  ASSERT_EQ(status.namespaces.size(), 1u);
  auto const& space = status.namespaces.front();
  EXPECT_EQ(space.id, scene.space.id);
  EXPECT_EQ(space.model, "model");
  EXPECT_NE(space.description.find("\"model\""), std::string::npos) << space.description;
  EXPECT_EQ(space.entries, 4u);
  EXPECT_EQ(space.size_bytes, status.used_bytes);
  EXPECT_EQ(space.lookups, 3u);
  EXPECT_EQ(space.lookup_tokens, 210u);
  EXPECT_EQ(space.hit_tokens, 70u + 64);
  EXPECT_EQ(status.lookup_ns.count(), 3u);
  EXPECT_EQ(status.store_ns.count(), 1u);
  EXPECT_EQ(status.load_ns.count(), 1u);
  scene.engine->cancel(refs.front());
}

TEST_F(SegmentStatusTest, TheTotalKeepsWhatThoseWhoLeftHaveDone) {
  leave_three_chunks();
  auto const alone = inspect();
  EXPECT_TRUE(alone.processes.empty());
  EXPECT_EQ(alone.total.stored_chunks, 3u);
  EngineScene scene{shared_shape(directory_)};
  EXPECT_EQ(scene.serve(simple_prompt(2, 64)).stored_chunks, 2u);
  auto const status = inspect();
  ASSERT_EQ(status.processes.size(), 1u);
  EXPECT_EQ(status.processes[0].counters.stored_chunks, 2u);
  EXPECT_EQ(status.total.stored_chunks, 5u);
}

TEST_F(SegmentStatusTest, AnObserverChangesNothing) {
  leave_three_chunks();
  auto const before = content();
  auto const blocks_before = blocks();
  EXPECT_EQ(inspect().ready, 3u);
  EXPECT_EQ(must(list_segments(directory_.path())).size(), 1u);
  EXPECT_TRUE(content() == before);
  EXPECT_EQ(blocks(), blocks_before);
  EXPECT_TRUE(exists());
}

TEST_F(SegmentStatusTest, AnObserverIsNotTheLastOneToLeave) {
  EngineScene scene{shared_shape(directory_, false)};
  EXPECT_TRUE(inspect().remove_when_unused);
  EXPECT_EQ(inspect().processes.size(), 1u);
  EXPECT_TRUE(exists());
  EXPECT_EQ(scene.serve(simple_prompt(1, 64)).stored_chunks, 2u);
  EXPECT_EQ(inspect().ready, 2u);
}

TEST_F(SegmentStatusTest, ACrashedProcessIsShownAsNotAlive) {
  Milestone ready;
  ChildProcess child{[&] {
    EngineScene scene{shared_shape(directory_, false)};
    (void)scene.engine->reserve(scene.space, scene.chain(simple_prompt(1, 64)),
                                {.first_chunk = 0, .end_token = 64});
    ready.reach();
    wait_to_be_killed();
    return 0;
  }};
  ready.await();
  auto status = inspect();
  ASSERT_EQ(status.processes.size(), 1u);
  EXPECT_TRUE(status.processes[0].alive);
  EXPECT_EQ(status.processes[0].pid, child.pid());
  EXPECT_EQ(must(list_segments(directory_.path())).at(0).processes, 1u);
  EXPECT_FALSE(must(remove_segment(path_, RemoveMode::kReadableOnly)));
  EXPECT_FALSE(must(remove_segment(path_, RemoveMode::kForce)));
  EXPECT_TRUE(exists());

  child.kill();
  status = inspect();
  ASSERT_EQ(status.processes.size(), 1u);
  EXPECT_FALSE(status.processes[0].alive);
  EXPECT_EQ(status.writing, 2u);  // an observer takes nothing back
  EXPECT_EQ(must(list_segments(directory_.path())).at(0).processes, 0u);
  EXPECT_TRUE(must(remove_segment(path_, RemoveMode::kReadableOnly)));
  EXPECT_FALSE(exists());
}

TEST_F(SegmentStatusTest, ListsAllSegmentsAndSaysWhichCannotBeRead) {
  EXPECT_TRUE(must(list_segments(directory_.path())).empty());
  write_file("something else");
  auto shape = shared_shape(directory_);
  shape.options.segment = "another";
  EngineScene scene{shape};
  std::ofstream{directory_ / "unrelated"} << "x";

  auto const found = must(list_segments(directory_.path()));
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].name, "another");
  EXPECT_EQ(found[0].unreadable, "");
  EXPECT_EQ(found[0].processes, 1u);
  EXPECT_GT(found[0].allocated_bytes, 0u);
  EXPECT_EQ(found[1].name, "shared");
  EXPECT_EQ(found[1].path, path_);
  EXPECT_NE(found[1].unreadable.find("not a segment"), std::string::npos) << found[1].unreadable;
  EXPECT_EQ(found[1].processes, 0u);
  EXPECT_FALSE(list_segments(directory_ / "nowhere"));
}

TEST_F(SegmentStatusTest, WhatIsNotThereIsUnavailable) {
  EXPECT_EQ(inspect_segment(path_).error().code(), ErrorCode::kUnavailable);
  EXPECT_EQ(clear_segment(path_, std::nullopt).error().code(), ErrorCode::kUnavailable);
  for (auto const mode : {RemoveMode::kReadableOnly, RemoveMode::kForce})
    EXPECT_EQ(remove_segment(path_, mode).error().code(), ErrorCode::kUnavailable);
}

TEST_F(SegmentStatusTest, RemoveRefusesWhatALivingProcessHas) {
  auto scene = std::make_unique<EngineScene>(shared_shape(directory_));
  EXPECT_FALSE(must(remove_segment(path_, RemoveMode::kReadableOnly)));
  EXPECT_FALSE(must(remove_segment(path_, RemoveMode::kForce)));
  EXPECT_TRUE(exists());
  EXPECT_EQ(scene->serve(simple_prompt(1, 64)).stored_chunks, 2u);
  scene.reset();
  ASSERT_TRUE(exists());
  EXPECT_TRUE(must(remove_segment(path_, RemoveMode::kReadableOnly)));
  EXPECT_FALSE(exists());
  EXPECT_EQ(EngineScene{shared_shape(directory_)}.serve(simple_prompt(1, 64)).hit_tokens, 0u);
}

TEST_F(SegmentStatusTest, OnlyForceRemovesAFileThatIsNoSegment) {
  write_file("something else");
  expect_refused(ErrorCode::kInvalidArgument, RemoveMode::kReadableOnly);
  EXPECT_TRUE(must(remove_segment(path_, RemoveMode::kForce)));
  EXPECT_FALSE(exists());
}

TEST_F(SegmentStatusTest, OnlyForceRemovesASegmentOfAnotherVersionOrADamagedOne) {
  leave_three_chunks();
  std::uint32_t const version = kSegmentLayoutVersion + 1;
  {
    std::fstream file{path_, std::ios::in | std::ios::out | std::ios::binary};
    file.seekp(offsetof(SegmentHeader, layout_version));
    file.write(reinterpret_cast<char const*>(&version), sizeof version);
  }
  expect_refused(ErrorCode::kInvalidArgument, RemoveMode::kReadableOnly);
  EXPECT_TRUE(must(remove_segment(path_, RemoveMode::kForce)));

  leave_three_chunks();
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) / 2);
  expect_refused(ErrorCode::kCorrupted, RemoveMode::kReadableOnly);
  EXPECT_TRUE(must(remove_segment(path_, RemoveMode::kForce)));
  EXPECT_FALSE(exists());
}

TEST_F(SegmentStatusTest, NoForceRemovesAFileThatIsOpenToOthers) {
  write_file("something else", 0644);
  expect_refused(ErrorCode::kInvalidArgument, RemoveMode::kReadableOnly);
  expect_refused(ErrorCode::kInvalidArgument, RemoveMode::kForce);
}

TEST_F(SegmentStatusTest, ClearsOneModelOrAll) {
  EngineScene scene{shared_shape(directory_)};
  auto other_shape = shared_shape(directory_);
  other_shape.model = "other";
  EngineScene other{other_shape};
  (void)scene.serve(simple_prompt(1, 96));
  (void)other.serve(simple_prompt(1, 64));
  ASSERT_EQ(inspect().ready, 5u);

  EXPECT_EQ(must(clear_segment(path_, "unknown")), 0u);
  EXPECT_EQ(must(clear_segment(path_, "other")), 2u);
  EXPECT_EQ(inspect().ready, 3u);
  EXPECT_EQ(other.engine->lookup(other.space, other.chain(simple_prompt(1, 64)), kNoLimit)
                .prefix_tokens(),
            0u);
  {
    auto const hit = scene.engine->lookup(scene.space, scene.chain(simple_prompt(1, 96)), 32);
    EXPECT_EQ(must(clear_segment(path_, std::nullopt)), 2u);  // but what is leased
    EXPECT_TRUE(scene.engine->is_ready(hit.refs(0)[0]));
  }
  EXPECT_EQ(must(clear_segment(path_, std::nullopt)), 1u);
  auto const status = inspect();
  EXPECT_EQ(status.entries, 0u);
  EXPECT_EQ(status.used_bytes, 0u);
  EXPECT_EQ(status.free_slots, status.bound_slots);
}

}  // namespace
}  // namespace lmcache::test
