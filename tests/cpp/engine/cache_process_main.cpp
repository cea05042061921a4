// SPDX-License-Identifier: Apache-2.0
// One of several processes that share a segment which is far too small for what they store. It
// serves random prompts out of a small family until its standard input ends, checks every byte that
// it loads, and says by its exit status what was wrong:
//   0 nothing   2 a wrong byte, or a leased chunk that could not be loaded   3 an operation took
//   too long
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "support/crash_family.hpp"

namespace lmcache::test {
namespace {

constexpr int kWrongBytes = 2;
constexpr int kTooSlow = 3;
constexpr std::chrono::seconds kLongest{5};

bool told_to_stop() {
  pollfd input{.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
  return ::poll(&input, 1, 0) > 0;
}

template <class Operation>
void in_time(char const* name, Operation operation) {
  auto const started = std::chrono::steady_clock::now();
  operation();
  auto const took = std::chrono::steady_clock::now() - started;
  if (took <= kLongest) return;
  std::fprintf(stderr, "%s took %.1f s\n", name, std::chrono::duration<double>(took).count());
  std::_Exit(kTooSlow);
}

int run(std::string const& directory, std::uint64_t seed) {
  std::mt19937_64 random{seed};
  std::unique_ptr<EngineScene> scene;
  auto const open = [&] {
    in_time("open",
            [&] { scene = std::make_unique<EngineScene>(crash_shape(directory), random()); });
  };
  open();
  while (!told_to_stop()) {
    auto const choice = random() % 100;
    if (choice < 90) {
      auto const prompt = crash_prompt(random());
      Served served;
      in_time("serve", [&] { served = scene->serve(prompt); });
      if (!served.in_time) return kTooSlow;
      if (!served.right) {
        std::fprintf(stderr, "wrong bytes in a hit of %u tokens\n", served.hit_tokens);
        return kWrongBytes;
      }
    } else if (choice < 96) {
      // Reserved, and then the request goes away.
      in_time("cancel", [&] {
        auto const prompt = crash_prompt(random());
        auto const refs = scene->engine->reserve(scene->space, scene->chain(prompt),
                                                 {.end_token = prompt.size()});
        for (auto const& lane : refs) scene->engine->cancel(lane);
      });
    } else if (choice < 97) {
      in_time("clear", [&] { scene->engine->clear(); });
    } else if (choice < 98) {
      in_time("status", [&] { (void)scene->engine->status(); });
    } else {
      in_time("close", [&] { scene.reset(); });
      open();
    }
  }
  in_time("close", [&] { scene.reset(); });
  return 0;
}

}  // namespace
}  // namespace lmcache::test

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  return lmcache::test::run(argv[1], std::strtoull(argv[2], nullptr, 10));
}
