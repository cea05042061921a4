// SPDX-License-Identifier: Apache-2.0
#include <lmcache/io/uring_io.hpp>

#include <sys/resource.h>

#include <lmcache/io/io_engine.hpp>

#include "io_failure_conformance.hpp"

namespace lmcache::test {
namespace {

std::unique_ptr<AsyncFileIo> make_engine(EngineSetup setup, bool registers) {
  return must(UringIo::create({.depth_bytes = setup.depth_bytes,
                               .piece_bytes = setup.piece_bytes,
                               .register_files = registers,
                               .register_memory = registers,
                               .on_result = std::move(setup.on_result)}));
}

struct Uring {
  static std::string refusal() { return uring_refusal(); }
  static std::unique_ptr<AsyncFileIo> make(EngineSetup setup) {
    return make_engine(std::move(setup), true);
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(UringIo, IoConformance, Uring);
INSTANTIATE_TYPED_TEST_SUITE_P(UringIo, IoFailureConformance, Uring);

// As on a kernel that refuses the tables.
struct PlainUring {
  static std::string refusal() { return uring_refusal(); }
  static std::unique_ptr<AsyncFileIo> make(EngineSetup setup) {
    return make_engine(std::move(setup), false);
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(PlainUringIo, IoConformance, PlainUring);
INSTANTIATE_TYPED_TEST_SUITE_P(PlainUringIo, IoFailureConformance, PlainUring);

// Two entries, one of which is the wake-up's: one transfer at a time.
struct SmallestUring {
  static std::string refusal() { return uring_refusal(); }
  static std::unique_ptr<AsyncFileIo> make(EngineSetup setup) {
    return must(UringIo::create({.depth_bytes = setup.depth_bytes,
                                 .piece_bytes = setup.piece_bytes,
                                 .entries = 2,
                                 .on_result = std::move(setup.on_result)}));
  }
};
INSTANTIATE_TYPED_TEST_SUITE_P(SmallestUringIo, IoFailureConformance, SmallestUring);

TEST(UringIo, RefusesSenselessOptions) {
  EXPECT_EQ(UringIo::create({.depth_bytes = 0}).error().code(), ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace lmcache::test
