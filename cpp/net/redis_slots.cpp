// SPDX-License-Identifier: Apache-2.0
#include <lmcache/net/redis_slots.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <string>

#include "net/resp_number.hpp"

namespace lmcache {
namespace {

using Kind = RespValue::Kind;

constexpr std::uint16_t kPolynomial = 0x1021;
// What a server answers that was told to announce names and does not know one.
constexpr std::string_view kUnknownName = "?";

constexpr std::array<std::uint16_t, 256> make_crc_table() {
  std::array<std::uint16_t, 256> table{};
  for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
    std::uint32_t crc = byte << 8;
    for (int bit = 0; bit < 8; ++bit) crc = (crc << 1) ^ ((crc & 0x8000) != 0 ? kPolynomial : 0u);
    table[byte] = static_cast<std::uint16_t>(crc);
  }
  return table;
}
constexpr auto kCrcTable = make_crc_table();

Error no_slots(std::string what) {
  return Error{ErrorCode::kCorrupted, "no answer to CLUSTER SLOTS: " + std::move(what)};
}

std::optional<std::uint16_t> port_of(std::optional<std::int64_t> number) {
  constexpr std::int64_t kLast = std::numeric_limits<std::uint16_t>::max();
  if (!number || *number < 1 || *number > kLast) return std::nullopt;
  return static_cast<std::uint16_t>(*number);
}

}  // namespace

std::uint16_t crc16_xmodem(std::string_view bytes) noexcept {
  std::uint32_t crc = 0;
  for (char const c : bytes) {
    crc = (crc << 8) ^ kCrcTable[((crc >> 8) ^ static_cast<std::uint8_t>(c)) & 0xFF];
  }
  return static_cast<std::uint16_t>(crc);
}

std::uint16_t redis_slot(std::string_view key) noexcept {
  auto const open = key.find('{');
  auto const close = open == key.npos ? key.npos : key.find('}', open + 1);
  if (close != key.npos && close > open + 1) key = key.substr(open + 1, close - open - 1);
  return crc16_xmodem(key) % kRedisSlots;
}

Result<SlotMap> SlotMap::parse(RespValue const& reply, RedisUrl::Host const& asked) {
  if (reply.is_error()) {
    return Error{ErrorCode::kUnavailable, "CLUSTER SLOTS: the server says: " + reply.text};
  }
  if (reply.kind != Kind::kArray) return no_slots("it is no array");
  SlotMap map;
  for (auto const& range : reply.items) LMC_TRY(map.take_range(range, asked));
  return map;
}

// [first, last, [host, port, id, ...] of the master, those of its replicas]
Result<void> SlotMap::take_range(RespValue const& range, RedisUrl::Host const& asked) {
  auto const& items = range.items;
  if (items.size() < 3 || items[0].kind != Kind::kInteger || items[1].kind != Kind::kInteger) {
    return no_slots("a range of slots is none");
  }
  auto const first = items[0].integer;
  auto const last = items[1].integer;
  if (first < 0 || last < first || last >= kRedisSlots) {
    return no_slots("slots " + std::to_string(first) + " to " + std::to_string(last));
  }
  auto const& node = items[2].items;
  if (node.size() < 2 || (node[0].kind != Kind::kBulk && node[0].kind != Kind::kNull) ||
      node[1].kind != Kind::kInteger) {
    return no_slots("a node without host and port");
  }
  if (node[0].text == kUnknownName) return {};
  auto const port = port_of(node[1].integer);
  if (!port) return no_slots("port " + std::to_string(node[1].integer));
  auto const number =
      number_of({.name = node[0].text.empty() ? asked.name : node[0].text, .port = *port});
  std::fill(owners_.begin() + first, owners_.begin() + last + 1, number);
  return {};
}

RedisUrl::Host const* SlotMap::find(std::uint16_t slot) const noexcept {
  if (slot >= kRedisSlots || owners_[slot] == kNone) return nullptr;
  return &hosts_[owners_[slot]];
}

void SlotMap::set(std::uint16_t slot, RedisUrl::Host const& host) {
  if (slot < kRedisSlots) owners_[slot] = number_of(host);
}

std::uint16_t SlotMap::number_of(RedisUrl::Host const& host) {
  auto const known = std::ranges::find(hosts_, host);
  auto const number = known - hosts_.begin();
  if (known == hosts_.end()) hosts_.push_back(host);
  return static_cast<std::uint16_t>(number);
}

std::optional<SlotRedirect> parse_redirect(std::string_view error, RedisUrl::Host const& asked) {
  SlotRedirect out;
  auto const take_word = [&] {
    auto const word = error.substr(0, error.find(' '));
    error.remove_prefix(std::min(word.size() + 1, error.size()));
    return word;
  };
  auto const kind = take_word();
  if (kind != "MOVED" && kind != "ASK") return std::nullopt;
  out.kind = kind == "ASK" ? SlotRedirect::Kind::kAsk : SlotRedirect::Kind::kMoved;
  auto const slot = parse_resp_integer(take_word());
  if (!slot || *slot < 0 || *slot >= kRedisSlots) return std::nullopt;
  out.slot = static_cast<std::uint16_t>(*slot);
  // The last colon: addresses of IPv6 come without brackets.
  auto const place = take_word();
  auto const colon = place.rfind(':');
  if (colon == place.npos) return std::nullopt;
  auto const name = place.substr(0, colon);
  auto const port = port_of(parse_resp_integer(place.substr(colon + 1)));
  if (!port || name == kUnknownName) return std::nullopt;
  out.host = {.name = name.empty() ? asked.name : std::string{name}, .port = *port};
  return out;
}

}  // namespace lmcache
