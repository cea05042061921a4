// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/io_engine.hpp>

#include <utility>

#include <lmcache/io/thread_io.hpp>

#ifdef LMC_WITH_URING
#include <lmcache/io/uring_io.hpp>
#endif

namespace lmcache {
namespace {

// The same call whether or not the library knows io_uring.
#ifdef LMC_WITH_URING
Result<std::unique_ptr<AsyncFileIo>> make_uring(std::uint64_t depth_bytes) {
  LMC_TRY_ASSIGN(std::unique_ptr<AsyncFileIo> made, UringIo::create({.depth_bytes = depth_bytes}));
  return made;
}
#else
Result<std::unique_ptr<AsyncFileIo>> make_uring(std::uint64_t /*depth_bytes*/) {
  return Error{ErrorCode::kUnavailable, "built without liburing"};
}
#endif

Result<std::unique_ptr<AsyncFileIo>> make_threads(IoOptions const& options) {
  LMC_TRY_ASSIGN(
      std::unique_ptr<AsyncFileIo> made,
      ThreadIo::create({.depth_bytes = options.depth_bytes, .threads = options.threads}));
  return made;
}

}  // namespace

Result<IoKind> parse_io(std::string_view text) {
  if (text == "auto") return IoKind::kAuto;
  if (text == "io_uring" || text == "uring") return IoKind::kUring;
  if (text == "threads") return IoKind::kThreads;
  std::string message{"no I/O engine is called '"};
  message.append(text).append("': use auto, io_uring or threads");
  return Error{ErrorCode::kInvalidArgument, std::move(message)};
}

Result<std::unique_ptr<AsyncFileIo>> make_io(IoOptions options, LogHook const& hook) {
  if (options.kind == IoKind::kThreads) return make_threads(options);
  auto uring = make_uring(options.depth_bytes);
  bool const falls_back =
      options.kind == IoKind::kAuto && !uring && uring.error().code() == ErrorCode::kUnavailable;
  if (!falls_back) return uring;
  log(hook, LogLevel::kWarning, "file I/O by threads, not io_uring: " + uring.error().message());
  return make_threads(options);
}

std::string uring_refusal() {
  constexpr std::uint64_t kAnyDepth = 1ULL << 20;
  auto const made = make_uring(kAnyDepth);
  return made ? std::string{} : made.error().message();
}

}  // namespace lmcache
