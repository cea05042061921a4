// SPDX-License-Identifier: Apache-2.0
#include "cuda/quantise_groups.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/float_oracle.hpp"
#include "cuda/launch.hpp"

namespace lmcache::detail {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Aligned {
  explicit Aligned(std::size_t bytes) : storage(bytes + 16) {}
  std::uint8_t* data() {
    return storage.data() + (-reinterpret_cast<std::uintptr_t>(storage.data()) % 16);
  }
  std::vector<std::uint8_t> storage;
};

std::size_t element_bytes(ElementType type) { return type == ElementType::kFloat32 ? 4 : 2; }

void put(std::uint8_t* at, ElementType type, float value) {
  std::uint32_t const bits = type == ElementType::kBfloat16  ? bfloat16_of(value)
                             : type == ElementType::kFloat16 ? float16_of(value)
                                                             : bits_of(value);
  std::memcpy(at, &bits, element_bytes(type));
}

float get(std::uint8_t const* at, ElementType type) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, at, element_bytes(type));
  auto const half = static_cast<std::uint16_t>(bits);
  return type == ElementType::kBfloat16  ? float_of_bfloat16(half)
         : type == ElementType::kFloat16 ? float_of_float16(half)
                                         : float_of(bits);
}

// One buffer through both kernels.
struct Scene {
  Scene(GroupShape s, std::vector<float> const& values)
      : shape(s),
        elements(values.size() * element_bytes(s.element)),
        codes(values.size() + 1),
        scales(group_count(s)),
        back(values.size() * element_bytes(s.element)) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      put(elements.data() + i * element_bytes(s.element), s.element, values[i]);
    }
    codes.data()[values.size()] = 0xee;
  }

  void run(unsigned grid, unsigned block) {
    void const* in = elements.data();
    std::uint8_t* coded = codes.data();
    std::uint8_t const* coded_in = coded;
    float* scale = scales.data();
    float const* scale_in = scale;
    void* out = back.data();
    void* quantise[] = {&in, &coded, &scale, &shape};
    launch_on_host(quantise_groups, grid, block, quantise);
    void* dequantise[] = {&coded_in, &scale_in, &out, &shape};
    launch_on_host(dequantise_groups, grid, block, dequantise);
  }

  float element(std::size_t i) {
    return get(elements.data() + i * element_bytes(shape.element), shape.element);
  }
  float returned(std::size_t i) {
    return get(back.data() + i * element_bytes(shape.element), shape.element);
  }

  GroupShape shape;
  Aligned elements, codes;
  std::vector<float> scales;
  Aligned back;
};

std::vector<float> values_of(std::size_t count, unsigned seed) {
  std::mt19937 random{seed};
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) {
    // from far below to far above float16; groups differ in magnitude, as channels of a KV do
    float const group = std::ldexp(1.0f, static_cast<int>(i / 128 % 40) - 20);
    values[i] = group * std::normal_distribution<float>{}(random);
    if (random() % 97 == 0) values[i] = 0.0f;
    if (random() % 397 == 0) values[i] = i % 2 == 0 ? kInfinity : -kInfinity;
    if (random() % 401 == 0) values[i] = kNan;
    if (random() % 211 == 0) values[i] = -values[i] * 0x1p-130f;
  }
  return values;
}

// The rules of group_codes.hpp by themselves, a group at a time.
void expect_rules(Scene& scene) {
  bool const fp8 = scene.shape.code == CodeType::kFp8E4m3;
  for (std::size_t g = 0; g < group_count(scene.shape); ++g) {
    std::size_t const begin = g * scene.shape.group_elements;
    std::size_t const end =
        std::min<std::size_t>(begin + scene.shape.group_elements, scene.shape.elements);
    float largest = 0;
    for (std::size_t i = begin; i < end; ++i) {
      if (std::isfinite(scene.element(i))) largest = std::fmax(largest, std::abs(scene.element(i)));
    }
    float const scale = std::fmax(largest / (fp8 ? 448.0f : 127.0f), 0x1p-126f);
    ASSERT_EQ(scene.scales[g], scale);
    float const inverse = 1.0f / scale;
    for (std::size_t i = begin; i < end; ++i) {
      float const value = scene.element(i);
      std::uint8_t const code = scene.codes.data()[i];
      if (std::isnan(value)) {
        ASSERT_EQ(code, fp8 ? 0x7f : 0);
        if (fp8) {
          ASSERT_EQ(bits_of(scene.returned(i)), kQuietNanBits);
        }
        continue;
      }
      float const scaled = value * inverse;
      double const meant =
          fp8 ? test::nearest(scaled, test::kFp8)
              : std::nearbyint(std::fmax(-127.0, std::fmin(127.0, double{scaled})));
      double const coded = fp8 ? test::fp8_value(code) : static_cast<std::int8_t>(code);
      ASSERT_EQ(coded, meant) << value << " of scale " << scale;
      float product = static_cast<float>(coded) * scale;
      double const exact =
          std::isinf(product) ? std::copysign(3.4028234663852886e38, product) : double{product};
      double const expected = scene.shape.element == ElementType::kFloat32 ? exact
                              : scene.shape.element == ElementType::kFloat16
                                  ? test::nearest(exact, test::kFloat16)
                                  : test::nearest(exact, test::kBfloat16);
      ASSERT_EQ(double{scene.returned(i)}, expected) << value;
    }
  }
  EXPECT_EQ(scene.codes.data()[scene.shape.elements], 0xee);
}

using Case = std::tuple<ElementType, CodeType, std::uint32_t>;
class QuantiseGroups : public testing::TestWithParam<Case> {
 protected:
  [[nodiscard]] GroupShape shape(std::uint64_t elements) const {
    auto const [element, code, group] = GetParam();
    return {.elements = elements, .group_elements = group, .element = element, .code = code};
  }
};

TEST_P(QuantiseGroups, CodesAndWhatComesBackAreBitExact) {
  for (std::size_t elements : {1, 15, 31, 128, 4096, 10007}) {
    Scene scene{shape(elements), values_of(elements, static_cast<unsigned>(elements))};
    scene.run(2, 64);
    expect_rules(scene);
  }
}

TEST_P(QuantiseGroups, AnyGridAndBlockGiveTheSameBytes) {
  std::vector<float> const values = values_of(5000, 1);
  Scene first{shape(5000), values};
  first.run(1, 1);
  for (auto [grid, block] : {std::pair{3u, 32u}, {1u, 256u}, {700u, 5u}}) {
    Scene other{shape(5000), values};
    other.run(grid, block);
    EXPECT_EQ(std::memcmp(first.codes.data(), other.codes.data(), 5000), 0);
    EXPECT_EQ(first.scales, other.scales);
    EXPECT_EQ(std::memcmp(first.back.data(), other.back.data(),
                          5000 * element_bytes(first.shape.element)),
              0);
  }
}

TEST_P(QuantiseGroups, FiniteElementsComeBackFinite) {
  float const largest = std::get<0>(GetParam()) == ElementType::kFloat16 ? 65504.0f
                        : std::get<0>(GetParam()) == ElementType::kBfloat16
                            ? 0x1.fep127f
                            : std::numeric_limits<float>::max();
  std::vector<float> values;
  for (int i = 0; i < 1024; ++i) {
    values.push_back(std::ldexp(i % 2 == 0 ? largest : -largest, -(i / 128)));
  }
  values[700] = 0x1p-149f;
  Scene scene{shape(values.size()), values};
  scene.run(1, 32);
  expect_rules(scene);
  for (std::size_t i = 0; i < values.size(); ++i) EXPECT_TRUE(std::isfinite(scene.returned(i)));
}

TEST_P(QuantiseGroups, AGroupOfZerosStaysZeroAndInfinityIsTheLargestOfItsGroup) {
  std::vector<float> values(256, 0.0f);
  values[130] = 2.0f;
  values[131] = -kInfinity;
  Scene scene{shape(256), values};
  scene.run(1, 32);
  for (std::size_t i = 0; i < 128; ++i) EXPECT_EQ(scene.returned(i), 0.0f);
  EXPECT_NEAR(scene.returned(130), 2.0f, 0.01f);
  EXPECT_NEAR(scene.returned(131), -2.0f, 0.01f);
}

std::string case_name(testing::TestParamInfo<Case> const& of) {
  auto const [element, code, group] = of.param;
  char const* const names[] = {"Bfloat16", "Float16", "Float32"};
  return std::string{names[static_cast<int>(element)]} +
         (code == CodeType::kInt8 ? "Int8" : "Fp8") + std::to_string(group);
}

INSTANTIATE_TEST_SUITE_P(All, QuantiseGroups,
                         testing::Combine(testing::Values(ElementType::kBfloat16,
                                                          ElementType::kFloat16,
                                                          ElementType::kFloat32),
                                          testing::Values(CodeType::kFp8E4m3, CodeType::kInt8),
                                          testing::Values(32u, 64u, 128u)),
                         case_name);

TEST(GroupShapeRules, KnownGroupsAndTypesOnly) {
  EXPECT_TRUE(is_valid({.elements = 0}));
  EXPECT_FALSE(is_valid({.elements = 1, .group_elements = 16}));
  EXPECT_FALSE(is_valid({.elements = 1, .group_elements = 0}));
  EXPECT_FALSE(is_valid({.elements = 1, .element = static_cast<ElementType>(3)}));
  EXPECT_FALSE(is_valid({.elements = 1, .code = static_cast<CodeType>(2)}));
  EXPECT_EQ(group_count({.elements = 0}), 0u);
  EXPECT_EQ(group_count({.elements = 65}), 2u);
  EXPECT_EQ(group_count({.elements = 0xffffffffffffffff, .group_elements = 32}), 1ull << 59);
}

}  // namespace
}  // namespace lmcache::detail
