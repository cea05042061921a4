// SPDX-License-Identifier: Apache-2.0
// What we know of a Redis cluster: which node has which slot, one connection to each node that was
// needed, and which nodes nobody should wait for.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include <lmcache/net/redis_connection.hpp>
#include <lmcache/net/redis_slots.hpp>
#include <lmcache/net/redis_url.hpp>

namespace lmcache::detail {

// One thread at a time, but for shut().
class RedisNodes {
 public:
  using Host = RedisUrl::Host;
  // How long a node that failed is left alone: the first time, and as it fails again and again.
  static constexpr std::chrono::milliseconds kFirstRest{500};
  static constexpr std::chrono::milliseconds kLongestRest{8'000};

  explicit RedisNodes(RedisUrl url) : url_{std::move(url)} {}

  // The connection that there is, or a new one; valid until drop() or rest() of that host. Errors:
  // those of RedisConnection::open(), after which the node rests; kUnavailable while it rests.
  [[nodiscard]] Result<RedisConnection*> connect(Host const& host, Deadline deadline);
  void drop(Host const& host);
  // `waited`: for nothing. It is left alone as long, or calls would do little but wait for it.
  void rest(Host const& host, std::chrono::steady_clock::duration waited = {});
  [[nodiscard]] bool rests(Host const& host) const;
  void note_answer(Host const& host);

  // The map as the first node that answers has it: `first`, if there is one, then masters, then the
  // URL's hosts. Errors: those of the last one asked; the map stays as it was.
  [[nodiscard]] Result<void> refresh(Host const* first, Deadline deadline);
  [[nodiscard]] std::chrono::steady_clock::time_point refreshed_at() const { return refreshed_at_; }
  [[nodiscard]] SlotMap& map() noexcept { return map_; }

  // Ends calls that other threads are in, and all later ones. Thread-safe.
  void shut() noexcept;

 private:
  struct Node {
    Host host;
    std::unique_ptr<RedisConnection> connection{};
    std::chrono::milliseconds last_rest{0};  // 0: it answered since
    std::chrono::steady_clock::time_point rests_until{};
  };
  [[nodiscard]] Node* find(Host const& host);
  [[nodiscard]] Node& node(Host const& host);
  [[nodiscard]] bool is_shut();
  [[nodiscard]] std::vector<Host> whom_to_ask(Host const* first) const;
  [[nodiscard]] Result<void> refresh_from(Host const& host, Deadline deadline);

  RedisUrl const url_;
  SlotMap map_;
  std::chrono::steady_clock::time_point refreshed_at_{};
  std::mutex mutex_;  // guards what shut() sees: which connections there are
  std::vector<Node> nodes_;
  bool shut_ = false;
};

}  // namespace lmcache::detail
