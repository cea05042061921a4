// SPDX-License-Identifier: Apache-2.0
#include <lmcache/engine/remote_store.hpp>

#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include <lmcache/tier/remote/remote_tier.hpp>
#include <lmcache/tier/remote/transport.hpp>

#include "support/log_lines.hpp"
#include "support/remote_scene.hpp"

namespace lmcache::test {
namespace {

constexpr std::uint64_t kPayload = 4000;
constexpr std::uint64_t kSlot = 4608;

class RemoteStoreOfAServer : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    LMC_NEEDS_REDIS();
    server = std::make_unique<RedisServer>();
    store = must(RemoteStore::open({.url = server->url(), .serde = GetParam()}, {}));
    for (std::uint64_t i = 0; i < kCount; ++i) keys.push_back(numbered_key(i));
  }
  [[nodiscard]] RemoteSlots slots(std::vector<std::byte>& memory) const {
    return {.data = memory.data(), .slot_bytes = kSlot, .payload_bytes = kPayload};
  }
  // Payloads that differ.
  [[nodiscard]] static std::vector<std::byte> filled() {
    std::vector<std::byte> out(kCount * kSlot);
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<std::byte>(mix64(i));
    return out;
  }

  static constexpr std::size_t kCount = 50;
  std::unique_ptr<RedisServer> server;
  std::unique_ptr<RemoteStore> store;
  std::vector<ChunkKey> keys;
};

TEST_P(RemoteStoreOfAServer, ReadsWhatItWrote) {
  auto memory = filled();
  EXPECT_EQ(store->write(keys, slots(memory)), kCount);
  EXPECT_EQ(store->write(keys, slots(memory)), kCount) << "there already is as good";
  EXPECT_EQ(must(store->find(keys)), kCount);
  std::vector<std::byte> back(memory.size());
  EXPECT_EQ(store->read(keys, slots(back)), kCount);
  for (std::size_t i = 0; i < kCount; ++i) {
    auto const at = i * kSlot + sizeof(ChunkHeader);
    EXPECT_EQ(std::memcmp(back.data() + at, memory.data() + at, kPayload), 0) << i;
  }
}

TEST_P(RemoteStoreOfAServer, LooksAfterWhatIsThere) {
  auto memory = filled();
  ASSERT_EQ(store->write(keys, slots(memory)), kCount);
  EXPECT_GT(must(store->ping()), 0u);
  auto const use = must(store->stat());
  EXPECT_EQ(use.name, server->url());
  EXPECT_EQ(use.role, "master");
  EXPECT_EQ(use.chunks, kCount);
  EXPECT_GT(use.used_bytes, kCount * kPayload);
  EXPECT_EQ(use.limit_bytes, 0u);
  EXPECT_EQ(must(store->remove(std::span{keys}.first(20))), 20u);
  EXPECT_EQ(must(store->find(keys)), kCount - 20);
  EXPECT_EQ(store->read(keys, slots(memory)), kCount - 20) << "the others count as not right";
  EXPECT_EQ(must(store->clear()), kCount - 20);
  EXPECT_EQ(must(store->find(keys)), 0u);
  EXPECT_EQ(store->read(keys, slots(memory)), 0u);
}

TEST_P(RemoteStoreOfAServer, AServerThatGoesAwayEndsEveryCall) {
  auto memory = filled();
  ASSERT_EQ(store->write(keys, slots(memory)), kCount);
  server->kill();
  EXPECT_EQ(store->read(keys, slots(memory)), 0u);
  EXPECT_EQ(store->write(keys, slots(memory)), 0u);
  EXPECT_FALSE(store->ping());
  EXPECT_FALSE(store->find(keys));
  EXPECT_FALSE(store->stat());
  EXPECT_FALSE(store->clear());
}

TEST_P(RemoteStoreOfAServer, NothingAtAllIsFine) {
  EXPECT_EQ(store->write({}, {}), 0u);
  EXPECT_EQ(store->read({}, {}), 0u);
  EXPECT_EQ(must(store->find({})), 0u);
  EXPECT_EQ(must(store->remove({})), 0u);
}

INSTANTIATE_TEST_SUITE_P(BothForms, RemoteStoreOfAServer, testing::Values("msgpack", "naive"),
                         [](auto const& it) { return it.param; });

TEST(RemoteStore, SaysWhatIsWrong) {
  LMC_NEEDS_REDIS();
  RedisServer server{{"--requirepass", "right"}};
  auto const open = [](RemoteStoreOptions options) {
    return RemoteStore::open(std::move(options), {});
  };
  EXPECT_EQ(open({.url = "http://x"}).error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(open({.url = server.url(), .serde = "pickle"}).error().code(),
            ErrorCode::kInvalidArgument);
  auto const refused = open({.url = server.url(), .password = "hush-hush"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::kInvalidArgument);
  EXPECT_EQ(refused.error().message().find("hush-hush"), std::string::npos);
  EXPECT_TRUE(open({.url = server.url(), .password = "right"}));
  server.pause();
  EXPECT_EQ(open({.url = server.url(), .password = "right", .timeout_ms = 100}).error().code(),
            ErrorCode::kTimeout);
  auto const url = server.url();
  server.kill();
  EXPECT_EQ(open({.url = url}).error().code(), ErrorCode::kUnavailable);
}

}  // namespace
}  // namespace lmcache::test
