// SPDX-License-Identifier: Apache-2.0
#include <lmcache/tier/disk/slab_cache.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <lmcache/io/io_engine.hpp>

#include "support/volume_scene.hpp"

namespace lmcache::test {
namespace {

class SlabCacheOf : public testing::Test {
 protected:
  void SetUp() override {
    scene_.make_files = true;
    scene_.open();
    io_ = must(make_io({.kind = IoKind::kThreads, .threads = 1}, {}));
    cache_ = std::make_unique<SlabCache>(scene_.files(), *io_);
  }

  VolumeScene scene_{16u << 20};
  std::unique_ptr<AsyncFileIo> io_;
  std::unique_ptr<SlabCache> cache_;
};

TEST_F(SlabCacheOf, ASlabIsOpenedOnce) {
  auto const place = scene_.put(1, 256u << 10)->place;
  auto const first = must(cache_->get(place));
  auto const second = must(cache_->get(place));
  EXPECT_EQ(first.fd, second.fd);
  EXPECT_EQ(first.file, second.file);
}

TEST_F(SlabCacheOf, ASlabThatWasMadeAnewIsOpenedAnew) {
  auto place = scene_.put(1, 256u << 10)->place;
  auto const first = must(cache_->get(place));
  struct stat before{};
  ASSERT_EQ(::fstat(first.fd, &before), 0);
  must(scene_.files().make_slab(place.folder, place.slab, 1u << 20));
  ++place.incarnation;
  auto const second = must(cache_->get(place));
  struct stat after{};
  ASSERT_EQ(::fstat(second.fd, &after), 0);
  EXPECT_NE(before.st_ino, after.st_ino);
  EXPECT_EQ(after.st_nlink, 1u);
}

TEST_F(SlabCacheOf, SmallSlotsGoThroughThePageCache) {
  auto const small = must(cache_->get(scene_.put(1, 3 * kDiskPageBytes)->place));
  EXPECT_FALSE(small.direct);
  EXPECT_EQ(::fcntl(small.fd, F_GETFL) & O_DIRECT, 0);
}

TEST_F(SlabCacheOf, AMissingFileIsAnErrorWithItsReason) {
  auto const place = scene_.put(1, 256u << 10)->place;
  scene_.files().remove_slab(place.folder, place.slab);
  auto const slab = cache_->get(place);
  ASSERT_FALSE(slab);
  EXPECT_EQ(slab.error().os_error(), ENOENT);
  must(scene_.files().make_slab(place.folder, place.slab, 1u << 20));
  EXPECT_TRUE(cache_->get(place)) << "not remembered";
}

TEST_F(SlabCacheOf, WithoutItsEngineItOpensNothingMore) {
  auto const one = scene_.put(1, 256u << 10)->place;
  auto const other = scene_.put(2, 128u << 10)->place;
  auto const fd = must(cache_->get(one)).fd;
  cache_->forget_io();
  io_.reset();
  EXPECT_EQ(must(cache_->get(one)).fd, fd);
  EXPECT_FALSE(cache_->get(other));
  cache_.reset();
  EXPECT_EQ(::fcntl(fd, F_GETFD), -1) << "closed with it";
}

}  // namespace
}  // namespace lmcache::test
