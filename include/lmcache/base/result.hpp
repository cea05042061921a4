// SPDX-License-Identifier: Apache-2.0
// The error type of every fallible call (C++20, so no std::expected).
// An OK Result<void> is one null pointer, so the hot path costs a word and no allocation;
// an error pays one heap allocation, on a path that is already slow.
#pragma once

#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace lmcache {

// One code per *reaction*, not per cause: a caller switches on it to decide what to do next.
enum class ErrorCode : std::uint8_t {
  kInvalidArgument,  // caller bug or bad config: do not retry
  kOutOfMemory,      // pool or device exhausted: evict or shed, then retry
  kUnavailable,      // tier or peer down: skip this tier, try the next
  kTimeout,          // deadline passed: treat as a miss
  kCancelled,        // the request went away: drop silently
  kCorrupted,        // checksum or header mismatch: drop the chunk, count it
  kIo,               // disk or socket failure, os_error() is set
  kCuda,             // CUDA runtime failure, os_error() holds the cudaError_t
  kInternal,         // broken invariant: log and fail the request
};

class [[nodiscard]] Error {
 public:
  Error(ErrorCode code, std::string message, int os_error = 0,
        std::source_location where = std::source_location::current())
      : state_{std::make_unique<State>(State{code, os_error, std::move(message), where})} {}

  [[nodiscard]] ErrorCode code() const noexcept { return state_->code; }
  [[nodiscard]] int os_error() const noexcept { return state_->os_error; }
  [[nodiscard]] std::string const& message() const noexcept { return state_->message; }
  [[nodiscard]] std::source_location const& where() const noexcept { return state_->where; }

  // Prefixes what the caller was doing: "load chunk 7f3a: disk tier: pread".
  [[nodiscard]] Error with_context(std::string_view doing) && {
    state_->message.insert(0, ": ").insert(0, doing);
    return std::move(*this);
  }

 private:
  template <class>
  friend class Result;
  struct State {
    ErrorCode code;
    int os_error;
    std::string message;
    std::source_location where;
  };
  Error() noexcept = default;
  std::unique_ptr<State> state_;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value)
      : state_{std::in_place_index<0>, std::move(value)} {}  // NOLINT(google-explicit-constructor)
  Result(Error error)
      : state_{std::in_place_index<1>, std::move(error)} {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool has_value() const noexcept { return state_.index() == 0; }
  explicit operator bool() const noexcept { return has_value(); }

  // Precondition: has_value(). Checked by assert-level builds only, like std::expected::operator*.
  [[nodiscard]] T& value() & noexcept { return *std::get_if<0>(&state_); }
  [[nodiscard]] T const& value() const& noexcept { return *std::get_if<0>(&state_); }
  [[nodiscard]] T&& value() && noexcept { return std::move(*std::get_if<0>(&state_)); }
  [[nodiscard]] Error const& error() const& noexcept { return *std::get_if<1>(&state_); }
  [[nodiscard]] Error&& error() && noexcept { return std::move(*std::get_if<1>(&state_)); }

 private:
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  Result() noexcept = default;
  Result(Error error) noexcept : error_{std::move(error)} {}  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool has_value() const noexcept { return error_.state_ == nullptr; }
  explicit operator bool() const noexcept { return has_value(); }
  [[nodiscard]] Error const& error() const& noexcept { return error_; }
  [[nodiscard]] Error&& error() && noexcept { return std::move(error_); }

 private:
  Error error_;
};

static_assert(sizeof(Result<void>) == sizeof(void*));

}  // namespace lmcache

// Two macros, no more: early return, and early return with a binding. Both need their own
// statement.
#define LMC_CONCAT_IMPL(a, b) a##b
#define LMC_CONCAT(a, b) LMC_CONCAT_IMPL(a, b)
#define LMC_TRY(expr)                                                                \
  do {                                                                               \
    if (auto lmc_result = (expr); !lmc_result) return std::move(lmc_result).error(); \
  } while (0)
#define LMC_TRY_ASSIGN(lhs, expr) \
  LMC_TRY_ASSIGN_IMPL(LMC_CONCAT(lmc_result_, __COUNTER__), lhs, expr)
#define LMC_TRY_ASSIGN_IMPL(tmp, lhs, expr) \
  auto tmp = (expr);                        \
  if (!tmp) return std::move(tmp).error();  \
  lhs = std::move(tmp).value()
