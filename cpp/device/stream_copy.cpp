// SPDX-License-Identifier: Apache-2.0
#include <lmcache/device/stream_copy.hpp>

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lmcache {
namespace {

constexpr std::size_t kLine = 64;
// GB/s on an idle 2-core virtual machine (EPYC, Zen 4, 32 MB L3, DRAM pages of 4 KiB), buffers of
// 512 MiB, runs in random order on the engine's side: memcpy > copy_lines.
//           one thread                       two threads
//   run     store            load            store            load
//   4 KiB    6.5 >  7.2       3.4 >  5.7     11.2 > 14.6      10.5 > 18.1
//   8 KiB    7.8 >  8.1       6.2 > 12.1     12.7 > 15.1       7.6 > 11.9
//  16 KiB    7.4 >  8.6       7.9 > 13.8     11.7 > 14.2       7.5 > 12.6
//  64 KiB   10.9 > 14.1      10.4 > 16.8     15.1 > 21.0       9.5 > 17.7
// 256 KiB   11.0 >  9.6 (*)  12.6 > 16.5     15.3 > 21.9      10.9 > 14.6
//   4 MiB    8.0 > 17.5      10.5 > 19.6     15.0 > 22.9       9.7 > 15.5
// (*) disturbed; variants of the same loop reached 10.8 to 17.6.
// Reads that jump are held up by page walks. copy_halves with its fetch-ahead, one thread: 8 KiB
// store 10.0 (copy_lines 7.7, memcpy 7.1), 12 KiB 9.7 (8.0, 7.1); it loses where reads run on:
// 8 KiB load 10.4 (13.2). Below 1 KiB non-temporal stores lose (512 B store, busy machine: 0.8
// against 1.6). AVX-512 gained nothing that repeated (4 MiB store 15.1 against 17.5, 64 KiB load
// 16.8 against 16.8), so it is not here.
//
// An Intel (Sapphire Rapids and newer) reads and writes two pages at once faster than one after the
// other, wherever the runs lie; 1 GiB, runs in random order on the engine's side, memcpy in one
// piece with two threads 23.5 GB/s: memcpy, copy_lines, copy_halves.
//           one thread                              two threads
//   run     store            load                   store            load
//   4 KiB    6.7  8.8  7.9    7.0  8.1  7.5         12.7 17.8 15.6   13.1 15.7 14.7
//   8 KiB    6.8  8.8 10.1    6.8  7.8  9.4         12.7 18.7 21.9   13.5 16.1 19.6
//  16 KiB    7.0  8.8 10.2    7.0  8.0  9.5         13.8 18.6 21.8   13.8 16.5 19.6
//  64 KiB    7.1  8.6 10.7    6.9  8.5 10.6         13.6 16.8 20.8   13.3 16.7 20.6
// 256 KiB    7.1  9.0 11.3    7.0  9.1 11.2         13.6 17.4 21.5   13.3 17.4 21.7
// AVX-512 gained 10 % in some of these and lost 15 % in others; four streams lost everywhere.
//
// Loads bypass the caches too, though the model reads them next. Copy and read of all bytes, one
// thread: 1 MiB 158 us with memcpy, 168 so; 4 MiB 675, 681; 16 MiB 3714, 3257; 64 MiB 17684, 14206.
constexpr std::size_t kStreamFrom = 1024;
constexpr std::size_t kTwoStreamsFrom = 4096;
constexpr std::size_t kTwoStreamsFromOnIntel = 6144;
// Of each half. 8 KiB runs in random order, two threads, against memcpy of as much in one piece:
// 512: 0.87, 1024: 0.92, 1536: 0.95, 2048: 0.92, all of it: 0.87.
constexpr std::size_t kFetchAhead = 1536;
constexpr std::size_t kPage = 4096;
constexpr std::size_t kLookUpAhead = 4 * kPage;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

}  // namespace

#if defined(__x86_64__)
namespace {

__attribute__((target("avx2"), always_inline)) inline void copy_line(std::byte* to,
                                                                     std::byte const* from) {
  __m256i const low = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(from));
  __m256i const high = _mm256_loadu_si256(reinterpret_cast<__m256i const*>(from + 32));
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to), low);
  _mm256_stream_si256(reinterpret_cast<__m256i*>(to + 32), high);
}

// The reads before it ran on: one stream, the processor fetches ahead by itself.
__attribute__((target("avx2"))) void copy_lines(std::byte* to, std::byte const* from,
                                                std::size_t bytes) {
  std::size_t at = 0;
  for (; at + 2 * kLine <= bytes; at += 2 * kLine) {
    copy_line(to + at, from + at);
    copy_line(to + at + kLine, from + at + kLine);
  }
  if (at < bytes) copy_line(to + at, from + at);
}

// Both halves at once, so that two page walks overlap, and the first lines of what is read next are
// fetched meanwhile.
__attribute__((target("avx2"))) void copy_halves(std::byte* to, std::byte const* from,
                                                 std::size_t bytes, std::byte const* next_from) {
  std::size_t const half = bytes / 2 / kLine * kLine;
  for (std::size_t at = 0; at < half; at += kLine) {
    if (at < kFetchAhead) {
      _mm_prefetch(reinterpret_cast<char const*>(next_from + at), _MM_HINT_T0);
      _mm_prefetch(reinterpret_cast<char const*>(next_from + half + at), _MM_HINT_T0);
    }
    copy_line(to + at, from + at);
    copy_line(to + half + at, from + half + at);
  }
  if (2 * half < bytes) copy_line(to + 2 * half, from + 2 * half);
}

}  // namespace

namespace detail {

void copy_avx2(std::byte* to, std::byte const* from, std::size_t bytes, std::byte const* next_from,
               bool intel) noexcept {
  std::size_t const head = (0 - reinterpret_cast<std::uintptr_t>(to)) % kLine;
  if (bytes < head + kLine) {
    std::memcpy(to, from, bytes);
    return;
  }
  if (head != 0) std::memcpy(to, from, head);
  std::size_t const body = (bytes - head) / kLine * kLine;
  bool const jumps = next_from != nullptr && next_from != from + bytes;
  if (intel ? body >= kTwoStreamsFromOnIntel : jumps && body >= kTwoStreamsFrom) {
    copy_halves(to + head, from + head, body, next_from != nullptr ? next_from : from + bytes);
  } else {
    copy_lines(to + head, from + head, body);
  }
  std::size_t const done = head + body;
  if (done < bytes) std::memcpy(to + done, from + done, bytes - done);
}

bool has_avx2() noexcept { return __builtin_cpu_supports("avx2") != 0; }
bool is_intel() noexcept { return __builtin_cpu_is("intel") != 0; }

}  // namespace detail

void copy_fence() noexcept { _mm_sfence(); }

// Pages in random order miss the TLB, and their entries of the page table are in no cache either. A
// prefetch walks the table while another run is copied. Runs of 8 KiB, one thread, processor time
// for 512 MiB, where memcpy in one piece takes 48.5 ms: load 43.7 to 39.3 ms, store 48.3 to 45.9
// ms.
void look_up_pages(std::byte const* address, std::size_t bytes) noexcept {
  auto const first = reinterpret_cast<std::uintptr_t>(address);
  for (std::size_t at = 0; at < std::min(bytes, kLookUpAhead); at += kPage) {
    _mm_prefetch(reinterpret_cast<char const*>(first + at), _MM_HINT_T0);
  }
}

#else

namespace detail {

void copy_avx2(std::byte* to, std::byte const* from, std::size_t bytes, std::byte const*,
               bool) noexcept {
  std::memcpy(to, from, bytes);
}
bool has_avx2() noexcept { return false; }
bool is_intel() noexcept { return false; }

}  // namespace detail

void copy_fence() noexcept {}
void look_up_pages(std::byte const*, std::size_t) noexcept {}

#endif

StreamCopyKind stream_copy_kind() noexcept {
  static StreamCopyKind const kind =
      !kSanitized && detail::has_avx2() ? StreamCopyKind::kAvx2 : StreamCopyKind::kMemcpy;
  return kind;
}

void copy_bytes(std::byte* to, std::byte const* from, std::size_t bytes,
                std::byte const* next_from) noexcept {
  if (bytes == 0) return;
  if (bytes >= kStreamFrom && stream_copy_kind() == StreamCopyKind::kAvx2) {
    static bool const intel = detail::is_intel();
    detail::copy_avx2(to, from, bytes, next_from, intel);
  } else {
    std::memcpy(to, from, bytes);
  }
}

}  // namespace lmcache
