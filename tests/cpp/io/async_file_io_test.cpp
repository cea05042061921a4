// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/async_file_io.hpp>

#include <gtest/gtest.h>

#include <memory>
#include <utility>

namespace lmcache::test {
namespace {

// Keeps what it is given, for the test to answer.
class KeepingIo final : public AsyncFileIo {
 public:
  std::vector<Batch> batches;

 private:
  Result<IoFile> do_add_file(int fd) override { return IoFile{static_cast<std::uint32_t>(fd)}; }
  void do_remove_file(IoFile) override {}
  void do_submit(Batch batch) override { batches.push_back(std::move(batch)); }
  void do_register_memory(std::byte*, std::uint64_t) override {}
  IoTraits do_traits() const noexcept override { return {.name = "keeping"}; }
};

TEST(AsyncFileIo, CountsARequestUntilItsCallbackReturned) {
  KeepingIo io;
  std::vector<std::uint64_t> seen;
  io.submit(std::vector<IoRequest>(3), [&](std::uint32_t request, IoAnswer answer) {
    EXPECT_EQ(answer.os_error, static_cast<int>(request));
    seen.push_back(io.open_requests());
  });
  EXPECT_EQ(io.open_requests(), 3U);
  for (std::uint32_t const request : {2U, 0U, 1U}) {
    io.batches[0].done(request, {.os_error = static_cast<int>(request)});
  }
  EXPECT_EQ(seen, (std::vector<std::uint64_t>{3, 2, 1}));
  EXPECT_EQ(io.open_requests(), 0U);
}

TEST(AsyncFileIo, BatchOfNothingGoesNowhere) {
  KeepingIo io;
  io.submit({}, [](std::uint32_t, IoAnswer) { FAIL(); });
  EXPECT_TRUE(io.batches.empty());
}

TEST(AsyncFileIo, CallbackMayBeMissing) {
  KeepingIo io;
  io.submit(std::vector<IoRequest>(1), {});
  io.batches[0].done(0, {});
  EXPECT_EQ(io.open_requests(), 0U);
}

TEST(AsyncFileIo, CallbackLivesAsLongAsTheBatch) {
  KeepingIo io;
  auto shared = std::make_shared<int>(0);
  std::weak_ptr<int> const alive = shared;
  io.submit(std::vector<IoRequest>(1), [kept = std::move(shared)](std::uint32_t, IoAnswer) {});
  io.batches[0].done(0, {});
  EXPECT_FALSE(alive.expired());
  io.batches.clear();
  EXPECT_TRUE(alive.expired());
}

TEST(IoFile, IsNoneUntilItIsGiven) {
  EXPECT_EQ(IoFile{}, IoFile{});
  EXPECT_NE(IoFile{}, IoFile{0});
}

}  // namespace
}  // namespace lmcache::test
