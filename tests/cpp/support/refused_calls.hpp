// SPDX-License-Identifier: Apache-2.0
// System calls that fail on purpose, for faults that no file system at hand produces.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include <cstddef>
#include <cstdint>
#include <iterator>

namespace lmcache::test {

struct RefusedCall {
  long number;
  unsigned argument;  // its lower 32 bits decide
  enum class If : std::uint8_t { kAnyBitOf, kAbove } condition;
  std::uint32_t value;
  int error;
};

// For the rest of this process's life: for use in a ChildProcess. False where the kernel has no
// such filters.
[[nodiscard]] inline bool refuse(RefusedCall const& call) {
  auto const offset = static_cast<std::uint32_t>(offsetof(seccomp_data, args) + 8 * call.argument);
  auto const compare = static_cast<std::uint16_t>(
      BPF_JMP | BPF_K | (call.condition == RefusedCall::If::kAbove ? BPF_JGT : BPF_JSET));
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<std::uint32_t>(call.number), 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset),  // little endian
      BPF_JUMP(compare, call.value, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(call.error)),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog const program{.len = std::size(filter), .filter = filter};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace lmcache::test
