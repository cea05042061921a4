// SPDX-License-Identifier: Apache-2.0
#include <array>

#include <lmcache/base/bytes.hpp>
#include <lmcache/base/checksum.hpp>

#if defined(__x86_64__)
#include <nmmintrin.h>
#define LMC_HAS_SSE42 1
#else
#define LMC_HAS_SSE42 0
#endif

namespace lmcache {
namespace {

constexpr std::uint32_t kInit = 0xFFFFFFFF;
constexpr std::size_t kWord = sizeof(std::uint64_t);
constexpr std::size_t kStripe = 3 * kWord;

using Tables = std::array<std::array<std::uint32_t, 256>, 8>;

// Slicing-by-8 (Kounavis, Berry: "Novel Table Lookup-Based Algorithms for High-Performance CRC
// Generation", 2008): table k gives the effect of a byte that k more bytes follow.
constexpr Tables make_tables() {
  constexpr std::uint32_t kReversedPolynomial = 0x82F63B78;
  Tables tables{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1) ^ ((crc & 1) != 0 ? kReversedPolynomial : 0);
    }
    tables[0][i] = crc;
  }
  for (std::size_t k = 1; k < tables.size(); ++k) {
    for (std::size_t i = 0; i < 256; ++i) {
      std::uint32_t const before = tables[k - 1][i];
      tables[k][i] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}

constexpr Tables kTables = make_tables();

std::uint32_t table_byte(std::uint32_t crc, std::uint8_t byte) noexcept {
  return (crc >> 8) ^ kTables[0][(crc ^ byte) & 0xFF];
}

std::uint32_t table_word(std::uint32_t crc, std::uint64_t word) noexcept {
  word ^= crc;
  std::uint32_t out = 0;
  for (std::size_t k = 0; k < kWord; ++k) out ^= kTables[7 - k][(word >> (8 * k)) & 0xFF];
  return out;
}

struct Streams {
  std::uint32_t a = kInit;
  std::uint32_t b = kInit;
  std::uint32_t c = kInit;
};

std::uint64_t combine(Streams const& crc, std::uint64_t size_bytes) noexcept {
  constexpr std::uint64_t kK1 = 0x9E3779B185EBCA87;
  constexpr std::uint64_t kK2 = 0xC2B2AE3D27D4EB4F;
  constexpr std::uint64_t kK3 = 0x165667B19E3779F9;
  std::uint64_t const ab = crc.a | (std::uint64_t{crc.b} << 32);
  std::uint64_t h = (ab * kK1 + crc.c * kK2) ^ (size_bytes * kK3);
  h ^= h >> 32;
  h *= kK1;
  return h ^ (h >> 29);
}

// The 0..7 bytes after the last whole word, zero-padded.
std::uint64_t last_word(std::span<std::byte const> rest) noexcept {
  std::uint64_t word = 0;
  std::memcpy(&word, rest.data(), rest.size());
  return word;
}

Streams table_stripes(Streams crc, std::byte const* at, std::size_t stripes) noexcept {
  for (; stripes > 0; --stripes, at += kStripe) {
    crc.a = table_word(crc.a, load_le<std::uint64_t>(at));
    crc.b = table_word(crc.b, load_le<std::uint64_t>(at + kWord));
    crc.c = table_word(crc.c, load_le<std::uint64_t>(at + 2 * kWord));
  }
  return crc;
}

// What follows the last whole stripe (at most 23 bytes) is too little for the instruction to
// matter.
std::uint64_t finish(std::span<std::byte const> rest, Streams crc,
                     std::uint64_t size_bytes) noexcept {
  if (rest.size() >= kWord) {
    crc.a = table_word(crc.a, load_le<std::uint64_t>(rest.data()));
    if (rest.size() >= 2 * kWord) {
      crc.b = table_word(crc.b, load_le<std::uint64_t>(rest.data() + kWord));
    }
    rest = rest.last(rest.size() % kWord);
  }
  if (!rest.empty()) crc.a = table_word(crc.a, last_word(rest));
  return combine(crc, size_bytes);
}

#if LMC_HAS_SSE42

// Memory is asked for this far ahead: the hardware does it within a page only, and with pages of
// 4 KiB under a hypervisor waiting for the next one is half of the time.
constexpr std::size_t kAheadBytes = 2048;
constexpr std::size_t kCacheLineBytes = 64;
constexpr std::size_t kStripesAtOnce = 8;  // three cache lines
static_assert(kStripesAtOnce * kStripe % kCacheLineBytes == 0);

// What many zero bytes make of a CRC register, which is linear in its bits: as a matrix over GF(2),
// a column for each bit (Mark Adler, zlib's crc32_combine).
using ZeroBytes = std::array<std::uint32_t, 32>;

constexpr std::uint32_t apply(ZeroBytes const& zeros, std::uint32_t crc) {
  std::uint32_t out = 0;
  for (std::size_t bit = 0; crc != 0; ++bit, crc >>= 1) out ^= (crc & 1) != 0 ? zeros[bit] : 0;
  return out;
}

constexpr ZeroBytes zero_bytes(std::size_t doublings) {
  ZeroBytes zeros{};
  for (std::size_t bit = 0; bit < zeros.size(); ++bit) {
    std::uint32_t const crc = std::uint32_t{1} << bit;
    zeros[bit] = (crc >> 8) ^ kTables[0][crc & 0xFF];
  }
  for (; doublings > 0; --doublings) {
    ZeroBytes const half = zeros;
    for (std::size_t bit = 0; bit < zeros.size(); ++bit) zeros[bit] = apply(half, half[bit]);
  }
  return zeros;
}

// Two blocks that follow each other are summed at once, as if the second were the first of all, and
// put together: memory is slow to answer, not narrow. A stream has 8 of the 24 bytes of a stripe.
constexpr std::size_t kBlockDoublings = 13;  // 2^13 bytes of each stream
constexpr std::size_t kBlockStripes = (std::size_t{1} << kBlockDoublings) / kWord;
constexpr std::size_t kBlockBytes = kBlockStripes * kStripe;
constexpr ZeroBytes kZeroBlock = zero_bytes(kBlockDoublings);
static_assert(kBlockBytes % (kStripesAtOnce * kStripe) == 0);

[[gnu::target("sse4.2")]] Streams sse42_two_blocks(Streams crc, std::byte const* at) noexcept {
  std::array<std::uint64_t, 6> sums{crc.a, crc.b, crc.c, 0, 0, 0};
  for (std::size_t i = 0; i < kBlockBytes; i += kStripesAtOnce * kStripe) {
    // Behind its end each block goes on in the block after the next.
    auto const ahead = i + kAheadBytes + (i + kAheadBytes < kBlockBytes ? 0 : kBlockBytes);
    for (std::size_t line = 0; line < kStripesAtOnce * kStripe; line += kCacheLineBytes) {
      __builtin_prefetch(at + ahead + line);
      __builtin_prefetch(at + ahead + kBlockBytes + line);
    }
    for (std::size_t j = i; j < i + kStripesAtOnce * kStripe; j += kStripe) {
      for (std::size_t stream = 0; stream < 3; ++stream) {
        auto const* const word = at + j + stream * kWord;
        sums[stream] = _mm_crc32_u64(sums[stream], load_le<std::uint64_t>(word));
        sums[stream + 3] =
            _mm_crc32_u64(sums[stream + 3], load_le<std::uint64_t>(word + kBlockBytes));
      }
    }
  }
  auto const joined = [&](std::size_t stream) {
    return apply(kZeroBlock, static_cast<std::uint32_t>(sums[stream])) ^
           static_cast<std::uint32_t>(sums[stream + 3]);
  };
  return {.a = joined(0), .b = joined(1), .c = joined(2)};
}

[[gnu::target("sse4.2")]] Streams sse42_stripes(Streams crc, std::byte const* at,
                                                std::size_t stripes) noexcept {
  for (; stripes >= 2 * kBlockStripes; stripes -= 2 * kBlockStripes, at += 2 * kBlockBytes) {
    crc = sse42_two_blocks(crc, at);
  }
  std::uint64_t a = crc.a;
  std::uint64_t b = crc.b;
  std::uint64_t c = crc.c;
  auto const add = [&](std::size_t count) __attribute__((target("sse4.2"))) {
    for (; count > 0; --count, at += kStripe) {
      a = _mm_crc32_u64(a, load_le<std::uint64_t>(at));
      b = _mm_crc32_u64(b, load_le<std::uint64_t>(at + kWord));
      c = _mm_crc32_u64(c, load_le<std::uint64_t>(at + 2 * kWord));
    }
  };
  constexpr std::size_t kAheadStripes = (kAheadBytes + kStripesAtOnce * kStripe) / kStripe + 1;
  for (; stripes > kAheadStripes; stripes -= kStripesAtOnce) {
    for (std::size_t line = 0; line < kStripesAtOnce * kStripe; line += kCacheLineBytes) {
      __builtin_prefetch(at + kAheadBytes + line);
    }
    add(kStripesAtOnce);
  }
  add(stripes);
  return {.a = static_cast<std::uint32_t>(a),
          .b = static_cast<std::uint32_t>(b),
          .c = static_cast<std::uint32_t>(c)};
}

#else

Streams sse42_stripes(Streams crc, std::byte const* at, std::size_t stripes) noexcept {
  return table_stripes(crc, at, stripes);
}

#endif

}  // namespace

static_assert(Checksum64::kPieceBytes == kStripe);

void Checksum64::add(std::span<std::byte const> piece) noexcept {
  Streams crc{.a = streams_[0], .b = streams_[1], .c = streams_[2]};
  auto const stripes = piece.size() / kStripe;
  crc = detail::has_crc32c_instruction() ? sse42_stripes(crc, piece.data(), stripes)
                                         : table_stripes(crc, piece.data(), stripes);
  streams_ = {crc.a, crc.b, crc.c};
  size_bytes_ += piece.size();
  auto const rest = piece.last(piece.size() % kStripe);
  std::memcpy(rest_.data(), rest.data(), rest.size());
}

std::uint64_t Checksum64::value() const noexcept {
  return finish(std::span{rest_}.first(size_bytes_ % kStripe),
                {.a = streams_[0], .b = streams_[1], .c = streams_[2]}, size_bytes_);
}

namespace detail {

std::uint64_t checksum64_table(std::span<std::byte const> bytes) noexcept {
  return finish(bytes.last(bytes.size() % kStripe),
                table_stripes({}, bytes.data(), bytes.size() / kStripe), bytes.size());
}

std::uint32_t crc32c_table(std::span<std::byte const> bytes, std::uint32_t crc) noexcept {
  crc = ~crc;
  for (; bytes.size() >= kWord; bytes = bytes.subspan(kWord)) {
    crc = table_word(crc, load_le<std::uint64_t>(bytes.data()));
  }
  for (std::byte const byte : bytes) crc = table_byte(crc, std::to_integer<std::uint8_t>(byte));
  return ~crc;
}

#if LMC_HAS_SSE42

bool has_crc32c_instruction() noexcept { return __builtin_cpu_supports("sse4.2") != 0; }

std::uint64_t checksum64_sse42(std::span<std::byte const> bytes) noexcept {
  return finish(bytes.last(bytes.size() % kStripe),
                sse42_stripes({}, bytes.data(), bytes.size() / kStripe), bytes.size());
}

[[gnu::target("sse4.2")]] std::uint32_t crc32c_sse42(std::span<std::byte const> bytes,
                                                     std::uint32_t crc) noexcept {
  crc = ~crc;
  for (; bytes.size() >= kWord; bytes = bytes.subspan(kWord)) {
    crc = static_cast<std::uint32_t>(_mm_crc32_u64(crc, load_le<std::uint64_t>(bytes.data())));
  }
  for (std::byte const byte : bytes) crc = _mm_crc32_u8(crc, std::to_integer<std::uint8_t>(byte));
  return ~crc;
}

#else

bool has_crc32c_instruction() noexcept { return false; }

std::uint64_t checksum64_sse42(std::span<std::byte const> bytes) noexcept {
  return checksum64_table(bytes);
}

std::uint32_t crc32c_sse42(std::span<std::byte const> bytes, std::uint32_t crc) noexcept {
  return crc32c_table(bytes, crc);
}

#endif

}  // namespace detail

std::uint64_t checksum64(std::span<std::byte const> bytes) noexcept {
  return detail::has_crc32c_instruction() ? detail::checksum64_sse42(bytes)
                                          : detail::checksum64_table(bytes);
}

std::uint32_t crc32c(std::span<std::byte const> bytes, std::uint32_t crc) noexcept {
  return detail::has_crc32c_instruction() ? detail::crc32c_sse42(bytes, crc)
                                          : detail::crc32c_table(bytes, crc);
}

}  // namespace lmcache
