// SPDX-License-Identifier: Apache-2.0
// Embedding the cache in a C++ program: KV that a "model" computed is stored, found and read back,
// by this process or by any other on the same segment.
//
//   cpp_embed round-trip       store and read back, in memory of this process alone
//   cpp_embed store SEGMENT    store into a segment that other processes open by its name
//   cpp_embed load SEGMENT     read back what another process (share.py) stored there
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <lmcache/engine/engine.hpp>

namespace {

// KV of 600 tokens as [layers][2][tokens][kv_heads][head_dim] of float. share.py has the same
// numbers.
constexpr std::uint32_t kLayers = 4;
constexpr std::uint32_t kTokens = 600;
constexpr std::uint32_t kHeads = 2;
constexpr std::uint32_t kHeadDim = 16;
constexpr std::uint32_t kChunkTokens = 256;
constexpr std::uint64_t kRowBytes =
    kHeads * kHeadDim * sizeof(float);  // K or V of one token in one layer

using Kv = std::vector<float>;

std::vector<std::uint32_t> tokens() {
  std::vector<std::uint32_t> ids(kTokens);
  for (std::uint32_t i = 0; i < kTokens; ++i) ids[i] = (i * 7919 + 13) % 32000;
  return ids;
}

Kv computed_kv() {
  Kv kv(std::size_t{kLayers} * 2 * kTokens * kHeads * kHeadDim);
  for (std::size_t i = 0; i < kv.size(); ++i) kv[i] = static_cast<float>(i % 4093) * 0.5f;
  return kv;
}

// Prints an error and ends the program; a serving engine would go on without the cache instead.
template <class T>
T expect(lmcache::Result<T> result, char const* doing) {
  if (result) return std::move(result).value();
  std::fprintf(stderr, "%s: %s\n", doing, result.error().message().c_str());
  std::exit(1);
}

// One plane per layer and K or V; a block is one token here. A paged engine has one plane per layer
// and blocks of, say, 16 tokens.
lmcache::KvView view_of(Kv& kv) {
  lmcache::KvView view{.planes = {}, .num_blocks = kTokens, .block_tokens = 1};
  auto* const base = reinterpret_cast<std::byte*>(kv.data());
  for (std::uint32_t plane = 0; plane < kLayers * 2; ++plane) {
    view.planes.push_back({.base = base + plane * kTokens * kRowBytes,
                           .block_stride_bytes = kRowBytes,
                           .page_bytes = kRowBytes});
  }
  return view;
}

// The words are those of the Python class LMCacheEngine: KV is shared only between equal
// geometries.
lmcache::KvGeometry geometry() {
  return {.dtype = "float32",
          .layout = "layers,2,tokens,kv_heads,head_dim",
          .groups = {{.block_tokens = 1,
                      .window_tokens = 0,
                      .plane_bytes = std::vector<std::uint64_t>(kLayers * 2, kRowBytes),
                      .layer_names = {}}},
          .details = R"({"layers":4,"kv_heads":2,"head_dim":16})"};
}

std::vector<std::uint32_t> blocks_of(std::uint32_t chunk) {
  std::uint32_t const first = chunk * kChunkTokens;
  std::vector<std::uint32_t> blocks(std::min(kTokens - first, kChunkTokens));
  std::iota(blocks.begin(), blocks.end(), first);
  return blocks;
}

class Cache {
 public:
  explicit Cache(std::string segment)
      : engine_{expect(lmcache::Engine::open({.segment = std::move(segment),
                                              .capacity_bytes = 64'000'000,
                                              .keep = true,
                                              .role = "cpp_embed"},
                                             [](lmcache::LogLevel, std::string_view line) {
                                               std::fprintf(stderr, "%.*s\n",
                                                            static_cast<int>(line.size()),
                                                            line.data());
                                             }),
                       "open")},
        space_{expect(engine_->open_namespace({.model = "cpp-embed", .chunk_tokens = kChunkTokens},
                                              geometry()),
                      "open namespace")},
        chain_{expect(engine_->new_chain(space_), "new chain")} {
    // Whoever computes the KV of a rank says how many bytes one block of it has.
    auto const declared = engine_->declare_lane(space_, 0, kLayers * 2 * kRowBytes);
    if (!declared || !chain_.append(tokens())) std::exit(1);
  }

  void store(Kv& kv) {
    auto const view = expect(engine_->register_view(view_of(kv)), "register view");
    auto const refs =
        engine_->reserve(space_, chain_, {.first_chunk = 0, .end_token = kTokens}).front();
    std::vector<lmcache::StoreItem> items;
    for (std::uint32_t chunk = 0; chunk < refs.size(); ++chunk) {
      if (refs[chunk]) items.push_back({.ref = refs[chunk], .blocks = blocks_of(chunk)});
    }
    finish(expect(engine_->submit_store(view, items), "store"), view);
  }

  // Number of tokens that were found and read into `kv`.
  std::uint32_t load(Kv& kv) {
    auto const view = expect(engine_->register_view(view_of(kv)), "register view");
    auto const hit = engine_->lookup(space_, chain_, kTokens);
    std::vector<lmcache::LoadItem> items;
    for (std::uint32_t chunk = 0; chunk < hit.chunk_count(); ++chunk) {
      items.push_back({.ref = hit.refs(0)[chunk], .first_block = 0, .blocks = blocks_of(chunk)});
    }
    finish(expect(engine_->submit_load(view, items), "load"), view);
    return hit.prefix_tokens();
  }

 private:
  void finish(lmcache::JobId job, lmcache::ViewId view) {
    bool const in_time = engine_->wait(job, std::chrono::seconds{10});
    if (!in_time || !engine_->finish_job(job).empty()) {
      std::fprintf(stderr, "a copy failed\n");
      std::exit(1);
    }
    engine_->unregister_view(view);
  }

  std::unique_ptr<lmcache::Engine> engine_;
  lmcache::NamespaceHandle space_;
  lmcache::KeyChain chain_;
};

int check(std::uint32_t found, Kv const& got) {
  bool const right = found == kTokens && got == computed_kv();
  std::printf("%u of %u tokens found, %s\n", found, kTokens, right ? "every byte right" : "WRONG");
  return right ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  std::string const what = argc > 1 ? argv[1] : "";
  if (what != "round-trip" && (argc != 3 || (what != "store" && what != "load"))) {
    std::fprintf(stderr, "usage: cpp_embed round-trip | store SEGMENT | load SEGMENT\n");
    return 2;
  }
  Cache cache{what == "round-trip" ? "private" : argv[2]};
  Kv kv = computed_kv();
  if (what != "load") cache.store(kv);
  if (what == "store") return 0;
  Kv got(kv.size());
  std::uint32_t const found = cache.load(got);
  return check(found, got);
}
