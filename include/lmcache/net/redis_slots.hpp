// SPDX-License-Identifier: Apache-2.0
// Which node of a Redis cluster holds a key, as redis.io/docs/reference/cluster-spec has it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include <lmcache/base/result.hpp>
#include <lmcache/net/redis_url.hpp>
#include <lmcache/net/resp_value.hpp>

namespace lmcache {

inline constexpr std::uint32_t kRedisSlots = 16384;

// CRC-16/XMODEM: polynomial 0x1021, from 0, nothing reflected.
[[nodiscard]] std::uint16_t crc16_xmodem(std::string_view bytes) noexcept;

// Of the part between the first '{' and the next '}', if that is not empty; else of all.
[[nodiscard]] std::uint16_t redis_slot(std::string_view key) noexcept;

// Externally synchronised.
class SlotMap {
 public:
  // Of a reply to CLUSTER SLOTS that `asked` gave: a node that does not know its own address, or
  // leaves it out because it is the one asked, is `asked`. Replicas are left out. Errors:
  // kCorrupted, saying what is wrong; kUnavailable when it is an error reply.
  [[nodiscard]] static Result<SlotMap> parse(RespValue const& reply, RedisUrl::Host const& asked);

  // Null: no master has it, or none is known.
  [[nodiscard]] RedisUrl::Host const* find(std::uint16_t slot) const noexcept;
  void set(std::uint16_t slot, RedisUrl::Host const& host);
  // Every master that has a slot, once.
  [[nodiscard]] std::span<RedisUrl::Host const> hosts() const noexcept { return hosts_; }

 private:
  static constexpr std::uint16_t kNone = 0xFFFF;
  [[nodiscard]] Result<void> take_range(RespValue const& range, RedisUrl::Host const& asked);
  [[nodiscard]] std::uint16_t number_of(RedisUrl::Host const& host);

  std::vector<std::uint16_t> owners_ = std::vector<std::uint16_t>(kRedisSlots, kNone);
  std::vector<RedisUrl::Host> hosts_;
};

// "MOVED 3999 127.0.0.1:6381": the slot is there. "ASK ...": this one key may be there already.
struct SlotRedirect {
  enum class Kind : std::uint8_t { kMoved, kAsk };
  Kind kind = Kind::kMoved;
  std::uint16_t slot = 0;
  RedisUrl::Host host;
  bool operator==(SlotRedirect const&) const = default;
};

// Nothing: the text of this error is no redirect, or names nobody. ":6381" is a port of `asked`.
[[nodiscard]] std::optional<SlotRedirect> parse_redirect(std::string_view error,
                                                         RedisUrl::Host const& asked);

}  // namespace lmcache
