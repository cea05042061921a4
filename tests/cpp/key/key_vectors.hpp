// SPDX-License-Identifier: Apache-2.0
// Reads tests/data/key_vectors.txt; the format is described at its top.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include <lmcache/key/key_chain.hpp>
#include <lmcache/key/namespace_spec.hpp>

namespace lmcache::test {

struct TailVector {
  std::uint32_t chunk = 0;
  std::uint32_t end_token = 0;
  ChunkKey key;
};

struct LaneVector {
  LaneId lane;
  ChunkKey mask;
};

struct VectorCase {
  std::string kind;
  std::string name;
  std::map<std::string, std::string> text{};  // lines of one value
  std::vector<std::uint32_t> tokens{};
  std::vector<MediaItem> items{};
  std::vector<ChunkKey> keys{};
  std::vector<TailVector> tails{};
  std::vector<LaneVector> lanes{};

  [[nodiscard]] std::uint32_t number(std::string const& member) const {
    return static_cast<std::uint32_t>(std::stoul(text.at(member)));
  }
};

inline ChunkKey key_from_hex(std::string const& hex) {
  ChunkKey key;
  EXPECT_TRUE(from_hex(hex, key.bytes)) << hex;
  return key;
}

inline void read_line(VectorCase& out, std::string const& word, std::string const& rest) {
  std::istringstream in{rest};
  std::string hex;
  if (word == "tokens") {
    for (std::uint32_t token = 0; in >> token;) out.tokens.push_back(token);
  } else if (word == "item") {
    MediaItem item;
    in >> item.first_token >> item.tokens >> hex;
    item.item_hash = key_from_hex(hex);
    out.items.push_back(item);
  } else if (word == "key") {
    out.keys.push_back(key_from_hex(rest));
  } else if (word == "tail") {
    TailVector tail;
    in >> tail.chunk >> tail.end_token >> hex;
    tail.key = key_from_hex(hex);
    out.tails.push_back(tail);
  } else if (word == "lane") {
    LaneVector lane;
    in >> lane.lane.group >> lane.lane.rank >> lane.lane.world_size >> hex;
    lane.mask = key_from_hex(hex);
    out.lanes.push_back(lane);
  } else {
    out.text[word] = rest;
  }
}

inline std::vector<VectorCase> read_vectors(std::string const& kind) {
  std::vector<VectorCase> cases;
  std::ifstream file{LMC_TEST_DATA_DIR "/key_vectors.txt"};
  EXPECT_TRUE(file) << LMC_TEST_DATA_DIR "/key_vectors.txt";
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::size_t const space = line.find(' ');
    std::string const word = line.substr(0, space);
    std::string const rest = space == std::string::npos ? "" : line.substr(space + 1);
    if (word == "namespace" || word == "chain") {
      cases.push_back({.kind = word, .name = rest});
    } else {
      read_line(cases.back(), word, rest);
    }
  }
  std::erase_if(cases, [&](VectorCase const& one) { return one.kind != kind; });
  return cases;
}

}  // namespace lmcache::test
